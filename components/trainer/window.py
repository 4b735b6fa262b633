"""What samplers need to know of the training window, read from its transformed examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import tensorflow as tf

from ctr.components.examples import blocks
from ctr.models.arrays import Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, LABEL, PADDING_ID, USER_ID
from ctr.models.samplers.base import TrainingWindow
from ctr.models.samplers.hashing import pair_key

_FILES_AT_ONCE: Final = 8
_KEYS_AT_ONCE: Final = 20_000_000
"""Keys collected before repetitions are dropped: 160 MB, and at most twice that for items and counts beside them."""


def read_window(files: Sequence[str], catalogue_size: int) -> TrainingWindow:
    """One pass over the training split.

    The user's own items are those of all stored histories and all positives. Memory: 8 bytes for each user and item
    that met, 16 for each item; four times that while what was collected is merged.

    Args:
      files: transformed examples of the train split.
      catalogue_size: items that uniform negatives were drawn from.

    Raises:
      DataError: if there is no file or no impression, or a file is damaged.
    """
    if not files:
        raise DataError("no transformed examples to count: the train split has no files")
    impressions = blocks.read(files, (USER_ID, HISTORY_ITEM_ID, CANDIDATE_ITEM_ID, LABEL), _FILES_AT_ONCE)
    batches = impressions.map(_count_batch, num_parallel_calls=tf.data.AUTOTUNE)
    waiting, keys = [_Found()], 0
    with blocks.damage_named(files):
        for batch in batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            waiting.append(_Found(*batch))
            keys += batch[0].size
            if keys > _KEYS_AT_ONCE:
                waiting, keys = [_merged(waiting)], 0
    found = _merged(waiting)
    if not found.items.size:
        raise DataError("the train split has no impressions to count")
    return TrainingWindow(catalogue_size, item_ids=found.items, item_counts=found.counts, own_keys=found.keys)


class _Found(NamedTuple):
    """What part of the split holds, each key and each item once."""

    keys: Int64Array = np.empty(0, np.int64)
    items: Int64Array = np.empty(0, np.int64)
    counts: Int64Array = np.empty(0, np.int64)


def _merged(parts: Sequence[_Found]) -> _Found:
    """Of all parts, keys and items rising."""
    keys, items, counts = (np.concatenate(values) for values in zip(*parts, strict=True))
    unique, place = np.unique(items, return_inverse=True)
    total = np.zeros(unique.size, np.int64)
    np.add.at(total, place, counts)
    return _Found(np.unique(keys), unique, total)


def _count_batch(features: dict[str, tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    positives = tf.ragged.boolean_mask(features[CANDIDATE_ITEM_ID], features[LABEL] > 0)
    items = tf.concat([positives.to_tensor(), features[HISTORY_ITEM_ID].to_tensor()], axis=1)
    # A batch holds a user many times.
    keys, _ = tf.unique(tf.boolean_mask(pair_key(features[USER_ID], items), items != PADDING_ID))
    positive, _, count = tf.unique_with_counts(positives.values, out_idx=tf.int64)
    return keys, positive, count
