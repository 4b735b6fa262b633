"""DIEN: Deep Interest Evolution Network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import keras
import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.impression import PADDING_ID
from ctr.models.layers.dense import Dense
from ctr.models.layers.draws import next_seed
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.numeric import masked_softmax
from ctr.models.layers.pooling import for_each_candidate, masked_mean
from ctr.models.layers.recurrent import AttentionalGRU, cut, longest, some_steps, states_of
from ctr.models.registry import DIENConfig, RecurrentConfig

AUXILIARY_LOSS: Final = "next_event"


class DIEN(Ranker):
    """Interests extracted by a GRU and evolved towards each candidate (Zhou et al., AAAI 2019, arXiv 1809.03672).

    Extractor: h_t = GRU(e_t), with H = D so that <h_t, e_{t+1}> is defined. Evolution: a_t = softmax_t(h_t W v) over
    the real steps (eq. 9) and an AUGRU (:class:`AttentionalGRU`) over h_t, read after the last step. The extractor
    and the AUGRU's input projection are computed once for all candidates; the evolution itself depends on the
    candidate and runs once for each. E holds h'_T, h'_T projected times v (see ``StateAndProduct``), and the mean of
    the history's context.

    Auxiliary loss (eq. 6): -(1/n) sum_t [log sigma(<h_t, e_{t+1}>) + log(1 - sigma(<h_t, n_{t+1}>))], in training,
    over real t+1. n is another event of the batch whose item is not in the user's history; where the draw gives
    none, the step does not count.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates extractor, attention and evolution."""
        units = self.config.section(RecurrentConfig).units
        self.extractor = keras.layers.GRU(width, return_sequences=True, reset_after=True)
        self.extractor.build((None, None, width + context_width))
        self.attention = Dense(width, use_bias=False, name="attention")
        self.attention.build((None, width))
        self.evolution = AttentionalGRU(units, name="evolution")
        self.evolution.build(width)
        self.projection = Dense(width, use_bias=False, name="projection")
        self.projection.build((None, units))
        self.shifts = keras.random.SeedGenerator()
        return units + width + context_width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, H + D + C]."""
        steps = longest(embedded.event_mask)
        events = tf.concat([embedded.events, embedded.event_context], axis=-1)
        mask = cut(embedded.event_mask, steps)
        interests = states_of(self.extractor, cut(events, steps), mask, training)
        weights = self.attention_of(interests, mask, embedded.candidates)
        evolved = self.evolution(interests, weights, mask, training=training)
        context = for_each_candidate(masked_mean(embedded.event_context, embedded.event_mask), embedded.candidates)
        encoded = tf.concat([evolved, self.projection(evolved) * embedded.candidates, context], axis=-1)
        weight = self.config.section(DIENConfig).auxiliary_weight
        if not training or not weight:
            return encoded, {}
        events, ids = cut(embedded.events, steps), cut(embedded.event_item_ids, steps)
        loss = next_event_loss(interests, events, mask, ids, next_seed(self.shifts, each_replica=True))
        return encoded, {AUXILIARY_LOSS: weight * loss}

    def attention_of(self, interests: tf.Tensor, mask: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """a_t of each candidate: interests [B, T, H], mask [B, T], candidates [B, N, D] -> [B, N, T]; 0 at padding."""
        scores = tf.matmul(candidates, self.attention(interests), transpose_b=True)
        return masked_softmax(scores, mask[:, None, :])


def next_event_loss(
    states: tf.Tensor, events: tf.Tensor, mask: tf.Tensor, item_ids: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """DIEN's auxiliary loss of each impression.

    Args:
      states: [B, T, D], h_t.
      events: [B, T, D], e_t; zero at padding.
      mask: [B, T] bool.
      item_ids: [B, T] int64, ``PADDING_ID`` at padding.
      seed: [2], of the draw.

    Returns:
      [B] float32; 0 where no step counts.
    """
    flat = tf.reshape(mask, [-1])
    rank = tf.cumsum(tf.cast(flat, tf.int32)) - 1
    size = tf.size(flat)
    # Where the real events stand, one behind the other: a list as long as the batch, whatever it holds.
    places = tf.math.unsorted_segment_sum(tf.range(size), tf.where(flat, rank, size), size + 1)
    count = tf.maximum(rank[-1] + 1, 1)
    # One random shift along the real events of the batch: a draw that padding has no part in.
    shift = tf.random.stateless_uniform([], seed, 1, tf.maximum(count, 2), tf.int32)
    drawn = tf.reshape(tf.gather(places, tf.math.floormod(rank + shift, count)), tf.shape(mask))
    negatives = tf.gather(tf.reshape(events, [-1, events.shape[-1]]), drawn)
    negative_ids = tf.gather(tf.reshape(item_ids, [-1]), drawn)
    of_the_user = tf.reduce_any(negative_ids[:, :, None] == item_ids[:, None, :], axis=2)
    counts = (mask & ~of_the_user & (negative_ids != PADDING_ID))[:, 1:]

    pairs = tf.shape(events)[1] - 1
    parts = (some_steps(states, pairs), some_steps(events, pairs, first=1), some_steps(negatives, pairs, first=1))
    states, positives, negatives = (tf.cast(part, tf.float32) for part in parts)
    loss = tf.nn.softplus(-tf.reduce_sum(states * positives, axis=2))
    loss += tf.nn.softplus(tf.reduce_sum(states * negatives, axis=2))
    steps = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1)
    return tf.reduce_sum(tf.where(counts, loss, 0.0), axis=1) / tf.maximum(steps, 1.0)
