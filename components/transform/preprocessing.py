"""The preprocessing function: ids to indices, in training and in serving alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from ctr.models.impression import FEATURES, FIRST_KNOWN_INDEX, UNKNOWN_INDEX

_VOCABULARY_OF: Final = {"item": ITEM_VOCABULARY, "category": CATEGORY_VOCABULARY}


def preprocessing_fn(inputs: Mapping[str, Any], vocabulary_files: Mapping[str, str]) -> dict[str, Any]:
    """Passes every raw feature on and adds the index of each item and category id.

    The vocabularies are counted over events by ingest (once for an event, not once for each history that
    shows it) and come as files, so no pass over the impressions is needed to learn them.

    Args:
      inputs: raw impressions: [B, ?] int64 ``tf.SparseTensor`` for histories and candidates.
      vocabulary_files: vocabulary name -> path of its file.
    """
    outputs = dict(inputs)
    for feature in FEATURES.values():
        if feature.ids is None:
            continue
        vocabulary = _VOCABULARY_OF[feature.ids]
        tft.annotate_asset(vocabulary, f"{vocabulary}.txt")
        rank = tft.apply_vocabulary(inputs[feature.name], vocabulary_files[vocabulary], default_value=-1)
        outputs[feature.index] = tf.sparse.map_values(_index_of_rank, rank)
    return outputs


def _index_of_rank(rank: tf.Tensor) -> tf.Tensor:
    return tf.where(rank >= 0, rank + FIRST_KNOWN_INDEX, tf.constant(UNKNOWN_INDEX, tf.int64))
