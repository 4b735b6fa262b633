"""Batches of stored impressions for the samplers' tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ctr.models.impression import CANDIDATE_CATEGORY_ID, CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, INDEX_OF
from ctr.models.samplers.base import Sampled, Sampler, Score, TrainingWindow
from ctr.models.samplers.hashing import pair_key

CATALOGUE = 1000


def stored(items: np.ndarray, histories: np.ndarray | None = None) -> dict[str, tf.Tensor]:
    """Impressions of [B, N] candidate items and [B, L] histories; each tensor of an item tells which item it is."""
    candidates = tf.constant(items, tf.int64)
    real = tf.cast(candidates != 0, tf.int64)
    impression = {
        CANDIDATE_ITEM_ID: candidates,
        CANDIDATE_CATEGORY_ID: candidates * 2,
        INDEX_OF[CANDIDATE_ITEM_ID]: (candidates + 1) * real,
        INDEX_OF[CANDIDATE_CATEGORY_ID]: (candidates * 2 + 1) * real,
    }
    if histories is not None:
        impression[HISTORY_ITEM_ID] = tf.constant(histories, tf.int64)
    return impression


def window_of(items: np.ndarray, users: np.ndarray, histories: np.ndarray | None = None) -> TrainingWindow:
    """What a pass over these impressions would find."""
    real = items[:, 0] != 0
    ids, counts = np.unique(items[real, 0], return_counts=True)
    events = items[:, :1] if histories is None else np.concatenate([items[:, :1], histories], axis=1)
    keys = pair_key(tf.constant(users[:, None], tf.int64), tf.constant(events, tf.int64)).numpy()[events != 0]
    return TrainingWindow(CATALOGUE, ids.astype(np.int64), counts.astype(np.int64), np.unique(keys))


def no_score(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """For samplers that score nothing."""
    raise AssertionError("this sampler must not score")


def draw(sampler: Sampler, impression: dict[str, tf.Tensor], users: np.ndarray, score: Score = no_score) -> Sampled:
    """One step."""
    items = impression[CANDIDATE_ITEM_ID]
    labels = tf.one_hot(tf.zeros(items.shape[0], tf.int32), items.shape[1])
    return sampler.sample(impression, labels, tf.constant(users, tf.int64), score)
