"""The training loop.

A loop of our own over ``strategy.run`` with Keras 3 layers, rather than ``Model.fit``: see "Which Keras"
in docs/models.md for the experiment that decided it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ctr.components.settings import TrainingConfig
from ctr.components.trainer.metrics import BINS, auc_of_histogram
from ctr.components.trainer.step import ReplicaStep
from ctr.models.contract import Ranker
from ctr.models.errors import CtrError, DataError
from ctr.models.loss_scale import DynamicLossScale
from ctr.models.optimizers import LazyAdam
from ctr.models.samplers.base import Sampler
from ctr.models.samplers.sampler_config import LossConfig

if TYPE_CHECKING:
    from ctr.components.trainer.checkpoint import EpochCheckpoint

_logger = logging.getLogger(__name__)

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
    """

    def __init__(
        self,
        model: Ranker,
        strategy: tf.distribute.Strategy,
        sampler: Sampler,
        loss: LossConfig,
        learning_rate: float,
        row_decay: float = 0.0,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.sampler = sampler
        with strategy.scope():
            self.optimizer = LazyAdam(learning_rate, row_decay)
            self.optimizer.build(model.trainable_variables)
            self.loss_scale = DynamicLossScale() if model.compute_dtype == "float16" else None
        self.step = ReplicaStep(model, sampler, loss, self.optimizer, self.loss_scale)
        self._train_steps = tf.function(self._train_steps_eagerly)
        self._validation_step = tf.function(self._validation_step_eagerly, reduce_retracing=True, autograph=False)

    def train_epoch(self, batches: tf.distribute.DistributedDataset, bar: tqdm[Any] | None = None) -> tuple[float, int]:
        """One pass over the data; gives its mean loss and the number of impressions.

        Raises:
          TrainingDiverged: as soon as the loss is not finite, or float16 cannot hold the gradients.
        """
        iterator = iter(batches)
        loss_sum, count, impressions = 0.0, 0.0, 0
        more = True
        while more:
            sums, more_tensor = self._train_steps(iterator)
            more = bool(more_tensor)
            loss, counted, impression_count, hopeless = (float(value) for value in sums)
            loss_sum, count, impressions = loss_sum + loss, count + counted, impressions + int(impression_count)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"the training loss is {loss} after {impressions} impressions; lower training.learning_rate"
                )
            if hopeless:
                raise TrainingDiverged(
                    f"after {impressions} impressions the gradients are too large for float16, however small the loss "
                    "scale; choose training.precision=mixed_bfloat16 or float32"
                )
            if bar is not None:
                bar.update(int(impression_count))
                bar.set_postfix(loss=f"{loss_sum / max(count, 1):.4f}", refresh=False)
        return loss_sum / max(count, 1), impressions

    def evaluate(self, batches: tf.distribute.DistributedDataset) -> tuple[float, float]:
        """Mean loss and AUC over all pairs of the batches; NaN as the AUC where a class is missing."""
        histogram, loss_sum, pairs = np.zeros([2, BINS]), 0.0, 0.0
        for batch in batches:
            counts, loss, pair_count = self._validation_step(batch)
            histogram += counts.numpy()
            loss_sum, pairs = loss_sum + float(loss), pairs + float(pair_count)
        return loss_sum / max(pairs, 1), auc_of_histogram(histogram)

    def _train_steps_eagerly(self, iterator: tf.distribute.DistributedIterator) -> tuple[tf.Tensor, tf.Tensor]:
        sums = tf.zeros([4])
        more = tf.constant(True)
        for _ in tf.range(_STEPS_PER_CALL):
            batch = iterator.get_next_as_optional()
            more = batch.has_value()
            if not more:
                break
            replicas = self.strategy.run(self.step.train, args=(batch.get_value(),))
            sums += self.strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None)
        return sums, more

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

    Returns:
      All epochs, those before a stop included.

    Raises:
      TrainingDiverged: if the loss is not finite, or float16 cannot hold the gradients.
      DataError: if the validation AUC is not a number, since nothing could be chosen by it.
    """
    distributed_validation = trainer.strategy.experimental_distribute_dataset(validation)
    epochs = checkpoint.restore() if checkpoint is not None else []
    for epoch in epochs:
        on_epoch(epoch)
    best = max(epochs, key=lambda epoch: epoch.validation_auc, default=None)
    best_weights = None
    impressions: int | None = None
    for number in range(len(epochs) + 1, config.epochs + 1):
        if best is not None and len(epochs) - best.number >= config.early_stopping_patience:
            break
        batches = trainer.strategy.experimental_distribute_dataset(train(number))
        start = time.perf_counter()
        # disable=None: no bar without a terminal.
        with tqdm(total=impressions, desc=f"epoch {number}/{config.epochs}", unit=" imp", disable=None) as bar:
            train_loss, impressions = trainer.train_epoch(batches, bar)
        seconds = time.perf_counter() - start
        loss, auc = trainer.evaluate(distributed_validation)
        if math.isnan(auc):
            raise DataError("the validation AUC is undefined: the validation split needs positives and negatives")
        epochs.append(Epoch(number, train_loss, loss, auc, seconds, impressions / seconds))
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
            best, best_weights = epochs[-1], trainer.model.get_weights()
        if checkpoint is not None:
            checkpoint.save(epochs, is_best)
    if best is not None:
        _logger.info("The weights of epoch %d are kept, the best of %d", best.number, len(epochs))
    if best_weights is not None:
        trainer.model.set_weights(best_weights)
    elif checkpoint is not None:
        checkpoint.restore_best()
    return epochs
