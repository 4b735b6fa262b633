"""The training loop.

A loop of our own over ``strategy.run`` with Keras 3 layers, rather than ``Model.fit``: docs/measurements/keras.md has
the experiment that decided it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ctr.components.settings import TrainingConfig
from ctr.components.trainer.accumulation import AccumulatingStep
from ctr.components.trainer.metrics import BINS, auc_of_histogram
from ctr.components.trainer.step import Batch, Compile, ReplicaStep, Shapes, of_shapes
from ctr.models.arrays import Array
from ctr.models.contract import Ranker
from ctr.models.errors import CtrError, DataError
from ctr.models.loss_scale import DynamicLossScale
from ctr.models.optimizers import LazyAdam
from ctr.models.samplers.base import Sampler
from ctr.models.samplers.sampler_config import LossConfig
from ctr.models.sharded_adam import ShardedAdam

if TYPE_CHECKING:
    from ctr.components.trainer.checkpoint import EpochCheckpoint

_logger = logging.getLogger(__name__)

_OF_NO_COMPILER: Final = (
    *(tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.ResourceExhaustedError),
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError),
)
"""Errors of data, of memory, and of a worker that is lost."""

_STEPS_PER_CALL: Final = 16
"""Steps run inside one graph call; more amortises the call, fewer moves the progress bar more often."""


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch gave; losses are in nats."""

    number: int
    train_loss: float
    """Mean over pairs (pointwise) or impressions (softmax)."""
    validation_loss: float
    """Mean over pairs of the pointwise loss, whatever is trained on."""
    validation_auc: float
    seconds: float
    impressions_per_second: float
    """With what validation within the epoch took."""
    auc_within: list[float] = dataclasses.field(default_factory=list)
    """Validation AUC after each part of the epoch but the last, see ``training.auc_fractions``."""


@dataclasses.dataclass
class Position:
    """How far an epoch is, and what it has given so far."""

    steps: int = 0
    loss_sum: float = 0.0
    count: float = 0.0
    """What the mean of the loss is taken over."""
    impressions: int = 0
    seconds: float = 0.0
    auc_within: list[float] = dataclasses.field(default_factory=list)
    """As of :class:`Epoch`."""

    @property
    def mean_loss(self) -> float:
        """Of what was passed."""
        return self.loss_sum / max(self.count, 1)


class TrainingDiverged(CtrError):
    """The loss is not finite, or the gradients never are."""


class TrainingLoop:
    """Trains a model that was created in ``strategy.scope()``.

    Args:
      model: the model.
      strategy: over its replicas.
      sampler: created in the scope, too; draws what each training step scores, and nothing that validation does.
      loss: what is minimised.
      learning_rate: of the optimizer.
      row_decay: see :class:`ctr.models.optimizers.LazyAdam`.
      accumulate_steps: parts that a batch is passed through the model in.
      compile: see :class:`ctr.components.trainer.step.ReplicaStep`.
    """

    def __init__(
        self,
        model: Ranker,
        strategy: tf.distribute.Strategy,
        sampler: Sampler,
        loss: LossConfig,
        learning_rate: float,
        row_decay: float = 0.0,
        accumulate_steps: int = 1,
        compile: Compile = "auto",
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.sampler = sampler
        with strategy.scope():
            optimizer = LazyAdam(learning_rate, row_decay)
            optimizer.build(model.trainable_variables)
            self.loss_scale = DynamicLossScale() if model.compute_dtype == "float16" else None
        tables = model.embedding.sharded_tables
        self.shards = [shard for table in tables for shard in table.shards]
        self.optimizer = ShardedAdam(optimizer, self.shards) if tables else optimizer
        # What devices tell one another at a look-up does not compile.
        of_step = (model, sampler, loss, self.optimizer, self.loss_scale, "off" if tables else compile)
        self.step = ReplicaStep(*of_step) if accumulate_steps == 1 else AccumulatingStep(accumulate_steps, *of_step)
        self._has_run = False
        self._trace()

    def _trace(self) -> None:
        self._train_steps = tf.function(self._train_steps_eagerly)
        self._skip = tf.function(self._skip_eagerly)
        self._validation_step = tf.function(self._validation_step_eagerly, reduce_retracing=True, autograph=False)

    def _stop_compiling(self, error: Exception) -> None:
        self.step.give_up_compiling(error)
        self._trace()

    def train_epoch(
        self,
        batches: tf.data.Dataset,
        bar: tqdm[Any] | None = None,
        position: Position | None = None,
        on_call: Callable[[], None] = lambda: None,
        pauses: Sequence[int] = (),
        at_pause: Callable[[], None] = lambda: None,
    ) -> tuple[float, int]:
        """One pass over the data, or what is left of it; gives the epoch's mean loss and number of impressions.

        Args:
          batches: of the whole epoch, in one order however often they are passed over.
          bar: moved along.
          position: where to begin, moved along, too.
          on_call: called whenever ``position`` was moved, as the model stands there.
          pauses: numbers of steps, not falling, after each of which ``at_pause`` is called; they change nothing else.
          at_pause: what is to be done there.

        Raises:
          TrainingDiverged: as soon as the loss is not finite, or float16 cannot hold the gradients.
        """
        position = position or Position()
        start = time.perf_counter() - position.seconds
        shapes = self.shapes_of(batches)
        iterator = self._begun(batches, position)
        # Several replicas draw before what is compiled: a step that fails there has been counted.
        may_fail = self.step.compiles and not self._has_run
        drawn = [(variable, variable.numpy()) for variable in self.sampler.variables] if may_fail else []
        more, waiting = True, [step for step in pauses if step > position.steps]
        while more:
            limit = min(_STEPS_PER_CALL, waiting[0] - position.steps) if waiting else _STEPS_PER_CALL
            try:
                sums, steps, more_tensor = self._train_steps(iterator, tf.constant(limit), shapes)
            except Exception as error:
                if self._has_run or not self.step.compiles or isinstance(error, _OF_NO_COMPILER):
                    raise
                self._stop_compiling(error)
                for variable, value in drawn:
                    variable.assign(value)
                iterator = self._begun(batches, position)
                continue
            self._has_run = True
            more = bool(more_tensor)
            loss, counted, impression_count, hopeless = (float(value) for value in sums)
            position.steps += int(steps)
            position.loss_sum += loss
            position.count += counted
            position.impressions += int(impression_count)
            position.seconds = time.perf_counter() - start
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"the training loss is {loss} after {position.impressions} impressions; lower "
                    "training.learning_rate"
                )
            if hopeless:
                raise TrainingDiverged(
                    f"after {position.impressions} impressions the gradients are too large for float16, however small "
                    "the loss scale; choose training.precision=mixed_bfloat16 or float32"
                )
            if bar is not None:
                bar.update(int(impression_count))
                bar.set_postfix(loss=f"{position.mean_loss:.4f}", refresh=False)
            while more and waiting and waiting[0] == position.steps:
                waiting.pop(0)
                at_pause()
            if more:
                on_call()
        return position.mean_loss, position.impressions

    def _begun(self, batches: tf.data.Dataset, position: Position) -> tf.distribute.DistributedIterator:
        iterator = iter(self.strategy.experimental_distribute_dataset(batches))
        if position.steps:
            self._skip(iterator, tf.constant(position.steps))
        return iterator

    def shapes_of(self, batches: tf.data.Dataset) -> Shapes:
        """Of a replica's part of a batch: a strategy forgets how many impressions there are, and what knows it compiles
        to less."""
        replicas = self.strategy.num_replicas_in_sync
        several_workers = isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)

        def of_replica(shape: tf.TensorShape) -> tuple[int | None, ...]:
            rows, *rest = shape.as_list()
            even = rows is not None and rows % replicas == 0 and not several_workers
            return (rows // replicas if even else None, *rest)

        return tuple(of_replica(spec.shape) for spec in tf.nest.flatten(batches.element_spec))

    def weights(self) -> list[Array]:
        """Of the model, for :meth:`set_weights`; in the host's memory."""
        return [*self.model.get_weights(), *(shard.numpy() for shard in self.shards)]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """What :meth:`weights` gave."""
        of_model = len(weights) - len(self.shards)
        self.model.set_weights(weights[:of_model])
        for shard, value in zip(self.shards, weights[of_model:], strict=True):
            shard.assign(value)

    def evaluate(self, batches: tf.data.Dataset) -> tuple[float, float]:
        """Mean loss and AUC over all pairs of the batches; NaN as the AUC where a class is missing."""
        histogram, loss_sum, pairs = np.zeros([2, BINS]), 0.0, 0.0
        for batch in self.strategy.experimental_distribute_dataset(batches):
            try:
                counts, loss, pair_count = self._validation_step(batch)
            except Exception as error:
                if not self.step.compiles or isinstance(error, _OF_NO_COMPILER):
                    raise
                self._stop_compiling(error)
                counts, loss, pair_count = self._validation_step(batch)
            histogram += counts.numpy()
            loss_sum, pairs = loss_sum + float(loss), pairs + float(pair_count)
        return loss_sum / max(pairs, 1), auc_of_histogram(histogram)

    def _train_steps_eagerly(
        self, iterator: tf.distribute.DistributedIterator, limit: tf.Tensor, shapes: Shapes
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def step(batch: Batch) -> tf.Tensor:
            return self.step.train(of_shapes(batch, shapes))

        sums = tf.zeros([4])
        steps = tf.constant(0)
        more = tf.constant(True)
        for _ in tf.range(limit):
            batch = iterator.get_next_as_optional()
            more = batch.has_value()
            if not more:
                break
            replicas = self.strategy.run(step, args=(batch.get_value(),))
            sums += self.strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None)
            steps += 1
        return sums, steps, more

    def _skip_eagerly(self, iterator: tf.distribute.DistributedIterator, steps: tf.Tensor) -> None:
        for _ in tf.range(steps):
            iterator.get_next_as_optional()

    def _validation_step_eagerly(
        self, batch: tuple[dict[str, tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        replicas = self.strategy.run(self.step.validate, args=(batch,))
        counts, loss, pairs = (self.strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in replicas)
        return counts, loss, pairs


def fit(
    trainer: TrainingLoop,
    train: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset,
    config: TrainingConfig,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: EpochCheckpoint | None = None,
    train_impressions: int = 0,
) -> list[Epoch]:
    """Trains until ``epochs`` or until the validation AUC has not risen for ``early_stopping_patience`` epochs.

    The model is left with the weights of its best epoch.

    Args:
      trainer: holds the model.
      train: number of an epoch, from 1, -> its global batches of (inputs, [B, N] labels).
      validation: likewise, in a fixed order; later than the train split and earlier than the eval split.
      config: the training section.
      on_epoch: called after each epoch, at once for those before a stop.
      checkpoint: where training goes on if it was stopped, and what it saves to.
      train_impressions: of an epoch, which ``auc_fractions`` are of.

    Returns:
      All epochs, those before a stop included.

    Raises:
      TrainingDiverged: if the loss is not finite, or float16 cannot hold the gradients.
      DataError: if the validation AUC is not a number, since nothing could be chosen by it.
    """
    epochs, position = checkpoint.restore() if checkpoint is not None else ([], Position())
    for epoch in epochs:
        on_epoch(epoch)
    best = max(epochs, key=lambda epoch: epoch.validation_auc, default=None)
    best_weights = None
    impressions: int | None = None
    pauses = _pauses(-(-train_impressions // config.batch_size), config.auc_fractions)
    for number in range(len(epochs) + 1, config.epochs + 1):
        if best is not None and len(epochs) - best.number >= config.early_stopping_patience:
            break
        batches = train(number)
        validate = functools.partial(_validate_within, trainer, validation, position, number, config)
        # disable=None: no bar without a terminal.
        with tqdm(
            total=impressions,
            initial=position.impressions,
            desc=f"epoch {number}/{config.epochs}",
            unit=" imp",
            disable=None,
        ) as bar:
            save = functools.partial(checkpoint.save_within, epochs, position) if checkpoint else lambda: None
            save_at_times = _Every(config.checkpoint_minutes, save)
            train_loss, impressions = trainer.train_epoch(batches, bar, position, save_at_times, pauses, validate)
        loss, auc = trainer.evaluate(validation)
        if math.isnan(auc):
            raise DataError("the validation AUC is undefined: the validation split needs positives and negatives")
        rate = impressions / position.seconds
        epochs.append(Epoch(number, train_loss, loss, auc, position.seconds, rate, position.auc_within))
        position = Position()
        on_epoch(epochs[-1])
        _logger.info(
            "Epoch %d of %d: training loss %.4f, validation loss %.4f, validation AUC %.4f, %.0f impressions/s",
            number,
            config.epochs,
            train_loss,
            loss,
            auc,
            epochs[-1].impressions_per_second,
        )
        is_best = best is None or auc > best.validation_auc
        if is_best:
            best, best_weights = epochs[-1], trainer.weights()
        if checkpoint is not None:
            checkpoint.save(epochs, is_best)
    if best is not None:
        _logger.info("The weights of epoch %d are kept, the best of %d", best.number, len(epochs))
    if best_weights is not None:
        trainer.set_weights(best_weights)
    elif checkpoint is not None:
        checkpoint.restore_best()
    return epochs


def _pauses(steps: int, parts: int) -> list[int]:
    """Steps after which each part but the last is over; of an epoch shorter than that, some of them at once."""
    return [max(1, steps * part // parts) for part in range(1, parts)] if steps else []


def _validate_within(
    trainer: TrainingLoop,
    validation: tf.data.Dataset,
    position: Position,
    number: int,
    config: TrainingConfig,
) -> None:
    _, auc = trainer.evaluate(validation)
    position.auc_within.append(auc)
    done = len(position.auc_within)
    _logger.info("Epoch %d, after %d/%d of it: validation AUC %.4f", number, done, config.auc_fractions, auc)


class _Every:
    """Calls a function when so many minutes are over, and again when they are over again; null: never."""

    def __init__(self, minutes: float | None, call: Callable[[], None]) -> None:
        self._minutes = minutes
        self._call = call
        self._last = time.monotonic()

    def __call__(self) -> None:
        if self._minutes is not None and time.monotonic() - self._last >= self._minutes * 60:
            self._call()
            self._last = time.monotonic()
