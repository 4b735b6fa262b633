"""BERT4Rec: a bidirectional encoder trained to fill in masked events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import keras
import tensorflow as tf

from ctr.models.compiled import is_compiled
from ctr.models.contract import Ranker
from ctr.models.impression import FIRST_KNOWN_INDEX, PADDING_ID
from ctr.models.layers.dense import Dense
from ctr.models.layers.draws import next_seed, uniform
from ctr.models.layers.embedding import EmbeddedImpression, look_up
from ctr.models.layers.interaction import StateAndProduct
from ctr.models.layers.transformer import events_from_the_end, transformer_blocks
from ctr.models.registry import BERT4RecConfig, TransformerConfig

CLOZE_LOSS: Final = "cloze"


class BERT4Rec(Ranker):
    """Cloze over the history, and a score from the state at [mask] (Sun et al., CIKM 2019, arXiv 1904.06690).

    Tokens are [item; category; behaviour; age] projected to W channels plus a learned position, counted from the end.
    [mask] is a vector of its own, outside the item table. To score, [mask] stands behind the last event; its state
    sees no candidate, so it is encoded once for all of them, and the head gets it and the candidate.

    Cloze (section 3.6), in training, in a pass of its own: a share rho of the events is replaced by [mask], at
    least one, or only the last one; the true item is predicted from the state there by softmax over
    GELU(h W + b) E^T plus a bias of each item (eq. 7), E being the items' vectors. Items without an index of their own
    cannot be predicted and do not count. The softmax is over the true item and ``bert4rec.cloze_negatives`` items
    drawn uniformly from the vocabulary, the true one among them left out; log Q of a uniform draw is the same for
    all, so it cancels.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates tokens' projection, positions, [mask], blocks and the cloze's output layer."""
        tokens = self.config.section(TransformerConfig).width
        init = keras.initializers.RandomNormal(stddev=0.05)
        self.event_token = Dense(tokens, name="event_token")
        self.event_token.build((None, width + context_width))
        self.positions = self.add_weight(shape=(self.history_length + 1, tokens), initializer=init, name="positions")
        self.mask_token = self.add_weight(shape=(tokens,), initializer=init, name="mask_token")
        self.blocks = transformer_blocks(self.config)
        self.interaction = StateAndProduct(name="interaction")
        self.interaction.build(tokens, width)
        self.draws = keras.random.SeedGenerator()
        if self.config.section(BERT4RecConfig).cloze_weight:
            self.cloze_output = Dense(self.config.embedding_dim, name="cloze_output")
            self.cloze_output.build((None, tokens))
            self.item_bias = self.add_weight(
                shape=(self.embedding.item_indices,), initializer="zeros", autocast=False, name="item_bias"
            )
        return self.interaction.width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, W + D]."""
        # One more step, so that there is a place behind the last event of the longest history.
        mask = tf.pad(embedded.event_mask, [[0, 0], [0, 1]])
        position = events_from_the_end(mask)
        tokens = self.event_token(tf.concat([embedded.events, embedded.event_context], axis=-1))
        tokens = tf.pad(tokens, [[0, 0], [0, 1], [0, 0]])
        behind_the_last = position == 0
        states = self.states(tokens, position, behind_the_last, mask | behind_the_last, training)
        state = tf.reduce_sum(states * tf.cast(behind_the_last, states.dtype)[..., None], axis=1)
        encoded = self.interaction(state, embedded.candidates)
        weight = self.config.section(BERT4RecConfig).cloze_weight
        if not training or not weight:
            return encoded, {}
        masked = self.draw_masked(mask, position)
        states = self.states(tokens, position, masked, mask, training)
        items = tf.pad(embedded.event_item_indices, [[0, 0], [0, 1]])
        return encoded, {CLOZE_LOSS: weight * self.cloze_loss(states, masked, items)}

    def states(
        self, tokens: tf.Tensor, position: tf.Tensor, masked: tf.Tensor, real: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """The encoder: tokens [B, T, W], [mask] put where ``masked`` [B, T] holds -> states [B, T, W]."""
        x = tf.where(masked[..., None], tf.cast(self.mask_token, tokens.dtype), tokens)
        place = tf.clip_by_value(position, 0, self.history_length)
        x += tf.cast(tf.gather(tf.convert_to_tensor(self.positions), place), tokens.dtype)
        for block in self.blocks:
            x = block(x, real, training=training)
        return x

    def draw_masked(self, mask: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Which real events are masked: mask and position [B, T] -> [B, T] bool, at least one a history."""
        settings = self.config.section(BERT4RecConfig)
        draw = tf.where(mask, uniform(tf.shape(mask), self._seed()), 2.0)
        lowest = tf.reduce_min(draw, axis=1, keepdims=True)
        masked = (draw < settings.mask_share) | (draw == lowest)
        last_only = uniform([tf.shape(mask)[0], 1], self._seed()) < settings.last_only_share
        return tf.where(last_only, position == 1, masked) & mask

    def cloze_loss(self, states: tf.Tensor, masked: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Mean cross-entropy of each impression over its masked events of known items.

        Args:
          states: [B, T, W].
          masked: [B, T] bool.
          items: [B, T] int64 item indices.

        Returns:
          [B] float32; 0 where nothing counts.
        """
        counts = tf.reshape(masked & (items >= FIRST_KNOWN_INDEX), [-1])
        place, real = self._places_of(counts, masked)
        row = place // tf.shape(masked)[1]
        true = tf.where(real, tf.gather(tf.reshape(items, [-1]), place), PADDING_ID)
        states = tf.gather(tf.reshape(states, [-1, states.shape[-1]]), place)
        output = tf.cast(tf.nn.gelu(self.cloze_output(states)), tf.float32)
        known = self.embedding.item_indices - FIRST_KNOWN_INDEX
        number = min(self.config.section(BERT4RecConfig).cloze_negatives, known)
        drawn = FIRST_KNOWN_INDEX + tf.random.stateless_uniform([number], self._seed(), 0, known, tf.int64)
        vectors, bias = self.embedding.event_item_vectors, self.item_bias
        # As many rows at each step and on each replica, so that replicas can gather their tables' gradients.
        rows = tf.pad(true, [[0, tf.size(items) - tf.size(true)]], constant_values=PADDING_ID)
        of_items, of_bias = (part[: tf.size(true)] for part in (vectors(rows), look_up(bias, rows)))
        of_true = tf.reduce_sum(output * tf.cast(of_items, tf.float32), axis=1) + of_bias
        of_drawn = tf.matmul(output, tf.cast(vectors(drawn), tf.float32), transpose_b=True)
        of_drawn = tf.where(drawn == true[:, None], tf.float32.min, of_drawn + look_up(bias, drawn))
        loss = tf.reduce_logsumexp(tf.concat([of_true[:, None], of_drawn], axis=1), axis=1) - of_true
        batch = tf.shape(masked)[0]
        total = tf.math.unsorted_segment_sum(tf.where(real, loss, 0.0), row, batch)
        events = tf.math.unsorted_segment_sum(tf.cast(real, tf.float32), row, batch)
        return total / tf.maximum(events, 1.0)

    def _places_of(self, counts: tf.Tensor, masked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the events stand that count, counts [B T] bool, and which places of that list hold one.

        Compiled, the list is as long as six standard deviations above the mean of what is masked: once in a billion
        steps an event finds no place, and does not count.
        """
        if not is_compiled():
            place = tf.cast(tf.where(counts)[:, 0], tf.int32)
            return place, tf.ones_like(place, tf.bool)
        size, expected = counts.shape[0], self.config.section(BERT4RecConfig).mask_share * counts.shape[0]
        length = min(size, math.ceil(expected + 6 * math.sqrt(expected)) + masked.shape[0])
        rank = tf.cumsum(tf.cast(counts, tf.int32)) - 1
        slot = tf.where(counts & (rank < length), rank, length)
        place = tf.math.unsorted_segment_sum(tf.range(size), slot, length + 1)[:length]
        return place, tf.range(length) <= rank[-1]

    def _seed(self) -> tf.Tensor:
        return next_seed(self.draws, each_replica=True)
