"""Traces some steps for TensorBoard, and measures what the parts of one take."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import tensorflow as tf

from ctr.components.step_profile import StepProfile
from ctr.components.trainer.fit import TrainingLoop
from ctr.components.trainer.step import Shapes, of_shapes
from ctr.models.compiled import compiled
from ctr.models.sharded_adam import ShardedAdam

_WARM_UP: Final = 3
"""Calls of each graph before anything is measured: the first traces it, and a second may still allocate."""

_logger = logging.getLogger(__name__)


def profile(trainer: TrainingLoop, batches: tf.data.Dataset, steps: int, folder: str) -> StepProfile:
    """Trains some steps under TensorFlow's profiler, times their parts, and puts all that training changes back.

    So a profiled training gives the weights that it would have given otherwise. Forward, forward with backward and
    the whole step are graphs that run one after another on the same batches; the device is waited for after each.
    They are called one by one, as the steps of a training are not: on a fast device each part has some tenths of a
    millisecond of that in it. Several replicas that are compiled compile forward and backward together: the first
    of these parts has both in it. So has that of a step in parts (``training.accumulate_steps``), but for the backward
    pass of the last part: a part waits for the gradients of the one before.

    Args:
      trainer: before its training, or between two epochs.
      batches: of the training, as it would read them; from the start again where they end.
      steps: how many.
      folder: gets the trace, as TensorBoard's profile plugin reads it.
    """
    iterator = iter(trainer.strategy.experimental_distribute_dataset(batches.repeat()))
    shapes = trainer.shapes_of(batches)
    with _put_back(trainer):
        # After this it is known whether a step can be compiled.
        trainer.train_epoch(batches.take(1))
        parts = _parts(trainer, shapes)
        first = next(iterator)
        for part in parts * _WARM_UP:
            _seconds(part, first)
        waits, seen = [], []
        tf.profiler.experimental.start(folder)
        try:
            for number in range(steps):
                with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                    start = time.perf_counter()
                    seen.append(next(iterator))
                    waits.append(time.perf_counter() - start)
                    _seconds(parts[-1], seen[-1])
        finally:
            tf.profiler.experimental.stop()
        taken = [[_seconds(part, batch) for part in parts] for batch in seen]
    # Of one batch, and so of neighbours in time: a machine that is busy for a while is busy for all parts.
    forward, backward, update = np.median(np.diff(taken, axis=1, prepend=0), axis=0).clip(0) * 1000
    found = StepProfile(
        steps=steps,
        batch_size=int(batches.element_spec[1].shape[0]),
        device=_device(trainer.strategy),
        input_wait=float(np.median(waits)) * 1000,
        forward=forward,
        backward=backward,
        update=update,
    )
    _logger.info("%s", found.words)
    return found


def _parts(trainer: TrainingLoop, shapes: Shapes) -> list[Callable[[Any], Any]]:
    """Forward; forward and backward; a whole step: each a graph, compiled where the step is."""
    step, replicas = trainer.step, trainer.strategy.num_replicas_in_sync
    # What is not returned, and nothing waits for, is not computed, which leaves the gradients out of the first one.
    of_replica: list[Callable[[Any], Any]] = [lambda batch: step.gradients(batch)[1], step.gradients]
    if step.compiles and replicas == 1:
        of_replica = [_compiled(part) for part in of_replica]

    def graph(part: Callable[[Any], Any]) -> Callable[[Any], Any]:
        whole: Callable[[Any], Any] = tf.function(
            lambda batch: trainer.strategy.run(lambda its: part(of_shapes(its, shapes)), args=(batch,)),
            autograph=False,
        )
        return whole

    return [graph(part) for part in (*of_replica, step.train)]


def _compiled(part: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def traced(batch: Any) -> Any:
        with compiled():
            return part(batch)

    program: Callable[[Any], Any] = tf.function(traced, jit_compile=True, autograph=False)
    return program


def _seconds(part: Callable[[Any], Any], batch: Any) -> float:
    start = time.perf_counter()
    part(batch)
    tf.test.experimental.sync_devices()
    return time.perf_counter() - start


@contextlib.contextmanager
def _put_back(trainer: TrainingLoop) -> Iterator[None]:
    """Leaves weights, moments, draws, the sampler's arrays and the loss scale as they were."""
    changed = [*trainer.model.variables, *trainer.optimizer.variables, *trainer.sampler.variables]
    changed += trainer.shards
    if isinstance(trainer.optimizer, ShardedAdam):
        changed += [moment for both in trainer.optimizer.moments for moment in both]
    changed += trainer.loss_scale.variables if trainer.loss_scale is not None else []
    before = [np.array(variable) for variable in changed]
    try:
        yield
    finally:
        for variable, value in zip(changed, before, strict=True):
            variable.assign(value)


def _device(strategy: tf.distribute.Strategy) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"{strategy.num_replicas_in_sync} CPU devices" if strategy.num_replicas_in_sync > 1 else "CPU"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"{strategy.num_replicas_in_sync} {name}" if strategy.num_replicas_in_sync > 1 else name
