"""What one replica does with a batch: draw candidates, forward, loss, backward, update.

Where it is compiled (``training.compile``), XLA makes a few kernels of what are more than a thousand operations
otherwise, each of which a GPU waits for longer than it works at it. One replica compiles the whole step. Several
compile forward and backward: what they tell one another stands before and behind it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import tensorflow as tf

from ctr.components.trainer.metrics import score_histogram
from ctr.models.compiled import compiled, is_compiled
from ctr.models.contract import Ranker
from ctr.models.errors import CtrError
from ctr.models.impression import CANDIDATE_ITEM_ID, PADDING_ID, USER_ID
from ctr.models.loss_scale import DynamicLossScale
from ctr.models.losses import counted, pointwise_cross_entropy, training_loss
from ctr.models.optimizers import Gradient, LazyAdam
from ctr.models.samplers.base import Sampled, Sampler
from ctr.models.samplers.sampler_config import LossConfig
from ctr.models.sharded_adam import ShardedAdam

Batch: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor]"
"""This replica's part of a batch of :func:`ctr.components.trainer.input_pipeline.read_batches`."""
Shapes: TypeAlias = "tuple[tuple[int | None, ...], ...]"
"""Of the tensors of a batch, as ``tf.nest.flatten`` gives them."""
Compile = Literal["auto", "on", "off"]

_logger = logging.getLogger(__name__)


class NotCompiled(CtrError):
    """``training.compile=on``, and XLA cannot compile the step; the message says what of it."""


class ReplicaStep:
    """Called in a replica's context.

    Args:
      model: what is trained.
      sampler: draws what each training step scores, and nothing that validation does.
      loss: what is minimised.
      optimizer: built for the model's variables.
      loss_scale: of float16.
      compile: whether XLA compiles it; ``auto`` does where a GPU trains.
    """

    def __init__(
        self,
        model: Ranker,
        sampler: Sampler,
        loss: LossConfig,
        optimizer: LazyAdam | ShardedAdam,
        loss_scale: DynamicLossScale | None,
        compile: Compile = "auto",
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.loss = loss
        self.optimizer = optimizer
        self.loss_scale = loss_scale
        # The shards last, as ShardedAdam takes them.
        shards = (shard for table in model.embedding.sharded_tables for shard in table.shards)
        self.variables = [*model.trainable_variables, *shards]
        self._required = compile == "on"
        self.compiles = self._required or (compile == "auto" and bool(tf.config.list_logical_devices("GPU")))
        self._compiled_train = _compiled(self._train)
        self._compiled_backward = _compiled(self._backward)
        self._compiled_validate = _compiled(self._validate)

    def give_up_compiling(self, error: Exception) -> None:
        """From here on nothing is compiled; whoever traced a method has to trace it anew.

        Args:
          error: what the first step was answered with.

        Raises:
          NotCompiled: if the step has to be compiled.
        """
        reason = _reason(error)
        if self._required:
            raise NotCompiled(
                f"training.compile=on, and XLA cannot compile a step of {type(self.model).__name__} with "
                f"{type(self.sampler).__name__} negatives: {reason}\nSet training.compile=auto, which trains without it"
            ) from error
        _logger.warning("The training step is not compiled, and slower for it: %s", reason)
        self.compiles = False

    # AutoGraph is for the loop that calls this. Without it, as in Keras' own fit, tracing takes half as long: it would
    # rewrite each function of Keras that a model calls.
    @tf.autograph.experimental.do_not_convert
    def train(self, batch: Batch) -> tf.Tensor:
        """One step: [4] float32, the sum of the losses, what a mean is to be taken over, the impressions, and 1 where
        the gradients are too large for float16 with any scale."""
        alone = tf.distribute.get_replica_context().num_replicas_in_sync == 1
        return self._compiled_train(batch) if self.compiles and alone else self._train(batch)

    def _train(self, batch: Batch) -> tf.Tensor:
        gradients, sums = self.gradients(batch)
        hopeless = self.update(gradients)
        return tf.concat([sums, tf.cast(hopeless, tf.float32)[None]], axis=0)

    def gradients(self, batch: Batch) -> tuple[list[Gradient | None], tf.Tensor]:
        """Of the mean over the global batch, one a trainable variable and scaled for float16; and the first three
        values of :meth:`train`."""
        inputs, labels = batch
        real = inputs[CANDIDATE_ITEM_ID][:, 0] != PADDING_ID

        def score(candidates: Mapping[str, tf.Tensor]) -> tf.Tensor:
            return self.model({**inputs, **candidates}, training=False).logits

        candidates = self.sampler.sample(inputs, labels, inputs[USER_ID][:, 0], score)
        counts = tf.stack([counted(self.loss, candidates), tf.reduce_sum(tf.cast(real, tf.float32))])
        # The mean is over what is real in the global batch: the last batch of an epoch is partly padding.
        totals = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, counts)
        backward = self._compiled_backward if self.compiles and not is_compiled() else self._backward
        gradients, loss = backward(inputs, candidates, tf.maximum(totals, 1.0))
        return gradients, tf.concat([loss[None], counts], axis=0)

    def _backward(
        self, inputs: Mapping[str, tf.Tensor], candidates: Sampled, totals: tf.Tensor
    ) -> tuple[list[Gradient | None], tf.Tensor]:
        with tf.GradientTape() as tape:
            output = self.model({**inputs, **candidates.features}, training=True)
            loss, _ = training_loss(self.loss, output.logits, candidates)
            objective = loss / totals[0]
            for auxiliary in output.auxiliary_losses.values():
                objective += tf.reduce_sum(auxiliary) / totals[1]
            if self.loss_scale is not None:
                objective = self.loss_scale.scaled(objective)
        return tape.gradient(objective, self.variables), loss

    def update(self, gradients: Sequence[Gradient | None]) -> tf.Tensor:
        """Applies the gradients of all replicas, each giving its own; scalar bool, see :meth:`train`."""
        if self.loss_scale is not None:
            return self.loss_scale.apply(self.optimizer, gradients, self.variables)
        self.optimizer.apply(gradients, self.variables)
        return tf.constant(False)

    def validate(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A histogram of the scores, the sum of the pointwise loss over pairs, and their number."""
        return (self._compiled_validate if self.compiles else self._validate)(batch)

    def _validate(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        inputs, labels = batch
        real = inputs[CANDIDATE_ITEM_ID] != PADDING_ID
        logits = self.model(inputs, training=False).logits
        loss, pairs = pointwise_cross_entropy(logits, labels, real)
        return score_histogram(logits, labels, real), loss, pairs


def of_shapes(batch: Batch, shapes: Shapes) -> Batch:
    """The batch, whose tensors know that they are of these shapes."""
    tensors = [tf.ensure_shape(x, shape) for x, shape in zip(tf.nest.flatten(batch), shapes, strict=True)]
    known: Batch = tf.nest.pack_sequence_as(batch, tensors)
    return known


def _compiled(function: Callable[..., Any]) -> Any:
    """A ``tf.function`` that XLA compiles."""

    def traced(*arguments: Any) -> Any:
        with compiled():
            return function(*arguments)

    return tf.function(traced, jit_compile=True, autograph=False)


def _reason(error: Exception) -> str:
    """The line that tells. Keras puts a call's arguments behind it, TensorFlow where in the code it was."""
    message = re.sub(r"\x1b\[\d*m", "", str(error)).partition("Arguments received by")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [type(error).__name__]
    telling = [line for line in lines if re.search("unsupported operations|compile-time constant|not compilable", line)]
    return (telling or lines[-1:])[0][:500]
