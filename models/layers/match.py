"""Match features: what a candidate shares with the history.

The single definition: the models compute them inside the exported graph, and the logistic-regression
baseline calls the same function. They compare raw ids, so an item that the vocabulary does not know still
matches itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import tensorflow as tf

from ctr.models import impression as names

_LOG_HORIZON: Final = 14.0
"""ln(14 days in seconds), rounded: a recency of 0 means two weeks ago or never."""

MATCH_FEATURE_NAMES: Final = (
    "item_seen",
    "item_count",
    "item_recency",
    "item_position",
    "item_in_cart",
    "item_favoured",
    "item_bought",
    "category_seen",
    "category_count",
    "category_recency",
    "category_position",
    "category_share",
    "category_bought",
)


def match_features(impression: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Compares each candidate with each event of the history.

    For the same item and for the same category: whether there is such an event; ln(1 + count); recency,
    1 - ln(1 + age) / 14 of the latest, not below 0; position, 1 / (1 + events after the latest). For the
    item, whether it was put into the cart, favoured, bought; for the category, its share of the history,
    and whether something of it was bought. A feature of what never occurred is 0.

    Args:
      impression: raw features by name, [B, T] and [B, N] int64 padded with 0; those of events stand oldest first.

    Returns:
      [B, N, F] float32 in the order of :data:`MATCH_FEATURE_NAMES`; every value of a padding candidate is 0.
    """
    history_item_id, candidate_item_id = impression[names.HISTORY_ITEM_ID], impression[names.CANDIDATE_ITEM_ID]
    real = history_item_id != names.PADDING_ID
    length = tf.reduce_sum(tf.cast(real, tf.float32), axis=1)[:, None]
    recency = tf.nn.relu(1.0 - tf.math.log1p(tf.cast(impression[names.HISTORY_AGE], tf.float32)) / _LOG_HORIZON)
    events_after = tf.reverse(tf.cumsum(tf.reverse(tf.cast(real, tf.float32), [1]), axis=1, exclusive=True), [1])
    position = 1.0 / (1.0 + events_after)

    def latest(same: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        # Both values grow towards the end of the history, so the latest match has the largest. The maximum of
        # a history of length 0 is -inf.
        return tf.maximum(tf.reduce_max(same * value[:, None, :], axis=2), 0.0)

    def any_with(same: tf.Tensor, behavior: names.BehaviorName) -> tf.Tensor:
        of_kind = tf.cast(impression[names.HISTORY_BEHAVIOR] == names.BEHAVIORS[behavior], tf.float32)
        return tf.minimum(tf.einsum("bnt,bt->bn", same, of_kind), 1.0)

    both_real = real[:, None, :] & (candidate_item_id != names.PADDING_ID)[:, :, None]
    same_item = tf.cast(_same(candidate_item_id, history_item_id) & both_real, tf.float32)
    same_category = _same(impression[names.CANDIDATE_CATEGORY_ID], impression[names.HISTORY_CATEGORY_ID]) & both_real
    same_category = tf.cast(same_category, tf.float32)
    item_count = tf.reduce_sum(same_item, axis=2)
    category_count = tf.reduce_sum(same_category, axis=2)
    features = (
        tf.minimum(item_count, 1.0),
        tf.math.log1p(item_count),
        latest(same_item, recency),
        latest(same_item, position),
        any_with(same_item, "cart"),
        any_with(same_item, "fav"),
        any_with(same_item, "buy"),
        tf.minimum(category_count, 1.0),
        tf.math.log1p(category_count),
        latest(same_category, recency),
        latest(same_category, position),
        category_count / tf.maximum(length, 1.0),
        any_with(same_category, "buy"),
    )
    return tf.stack(features, axis=2)


def item_seen(history_item_id: tf.Tensor, candidate_item_id: tf.Tensor) -> tf.Tensor:
    """The match feature ``item_seen`` alone: whether the candidate's item stands in the history.

    Args:
      history_item_id: [B, T] int64, padded with 0.
      candidate_item_id: [B, N] int64, padded with 0.

    Returns:
      [B, N] bool, False for a padding candidate.
    """
    return tf.reduce_any(_same(candidate_item_id, history_item_id), axis=2) & (candidate_item_id != names.PADDING_ID)


def _same(candidate: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    return candidate[:, :, None] == history[:, None, :]
