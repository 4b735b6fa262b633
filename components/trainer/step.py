"""What one replica does with a batch: draw candidates, forward, loss, backward, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf

from ctr.components.trainer.metrics import score_histogram
from ctr.models.contract import Ranker
from ctr.models.impression import CANDIDATE_ITEM_ID, PADDING_ID, USER_ID
from ctr.models.loss_scale import DynamicLossScale, Gradient
from ctr.models.losses import pointwise_cross_entropy, training_loss
from ctr.models.optimizers import LazyAdam
from ctr.models.samplers.base import Sampler
from ctr.models.samplers.sampler_config import LossConfig
from ctr.models.sharded_adam import ShardedAdam

Batch: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor]"
"""This replica's part of a batch of :func:`ctr.components.trainer.input_pipeline.read_batches`."""


class ReplicaStep:
    """Called in a replica's context.

    Args:
      model: what is trained.
      sampler: draws what each training step scores, and nothing that validation does.
      loss: what is minimised.
      optimizer: built for the model's variables.
      loss_scale: of float16.
    """

    def __init__(
        self,
        model: Ranker,
        sampler: Sampler,
        loss: LossConfig,
        optimizer: LazyAdam | ShardedAdam,
        loss_scale: DynamicLossScale | None,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.loss = loss
        self.optimizer = optimizer
        self.loss_scale = loss_scale
        # The shards last, as ShardedAdam takes them.
        shards = (shard for table in model.embedding.sharded_tables for shard in table.shards)
        self.variables = [*model.trainable_variables, *shards]

    # AutoGraph is for the loop that calls this. Without it, as in Keras' own fit, tracing takes half as long: it would
    # rewrite each function of Keras that a model calls.
    @tf.autograph.experimental.do_not_convert
    def train(self, batch: Batch) -> tf.Tensor:
        """One step: [4] float32, the sum of the losses, what a mean is to be taken over, the impressions, and 1 where
        the gradients are too large for float16 with any scale."""
        gradients, sums = self.gradients(batch)
        hopeless = self.update(gradients)
        return tf.concat([sums, tf.cast(hopeless, tf.float32)[None]], axis=0)

    def gradients(self, batch: Batch) -> tuple[list[Gradient | None], tf.Tensor]:
        """Of the mean over the global batch, one a trainable variable and scaled for float16; and the first three
        values of :meth:`train`."""
        inputs, labels = batch
        real = inputs[CANDIDATE_ITEM_ID][:, 0] != PADDING_ID
        impressions = tf.reduce_sum(tf.cast(real, tf.float32))

        def score(candidates: Mapping[str, tf.Tensor]) -> tf.Tensor:
            return self.model({**inputs, **candidates}, training=False).logits

        candidates = self.sampler.sample(inputs, labels, inputs[USER_ID][:, 0], score)
        with tf.GradientTape() as tape:
            output = self.model({**inputs, **candidates.features}, training=True)
            loss, count = training_loss(self.loss, output.logits, candidates)
            # The mean is over what is real in the global batch: the last batch of an epoch is partly padding.
            context = tf.distribute.get_replica_context()
            global_count, global_impressions = tf.unstack(
                context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([count, impressions]))
            )
            objective = loss / tf.maximum(global_count, 1.0)
            for auxiliary in output.auxiliary_losses.values():
                objective += tf.reduce_sum(auxiliary) / tf.maximum(global_impressions, 1.0)
            if self.loss_scale is not None:
                objective = self.loss_scale.scaled(objective)
        return tape.gradient(objective, self.variables), tf.stack([loss, count, impressions])

    def update(self, gradients: Sequence[Gradient | None]) -> tf.Tensor:
        """Applies the gradients of all replicas, each giving its own; scalar bool, see :meth:`train`."""
        if self.loss_scale is not None:
            return self.loss_scale.apply(self.optimizer, gradients, self.variables)
        self.optimizer.apply(gradients, self.variables)
        return tf.constant(False)

    def validate(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A histogram of the scores, the sum of the pointwise loss over pairs, and their number."""
        inputs, labels = batch
        real = inputs[CANDIDATE_ITEM_ID] != PADDING_ID
        logits = self.model(inputs, training=False).logits
        loss, pairs = pointwise_cross_entropy(logits, labels, real)
        return score_histogram(logits, labels, real), loss, pairs
