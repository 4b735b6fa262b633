"""LSTM over the history."""

from __future__ import annotations

import keras

from ctr.models.recurrent import RecurrentRanker


class LSTM(RecurrentRanker):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""

    def build_layer(self, units: int) -> keras.layers.Layer:
        """The forget gate's bias starts at 1."""
        return keras.layers.LSTM(units, return_sequences=True)
