"""What samplers need to know of the training window, read from its transformed examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import tensorflow as tf

from models.impression import CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, PADDING_ID, USER_ID
from models.samplers.base import TrainingWindow
from models.samplers.hashing import pair_key

_BATCH_SIZE: Final = 4096
_FILES_AT_ONCE: Final = 8
_KEYS_AT_ONCE: Final = 20_000_000
"""Keys collected before repetitions are dropped: at most 160 MB besides what is kept."""


def read_window(files: Sequence[str], catalogue_size: int) -> TrainingWindow:
    """One pass over the training split.

    The user's own items are those of all stored histories and all positives. Memory: 8 bytes for each user and item
    that met, 16 for each item.

    Args:
      files: transformed examples of the train split, TFRecord gzip, each positive first.
      catalogue_size: items that uniform negatives were drawn from.

    Raises:
      ValueError: if there is no impression.
    """
    records = tf.data.Dataset.from_tensor_slices(sorted(files)).interleave(
        lambda name: tf.data.TFRecordDataset(name, compression_type="GZIP"),
        cycle_length=min(max(len(files), 1), _FILES_AT_ONCE),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    batches = records.batch(_BATCH_SIZE).map(_keys_and_positives, num_parallel_calls=tf.data.AUTOTUNE)
    own, keys, waiting = np.empty(0, np.int64), [], 0
    counts: dict[int, int] = {}
    for batch_keys, positives in batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        for item, count in zip(*np.unique(positives, return_counts=True), strict=True):
            counts[int(item)] = counts.get(int(item), 0) + int(count)
        keys.append(batch_keys)
        waiting += len(batch_keys)
        if waiting > _KEYS_AT_ONCE:
            own, keys, waiting = np.unique(np.concatenate([own, *keys])), [], 0
    if not counts:
        raise ValueError("the train split has no impressions to count")
    items = np.array(sorted(counts), np.int64)
    return TrainingWindow(
        catalogue_size=catalogue_size,
        item_ids=items,
        item_counts=np.array([counts[item] for item in items.tolist()], np.int64),
        own_keys=np.unique(np.concatenate([own, *keys])),
    )


def _keys_and_positives(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    names = (USER_ID, HISTORY_ITEM_ID, CANDIDATE_ITEM_ID)
    ragged = {name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in names}
    features = tf.io.parse_example(serialized, ragged)
    positives = features[CANDIDATE_ITEM_ID][:, :1].to_tensor(shape=[None, 1])
    items = tf.concat([positives, features[HISTORY_ITEM_ID].to_tensor()], axis=1)
    users = features[USER_ID].to_tensor(shape=[None, 1])
    # A batch holds a user many times.
    keys, _ = tf.unique(tf.boolean_mask(pair_key(users, items), items != PADDING_ID))
    return keys, positives[:, 0]
