"""Attention over the history."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.compiled import is_on_cpu
from ctr.models.layers.activations import make_activation
from ctr.models.layers.dense import Dense, rows_matmul
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.mlp import MLP
from ctr.models.model_config import ModelConfig
from ctr.models.registry import DINConfig


class LocalActivationUnit(keras.layers.Layer):
    """DIN's weight of each event for each candidate, and the sum they give (arXiv 1706.06978, eq. 3 and figure 2).

    a_t = MLP([e_t, v, e_t - v, e_t * v, c_t]), u = sum_t m_t * a_t * e_t, without softmax, so that the norm
    of u keeps the intensity of interest; an empty history gives u = 0. c_t (the event's behaviour and age)
    is not in the paper. The first layer is linear in its input, so its matrix is applied as
    (W1 + W3) e + (W2 - W3) v + W4 (e * v) + W5 c: the history's part is computed once for all candidates.
    """

    def __init__(self, config: ModelConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = config.section(DINConfig).attention_units
        self.first_activation = make_activation(config)
        self.rest = MLP(self.units[1:], config)
        self.output_weight = Dense(1)

    def build(self, width: int, context_width: int) -> None:
        """Creates the weights for events of ``width`` and contexts of ``context_width`` channels."""
        units = self.units
        self.kernel = self.add_weight(
            shape=(4 * width + context_width, units[0]), initializer="glorot_normal", name="kernel"
        )
        self.bias = self.add_weight(shape=(units[0],), initializer="zeros", name="bias")
        self.first_activation.build((None, units[0]))
        self.rest.build((None, units[0]))
        self.output_weight.build((None, units[-1]))
        self.width, self.context_width = width, context_width
        self.built = True

    def weights_of(self, embedded: EmbeddedImpression, training: bool = False) -> tf.Tensor:
        """[B, N, T] float: a_t of each candidate, 0 outside the history."""
        if training and is_on_cpu():
            return self._weights_of_real(embedded)
        events, candidates = embedded.events, embedded.candidates
        history_part, target_part, of_product = self._parts(events, embedded.event_context, candidates)
        product_part = rows_matmul(tf.expand_dims(events, 1) * tf.expand_dims(candidates, 2), of_product)
        hidden = product_part + tf.expand_dims(history_part, 1) + tf.expand_dims(target_part, 2)
        mask = embedded.event_mask[:, None, :] & embedded.candidate_mask[:, :, None]
        return self._weights(hidden, mask, training)

    def _weights_of_real(self, embedded: EmbeddedImpression) -> tf.Tensor:
        """The same in training, computed for the R real events of the batch: padding costs a CPU what they cost."""
        places = tf.where(embedded.event_mask)
        impression = places[:, 0]
        events, context = (tf.boolean_mask(x, embedded.event_mask) for x in (embedded.events, embedded.event_context))
        history_part, target_part, of_product = self._parts(events, context, embedded.candidates)
        product_part = rows_matmul(tf.expand_dims(events, 1) * tf.gather(embedded.candidates, impression), of_product)
        hidden = product_part + tf.expand_dims(history_part, 1) + tf.gather(target_part, impression)
        weights = self._weights(hidden, tf.gather(embedded.candidate_mask, impression), training=True)
        batch, length = tf.unstack(tf.shape(embedded.event_mask, tf.int64))
        shape = tf.stack([batch, length, tf.shape(weights, tf.int64)[1]])
        return tf.transpose(tf.scatter_nd(places, weights, shape), [0, 2, 1])

    def _parts(self, events: tf.Tensor, context: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The first layer's values of events and of candidates, [..., units], and its matrix of their product."""
        kernel = tf.cast(self.kernel, events.dtype)
        of_event, of_target, of_difference, of_product, of_context = tf.split(
            kernel, [self.width] * 4 + [self.context_width], axis=0
        )
        history_part = rows_matmul(events, of_event + of_difference) + rows_matmul(context, of_context)
        target_part = rows_matmul(candidates, of_target - of_difference) + tf.cast(self.bias, events.dtype)
        return history_part, target_part, of_product

    def _weights(self, hidden: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """The first layer's pre-activations [..., units] to weights [...], 0 where ``mask`` does not hold."""
        hidden = self.first_activation(hidden, training=training, valid=mask)
        hidden = self.rest(hidden, training=training, valid=mask)
        weight = tf.squeeze(self.output_weight(hidden), axis=-1)
        return tf.where(mask, weight, tf.zeros_like(weight))

    def call(self, embedded: EmbeddedImpression, training: bool = False) -> tf.Tensor:
        """[B, N, D] float: the interest u for each candidate."""
        return tf.matmul(self.weights_of(embedded, training), embedded.events)
