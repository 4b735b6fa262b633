"""DNN: masked mean pooling of the history and an MLP."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.pooling import for_each_candidate, masked_mean


class DNN(Ranker):
    """Embedding and MLP with mean pooling (the base model of DIN, arXiv 1706.06978, section 4.2).

    The history is one vector for all candidates: the mean of its events' item, category, behaviour and age
    embeddings; an empty history gives zeros. The order of events plays no part but through their age.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """No weights of its own."""
        return width + context_width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, D + C], equal for all N."""
        pooled = masked_mean(tf.concat([embedded.events, embedded.event_context], axis=-1), embedded.event_mask)
        return for_each_candidate(pooled, embedded.candidates), {}
