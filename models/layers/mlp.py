"""Fully connected blocks."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ctr.models.layers.activations import make_activation
from ctr.models.layers.dense import Dense
from ctr.models.layers.draws import Dropout
from ctr.models.model_config import ModelConfig


class MLP(keras.layers.Layer):
    """Dense layers, each followed by the activation and dropout, over the last axis.

    Args:
      units: widths of the layers.
      config: of the model, for the activation.
      dropout: share of values dropped in training.
    """

    def __init__(self, units: Sequence[int], config: ModelConfig, dropout: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.dense = [Dense(width, kernel_initializer="glorot_normal") for width in self.units]
        self.activations = [make_activation(config) for _ in self.units]
        self.dropout = Dropout(dropout)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds each dense layer and activation for its input width."""
        width = input_shape[-1]
        for dense, activation, units in zip(self.dense, self.activations, self.units, strict=True):
            dense.build((None, width))
            activation.build((None, units))
            width = units

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        """[..., C] -> [..., units[-1]]; ``valid`` (bool [...]) marks the positions that count for Dice."""
        for dense, activation in zip(self.dense, self.activations, strict=True):
            x = activation(dense(x), training=training, valid=valid)
            x = self.dropout(x, training=training)
        return x
