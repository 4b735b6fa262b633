"""Transformer4Rec: self-attention over history and target, in the form of BST."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from models.contract import Ranker
from models.layers.embedding import EmbeddedImpression
from models.layers.numeric import masked_softmax
from models.layers.pooling import for_each_candidate, masked_mean
from models.layers.transformer import TransformerBlock, events_from_the_end, transformer_blocks


class Transformer4Rec(Ranker):
    """Behavior Sequence Transformer (Chen et al. 2019, arXiv 1905.06874; Vaswani et al. 2017, arXiv 1706.03762).

    The tokens are the history and the target, each [item; category; behaviour; position] projected to W channels. A
    position is the time from the event to the target, bucketed: the age embedding; without it, the number of events
    from the end. All tokens attend to all. E is the target's token after the last block and the mean of the history's
    tokens: BST flattens all tokens, which needs histories of one length.

    In full the attention runs once for each candidate, since the history's tokens see the target. Of the first block
    the history's attention to itself is the same for all candidates and computed once: with logits s_t of the history
    and s_v of the target, softmax over both is (1 - g) softmax(s_t) and g, g = sigmoid(s_v - logsumexp(s_t)), exactly.
    Later blocks (``transformer.layers`` above 1) are computed for each candidate.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates tokens' projection, positions and blocks."""
        tokens = self.config.transformer.width
        self.event_token = keras.layers.Dense(tokens, name="event_token")
        self.event_token.build((None, width + context_width))
        self.target_token = keras.layers.Dense(tokens, name="target_token")
        self.target_token.build((None, width))
        if not self.config.age_embedding:
            self.positions = self.add_weight(
                shape=(self.history_length, tokens), initializer=keras.initializers.RandomNormal(0.05), name="positions"
            )
        self.blocks = transformer_blocks(self.config)
        return 2 * tokens + context_width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, 2 W + C]."""
        history, target = self.tokens(embedded)
        history, target = attend_with_targets(self.blocks[0], history, target, embedded.event_mask, training)
        real = tf.repeat(embedded.event_mask[:, None, :], tf.shape(target)[1], axis=1)
        if len(self.blocks) > 1:
            history, target = self._later_blocks(history, target, real, training)
        weight = tf.cast(real, history.dtype)[..., None]
        mean = tf.reduce_sum(history * weight, axis=2) / tf.maximum(tf.reduce_sum(weight, axis=2), 1)
        context = for_each_candidate(masked_mean(embedded.event_context, embedded.event_mask), embedded.candidates)
        return tf.concat([target, mean, context], axis=-1), {}

    def tokens(self, embedded: EmbeddedImpression) -> tuple[tf.Tensor, tf.Tensor]:
        """The history's [B, T, W] and the targets' [B, N, W]."""
        history = self.event_token(tf.concat([embedded.events, embedded.event_context], axis=-1))
        if not self.config.age_embedding:
            position = tf.clip_by_value(events_from_the_end(embedded.event_mask) - 1, 0, self.history_length - 1)
            history += tf.cast(tf.gather(tf.convert_to_tensor(self.positions), position), history.dtype)
        return history, self.target_token(embedded.candidates)

    def _later_blocks(
        self, history: tf.Tensor, target: tf.Tensor, real: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        batch, candidates, steps = tf.unstack(tf.shape(real))
        flat = [batch * candidates, steps + 1]
        x = tf.reshape(tf.concat([history, target[:, :, None, :]], axis=2), [*flat, self.config.transformer.width])
        real = tf.reshape(tf.pad(real, [[0, 0], [0, 0], [0, 1]], constant_values=True), flat)
        for block in self.blocks[1:]:
            x = block(x, real, training=training)
        x = tf.reshape(x, [batch, candidates, steps + 1, self.config.transformer.width])
        return x[:, :, :-1], x[:, :, -1]


def attend_with_targets(
    block: TransformerBlock, history: tf.Tensor, target: tf.Tensor, mask: tf.Tensor, training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """A block over [history; target] for each target, the history's part computed once.

    Args:
      block: the block.
      history: [B, T, W], the same for all targets.
      target: [B, N, W].
      mask: [B, T] bool.
      training: whether dropout is on.

    Returns:
      The tokens after the block: of the history [B, N, T, W], of the target [B, N, W].
    """
    query, key, value = block.project(history)
    target_query, target_key, target_value = block.project(target)
    real = mask[:, None, None, :]

    scores = tf.cast(block.scores(query, key), tf.float32)
    attended = tf.einsum("bhqk,bkhd->bqhd", masked_softmax(tf.cast(scores, value.dtype), real), value)
    scores = tf.where(real, scores, tf.float32.min)
    # Without a maximum below, a history of no steps would give -inf, and its gradient NaN.
    total = tf.reduce_logsumexp(tf.pad(scores, [[0, 0]] * 3 + [[0, 1]], constant_values=tf.float32.min), axis=-1)
    to_target = tf.cast(block.scores(query, target_key), tf.float32)
    gate = tf.cast(tf.sigmoid(to_target - total[..., None]), value.dtype)
    gate = tf.transpose(gate, [0, 3, 2, 1])[..., None]
    # [B, N, T, heads, d]: from what the history gives towards the target's value.
    history_attended = attended[:, None] + gate * (target_value[:, :, None] - attended[:, None])

    of_history = block.scores(target_query, key)
    of_itself = tf.einsum("bnhd,bnhd->bhn", target_query, target_key) * (block.width // block.heads) ** -0.5
    own = tf.ones([tf.shape(mask)[0], 1, 1, 1], tf.bool)
    weights = masked_softmax(tf.concat([of_history, of_itself[..., None]], -1), tf.concat([real, own], -1))
    target_attended = tf.einsum("bhnk,bkhd->bnhd", weights[..., :-1], value)
    target_attended += tf.transpose(weights[..., -1], [0, 2, 1])[..., None] * target_value

    history_out = block.finish(history[:, None], history_attended, training)
    return history_out, block.finish(target, target_attended, training)
