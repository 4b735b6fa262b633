"""RNN: a simple recurrent network over the history."""

from __future__ import annotations

import keras

from ctr.models.recurrent import RecurrentRanker


class RNN(RecurrentRanker):
    """h_t = tanh(W x_t + U h_{t-1} + b) (Elman 1990), read at the last event."""

    def build_layer(self, units: int) -> keras.layers.Layer:
        """Keras has no fused kernel for it."""
        return keras.layers.SimpleRNN(units, return_sequences=True)
