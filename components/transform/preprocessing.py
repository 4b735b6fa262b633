"""The preprocessing function: ids to indices and declared values to codes, in training and in serving alike."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from ctr.components.transform.analysis import vocabulary_of
from ctr.models.impression import (
    FEATURES,
    FIRST_CODE,
    FIRST_KNOWN_INDEX,
    LOG_CODES,
    NO_CODE,
    UNKNOWN_CODE,
    UNKNOWN_INDEX,
    Encoding,
)

_VOCABULARY_OF: Final = {"item": ITEM_VOCABULARY, "category": CATEGORY_VOCABULARY}
_POWERS_OF_TWO: Final = tuple(2.0**power - 1 for power in range(1, LOG_CODES))
_SPREAD: Final = -0x61C8864680B583EB
"""2^64 over the golden ratio, as int64 (Knuth, The Art of Computer Programming, volume 3, 6.4)."""


def preprocessing_fn(
    inputs: Mapping[str, Any],
    vocabulary_files: Mapping[str, str],
    quantiles: Mapping[str, tuple[float, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Passes every raw feature on and adds the index of each item and category id, and the code of what is declared.

    The vocabularies of ids are counted over events by ingest (once for an event, not once for each history that shows
    it), those of declared features by ``analysis.py``. All come as files, so no pass over the impressions is needed to
    learn them.

    Args:
      inputs: raw impressions: [B, ?] int64 or float32 ``tf.SparseTensor``.
      vocabulary_files: vocabulary name -> path of its file.
      quantiles: declared name -> boundaries.
    """
    outputs = dict(inputs)
    for feature in FEATURES.values():
        if feature.ids is not None:
            rank = _rank(inputs[feature.name], _VOCABULARY_OF[feature.ids], vocabulary_files)
            outputs[feature.index] = tf.sparse.map_values(_index_of_rank, rank)
        elif feature.encoding is not None:
            values = inputs[feature.name]
            outputs[feature.index] = _code(feature.declared, feature.encoding, values, vocabulary_files, quantiles)
    return outputs


def _rank(ids: Any, vocabulary: str, files: Mapping[str, str]) -> Any:
    tft.annotate_asset(vocabulary, f"{vocabulary}.txt")
    return tft.apply_vocabulary(ids, files[vocabulary], default_value=-1)


def _index_of_rank(rank: tf.Tensor) -> tf.Tensor:
    return tf.where(rank >= 0, rank + FIRST_KNOWN_INDEX, tf.constant(UNKNOWN_INDEX, tf.int64))


def _code(
    declared: str,
    encoding: Encoding,
    values: Any,
    files: Mapping[str, str],
    quantiles: Mapping[str, tuple[float, ...]],
) -> Any:
    """As :class:`ctr.models.impression.Encoding` says: [B, ?] int64."""
    if encoding.kind == "vocabulary":
        rank = _rank(values, vocabulary_of(declared), files)
        known = tf.where(rank.values >= 0, rank.values + FIRST_CODE, tf.constant(UNKNOWN_CODE, tf.int64))
        return values.with_values(_unless_missing(values.values, known))
    if encoding.kind == "hash":
        return values.with_values(_unless_missing(values.values, 1 + _bucket(values.values, encoding.size)))
    boundaries = {"log": _POWERS_OF_TWO, "buckets": encoding.boundaries}.get(encoding.kind)
    return values.with_values(_place(values.values, quantiles[declared] if boundaries is None else boundaries))


def _unless_missing(category: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    return tf.where(category == 0, tf.constant(NO_CODE, tf.int64), code)


def _bucket(values: tf.Tensor, size: int) -> tf.Tensor:
    # Whole numbers that follow one another, or have a divisor in common with the size, are spread, too.
    spread = values * tf.constant(_SPREAD, tf.int64)
    return tf.math.floormod(tf.bitwise.bitwise_xor(spread, tf.bitwise.right_shift(spread, 32)), size)


def _place(values: tf.Tensor, boundaries: tuple[float, ...]) -> tf.Tensor:
    numbers = tf.cast(values, tf.float32)
    return 1 + tf.cast(tf.raw_ops.Bucketize(input=numbers, boundaries=list(boundaries)), tf.int64)
