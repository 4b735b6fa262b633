"""Which devices train."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import tensorflow as tf

from ctr.components.trainer.cluster import Task, several_workers
from ctr.models.errors import CtrError
from ctr.models.impression import CANDIDATE_INPUTS, USER_ID

JOIN_SECONDS: Final = 1200.0
"""For all workers to have started: nodes may have to be made, and images pulled."""


class WorkerLost(CtrError):
    """Another worker of the training has ended or cannot be reached, or did not come."""


def files_of_worker(files: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[list[str], bool]:
    """Those that this worker reads, and whether the others read the rest.

    With as many files as workers, or more, each has its own. With fewer, all read all, and each takes its part of each
    batch.
    """
    task = Task.of(environment)
    shared = 1 < task.workers <= len(files)
    return (sorted(files)[task.number :: task.workers] if shared else list(files)), shared


def all_for_this_worker(batches: tf.data.Dataset, candidates: int) -> tf.data.Dataset:
    """Batches that no other worker has: a strategy takes all of them, in this worker's share of the batch size.

    Args:
      batches: of :func:`ctr.components.trainer.input_pipeline.read_batches`.
      candidates: of each impression. A worker that comes to its end before the others is given batches of no rows until
        they do, and TensorFlow makes 0 of every other size that is not known, too.
    """

    def sized(inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        widths = dict.fromkeys(CANDIDATE_INPUTS, candidates) | {USER_ID: 1}
        known = {name: tf.ensure_shape(inputs[name], [None, width]) for name, width in widths.items()}
        return {**inputs, **known}, tf.ensure_shape(labels, [None, candidates])

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.map(sized).with_options(options)


@contextlib.contextmanager
def losing_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says so where TensorFlow fails because another worker does.

    Raises:
      WorkerLost: within half a minute: TensorFlow's coordination service misses a worker after 10 s, and ends what
        waits for it.
    """
    try:
        yield
    except _OF_A_LOST_WORKER as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        raise WorkerLost(
            "another worker of this training has ended or cannot be reached; its own log says why. Start all of them "
            f"again: training goes on from the last checkpoint. TensorFlow says: {_cause(error)}"
        ) from error


def _cause(error: tf.errors.OpError) -> str:
    lines: list[str] = [line.strip() for line in error.message.splitlines()]
    return next((line for line in lines if "abort" in line), lines[0])


_OF_A_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@contextlib.contextmanager
def _joined_within(seconds: float) -> Iterator[None]:
    """Ends the process where the block takes longer: TensorFlow waits for workers without a bound, and nothing can
    raise there."""

    def give_up() -> None:
        cluster = os.environ.get("TF_CONFIG")
        print(f"error: not all workers came within {seconds:g} s, by TF_CONFIG={cluster}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def training_strategy(cpu_replicas: int = 1) -> tf.distribute.Strategy:
    """The cheapest one for whatever is there.

    ``TF_CONFIG`` naming several workers gives MultiWorkerMirroredStrategy; several GPUs give MirroredStrategy over
    all of them, one GPU OneDeviceStrategy, which mirrors nothing and still copies batches to the GPU ahead of time; a
    CPU alone gives MirroredStrategy over ``cpu_replicas`` logical devices, or the default strategy for one.

    Args:
      cpu_replicas: logical CPU devices wanted where there is no GPU.

    Raises:
      RuntimeError: if TensorFlow has started with fewer logical CPU devices than asked for.
    """
    if several_workers():
        with _joined_within(JOIN_SECONDS):
            return tf.distribute.MultiWorkerMirroredStrategy()
    # Those that may be used, without starting TensorFlow, after which a CPU cannot be divided any more.
    if tf.config.get_visible_devices("GPU"):
        gpus = tf.config.list_logical_devices("GPU")
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.OneDeviceStrategy(gpus[0].name)
    if cpu_replicas == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_replicas)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < cpu_replicas:
            raise RuntimeError(
                f"training.cpu_replicas: TensorFlow has already started with fewer than {cpu_replicas} logical CPU "
                "devices; ask for them before anything else uses TensorFlow"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(cpu_replicas)])
