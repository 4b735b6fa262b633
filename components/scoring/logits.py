"""What a trained model says of impressions, outside of training and serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from ctr.models.arrays import Array
from ctr.models.contract import Ranker
from ctr.models.impression import MODEL_INPUTS


def scorer(model: Ranker, spec: Mapping[str, tf.TensorSpec] | None = None) -> Callable[[dict[str, tf.Tensor]], Array]:
    """One graph: :data:`MODEL_INPUTS`, [B, T] and [B, N] int64 -> logits [B, N] float32; of any B, T and N, or of those
    of ``spec``."""
    spec = spec or {name: tf.TensorSpec([None, None], tf.int64, name) for name in MODEL_INPUTS}

    @tf.function(input_signature=[spec], autograph=False)
    def logits(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return model(inputs, training=False).logits

    return lambda inputs: logits(inputs).numpy()
