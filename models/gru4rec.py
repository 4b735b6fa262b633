"""GRU4Rec: a gated recurrent unit over the history."""

from __future__ import annotations

import keras

from ctr.models.recurrent import RecurrentRanker


class GRU4Rec(RecurrentRanker):
    """GRU over the session (Hidasi et al., ICLR 2016, arXiv 1511.06939, eq. 2-5) as a ranker: MLP over [h_T; v].

    The paper scores the whole catalogue from h_T and takes its negatives from the batch; here candidates come with
    the impression, and where a training impression's negatives come from is a matter of its sampler.
    """

    def build_layer(self, units: int) -> keras.layers.Layer:
        """In the form that applies the reset gate after the matrix, as the fused kernel does."""
        return keras.layers.GRU(units, return_sequences=True, reset_after=True)
