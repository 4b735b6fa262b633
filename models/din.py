"""DIN: Deep Interest Network."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.layers.attention import LocalActivationUnit
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.pooling import for_each_candidate, masked_mean


class DIN(Ranker):
    """Interest of each candidate by local activation (Zhou et al., KDD 2018, arXiv 1706.06978).

    What a candidate sees of the history is u = sum_t a_t e_t (see ``LocalActivationUnit``), the product u * v
    and the plain mean of the history's context, which tells the head how active the user is now.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates the local activation unit."""
        self.attention = LocalActivationUnit(self.config, name="attention")
        self.attention.build(width, context_width)
        return 2 * width + context_width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, 2 D + C]."""
        interest = self.attention(embedded, training=training)
        context = for_each_candidate(masked_mean(embedded.event_context, embedded.event_mask), embedded.candidates)
        return tf.concat([interest, interest * embedded.candidates, context], axis=-1), {}
