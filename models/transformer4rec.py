"""Transformer4Rec: self-attention over history and target, in the form of BST."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.layers.dense import Dense
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.numeric import masked_softmax
from ctr.models.layers.pooling import for_each_candidate, masked_mean
from ctr.models.layers.transformer import TransformerBlock, events_from_the_end, transformer_blocks
from ctr.models.registry import TransformerConfig


class Transformer4Rec(Ranker):
    """Behavior Sequence Transformer (Chen et al. 2019, arXiv 1905.06874; Vaswani et al. 2017, arXiv 1706.03762).

    The tokens are the history and the target, each [item; category; behaviour; position] projected to W channels. A
    position is the time from the event to the target, bucketed: the age embedding; without it, the number of events
    from the end. All tokens attend to all. E is the target's token after the last block, and the mean of the history's
    context. (BST flattens the tokens of all steps, which needs histories of one length.)

    Of the last block only the target's row is read, so only that is computed. In the blocks before it the history's
    tokens see the target, so these run once for each candidate (``transformer.layers`` above 1), but for what the
    first of them has in common: with logits s_t to the history and s_v to the target, softmax over both is
    (1 - g) softmax(s_t) and g, g = sigmoid(s_v - logsumexp(s_t)), exactly. With one block the history's keys and
    values are computed once for all candidates.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates tokens' projection, positions and blocks."""
        tokens = self.config.section(TransformerConfig).width
        self.event_token = Dense(tokens, name="event_token")
        self.event_token.build((None, width + context_width))
        self.target_token = Dense(tokens, name="target_token")
        self.target_token.build((None, width))
        if not self.config.age_embedding:
            self.positions = self.add_weight(
                shape=(self.history_length, tokens), initializer=keras.initializers.RandomNormal(0.05), name="positions"
            )
        self.blocks = transformer_blocks(self.config)
        return tokens + context_width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, W + C]."""
        history, target = self.tokens(embedded)
        # From here on [B, 1 or N, T, W]: what all candidates share stands once.
        history = history[:, None]
        for number, block in enumerate(self.blocks):
            last = number == len(self.blocks) - 1
            attended = attend_from_target(block, history, target, embedded.event_mask)
            if not last:
                next_history = attend_from_history(block, history, target, embedded.event_mask)
                history = block.finish(history, next_history, training)
            target = block.finish(target, attended, training)
        context = for_each_candidate(masked_mean(embedded.event_context, embedded.event_mask), embedded.candidates)
        return tf.concat([target, context], axis=-1), {}

    def tokens(self, embedded: EmbeddedImpression) -> tuple[tf.Tensor, tf.Tensor]:
        """The history's [B, T, W] and the targets' [B, N, W]."""
        history = self.event_token(tf.concat([embedded.events, embedded.event_context], axis=-1))
        if not self.config.age_embedding:
            position = tf.clip_by_value(events_from_the_end(embedded.event_mask) - 1, 0, self.history_length - 1)
            history += tf.cast(tf.gather(tf.convert_to_tensor(self.positions), position), history.dtype)
        return history, self.target_token(embedded.candidates)


def attend_from_target(block: TransformerBlock, history: tf.Tensor, target: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What each target takes from [history; itself].

    Args:
      block: whose attention it is.
      history: [B, 1 or N, T, W].
      target: [B, N, W].
      mask: [B, T] bool.

    Returns:
      [B, N, heads, W / heads].
    """
    query, own_key, own_value = block.project(target)
    _, key, value = block.project(history)
    own_score = tf.reduce_sum(query * own_key, axis=-1, keepdims=True)
    if history.shape[1] == 1:
        scores = tf.einsum("bnhd,bthd->bnht", query, key[:, 0])
    else:
        scores = tf.einsum("bnhd,bnthd->bnht", query, key)
    real = mask[:, None, None, :]
    own = tf.ones([tf.shape(mask)[0], 1, 1, 1], tf.bool)
    weights = masked_softmax(tf.concat([scores, own_score], -1) * block.scale, tf.concat([real, own], -1))
    if history.shape[1] == 1:
        taken = tf.einsum("bnht,bthd->bnhd", weights[..., :-1], value[:, 0])
    else:
        taken = tf.einsum("bnht,bnthd->bnhd", weights[..., :-1], value)
    return taken + weights[..., -1:] * own_value


def attend_from_history(block: TransformerBlock, history: tf.Tensor, target: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What each event takes from [history; target], the part without the target computed once where it is shared.

    Arguments as for :func:`attend_from_target`; gives [B, N, T, heads, W / heads].
    """
    query, key, value = block.project(history)
    _, target_key, target_value = block.project(target)
    scores = tf.einsum("bnqhd,bnkhd->bnhqk", query, key) * block.scale
    real = mask[:, None, None, None, :]
    taken = tf.einsum("bnhqk,bnkhd->bnqhd", masked_softmax(scores, real), value)
    scores = tf.where(real, tf.cast(scores, tf.float32), tf.float32.min)
    # Without a value beside them, the scores of a history of no steps would give -inf, and NaN as its gradient.
    total = tf.reduce_logsumexp(tf.pad(scores, [[0, 0]] * 4 + [[0, 1]], constant_values=tf.float32.min), axis=-1)
    # [B, N, T, heads]: from what the history gives towards the target's value.
    to_target = tf.cast(tf.reduce_sum(query * target_key[:, :, None], axis=-1) * block.scale, tf.float32)
    gate = tf.cast(tf.sigmoid(to_target - tf.transpose(total, [0, 1, 3, 2])), value.dtype)[..., None]
    return taken + gate * (target_value[:, :, None] - taken)
