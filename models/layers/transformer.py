"""Self-attention blocks (Vaswani et al. 2017, arXiv 1706.03762, sections 3.2 and 3.3, layer norm after each part)."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.layers.dense import Dense
from ctr.models.layers.draws import Dropout
from ctr.models.layers.numeric import masked_softmax
from ctr.models.model_config import ModelConfig
from ctr.models.registry import TransformerConfig


class TransformerBlock(keras.layers.Layer):
    """x = LN(x + Attention(x)); x = LN(x + W2 relu(W1 x + b1) + b2).

    Args:
      heads: of the attention.
      width: of a token, a multiple of ``heads``.
      feed_forward: inner width of the position-wise part.
      dropout: share of each part's output dropped in training.
    """

    def __init__(self, heads: int, width: int, feed_forward: int, dropout: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.width, self.feed_forward = heads, width, feed_forward
        self.scale = (width // heads) ** -0.5
        self.dropout = Dropout(dropout)
        self.query, self.key, self.value, self.output_weight = (
            Dense(width, name=name) for name in ("query", "key", "value", "output")
        )
        self.inner = Dense(feed_forward, activation="relu", name="inner")
        self.outer = Dense(width, name="outer")
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def build(self, _: object = None) -> None:
        """Creates the weights."""
        for layer in (self.query, self.key, self.value, self.output_weight, self.inner):
            layer.build((None, self.width))
        self.outer.build((None, self.feed_forward))
        for norm in (self.attention_norm, self.norm):
            norm.build((None, self.width))
        self.built = True

    def call(self, x: tf.Tensor, real: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Tokens x [B, T, W], real [B, T] bool -> [B, T, W]; what stands at padding has no meaning."""
        query, key, value = self.project(x)
        scores = tf.einsum("bqhd,bkhd->bhqk", query, key) * self.scale
        weights = masked_softmax(scores, real[:, None, None, :])
        attended = tf.einsum("bhqk,bkhd->bqhd", weights, value)
        return self.finish(x, attended, training)

    def project(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Queries, keys and values by head: [B, T, W] -> [B, T, heads, W / heads] each."""
        shape = [*tf.unstack(tf.shape(x)[:-1]), self.heads, self.width // self.heads]
        return tuple(tf.reshape(layer(x), shape) for layer in (self.query, self.key, self.value))

    def finish(self, x: tf.Tensor, attended: tf.Tensor, training: bool) -> tf.Tensor:
        """What follows the attention: tokens x [..., W] and attended [..., heads, W / heads] -> [..., W]."""
        attended = self.output_weight(tf.reshape(attended, [*tf.unstack(tf.shape(attended)[:-2]), self.width]))
        x = self.attention_norm(x + self.dropout(attended, training=training))
        return self.norm(x + self.dropout(self.outer(self.inner(x)), training=training))


def transformer_blocks(config: ModelConfig) -> list[TransformerBlock]:
    """``transformer.layers`` blocks of the configuration, built."""
    part = config.section(TransformerConfig)
    blocks = [
        TransformerBlock(part.heads, part.width, part.feed_forward, config.dropout, name=f"block_{number}")
        for number in range(part.layers)
    ]
    for block in blocks:
        block.build()
    return blocks


def events_from_the_end(mask: tf.Tensor) -> tf.Tensor:
    """1 for the latest real event, 2 for the one before, ...: mask [B, T] bool -> [B, T] int32, below 1 at padding."""
    length = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    return length[:, None] - tf.range(tf.shape(mask)[1])[None, :]
