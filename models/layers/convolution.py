"""Caser's filters (WSDM 2018, arXiv 1809.07426, section 3.2)."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.layers.activations import make_activation
from ctr.models.model_config import ModelConfig


def latest(x: tf.Tensor, mask: tf.Tensor, events: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The latest ``events`` real steps, the last one at the end, with zeros before the first of a shorter history.

    Args:
      x: [B, T, C], right-padded.
      mask: [B, T] bool.
      events: L.

    Returns:
      [B, L, C], and which of its steps are real, [B, L] bool.
    """
    # L steps of padding in front, so that there is something to gather for any length.
    x = tf.pad(x, [[0, 0], [events, 0], [0, 0]])
    length = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    step = length[:, None] + tf.range(events)[None, :]
    real = step >= events
    return tf.gather(x, step, batch_dims=1) * tf.cast(real, x.dtype)[..., None], real


class HorizontalFilters(keras.layers.Layer):
    """For each height h = 1..L, filters that slide over h rows; the activation, then the maximum over time (eq. 3, 4).

    A window counts if its last row is a real event. With the events at the end that is any window that holds a
    real one, and none of an empty history, whose features are 0.

    Args:
      events: L.
      filters: of each height.
      config: of the model, for the activation.
    """

    def __init__(self, events: int, filters: int, config: ModelConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.events, self.filters = events, filters
        self.convolutions = [
            keras.layers.Conv1D(filters, height, padding="valid", name=f"height_{height}")
            for height in range(1, events + 1)
        ]
        self.activations = [make_activation(config) for _ in self.convolutions]

    def build(self, channels: int) -> None:
        """Creates the filters for rows of ``channels``."""
        for convolution, activation in zip(self.convolutions, self.activations, strict=True):
            convolution.build((None, self.events, channels))
            activation.build((None, self.filters))
        self.built = True

    def call(self, x: tf.Tensor, real: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Rows x [B, L, C] and which are real [B, L] -> [B, L * filters]."""
        outputs = []
        for height, (convolution, activation) in enumerate(zip(self.convolutions, self.activations, strict=True), 1):
            counts = real[:, height - 1 :]
            windows = activation(convolution(x), training=training, valid=counts)
            highest = tf.reduce_max(tf.where(counts[..., None], windows, windows.dtype.min), axis=1)
            outputs.append(tf.where(real[:, -1:], highest, tf.zeros_like(highest)))
        return tf.concat(outputs, axis=-1)


class VerticalFilters(keras.layers.Layer):
    """Weighted sums over the L rows, no activation, no pooling (eq. 5)."""

    def __init__(self, filters: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates a weight of each row and filter."""
        self.kernel = self.add_weight(shape=(input_shape[1], self.filters), initializer="glorot_normal", name="kernel")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, L, C] -> [B, filters * C]."""
        sums = tf.einsum("blc,lf->bfc", x, tf.cast(self.kernel, x.dtype))
        return tf.reshape(sums, [-1, self.filters * x.shape[-1]])
