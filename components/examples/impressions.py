"""Reads impressions, raw and transformed: the one place that knows how they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

from ctr.models.arrays import Array, Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_ITEM_ID, FEATURES, LABEL, NEGATIVE_SET, USER_ID

COMPRESSION: Final = "GZIP"
"""Of the TFRecord files."""
BATCH_SIZE: Final = 512
"""Impressions looked at a time; larger batches are no faster, and a feature of these takes 20 MB at 10 candidates and
histories of 1000."""


def records(files: Sequence[str], files_at_once: int | None = None) -> tf.data.Dataset:
    """Serialized impressions from TFRecord gzip, in the order of the files' names, or from several files in turn."""
    return tf.data.TFRecordDataset(sorted(files), COMPRESSION, num_parallel_reads=files_at_once)


def parse(serialized: tf.Tensor, names: Iterable[str]) -> dict[str, tf.RaggedTensor]:
    """[B] serialized impressions -> their features of these names, in a graph or outside of one.

    Returns:
      [B, ?] lists, int64, and float32 of features that are; of ``user_id`` [B, 1] int64, of ``negative_set`` [B]
      bytes.
    """
    alone = {USER_ID: tf.io.FixedLenFeature([1], tf.int64), NEGATIVE_SET: tf.io.FixedLenFeature([], tf.string)}
    spec = {name: alone.get(name, tf.io.RaggedFeature(dtype_of(name), row_splits_dtype=tf.int64)) for name in names}
    parsed: dict[str, tf.RaggedTensor] = tf.io.parse_example(serialized, spec)
    return parsed


def dtype_of(name: str) -> tf.DType:
    """Of the values of a raw feature, or of one that Transform derives."""
    return tf.float32 if name in FEATURES and FEATURES[name].dtype == "float" else tf.int64


def first_features(files: Sequence[str], count: int) -> Iterator[dict[str, list[Any]]]:
    """Of the first so many impressions, each feature by name; none of what are bytes."""
    for serialized in records(files).take(count).as_numpy_iterator():
        yield values_of(tf.train.Example.FromString(serialized))


def values_of(example: tf.train.Example) -> dict[str, list[Any]]:
    """The numbers of an impression, by feature."""
    return {
        name: list(feature.float_list.value or feature.int64_list.value)
        for name, feature in example.features.feature.items()
    }


class Impressions:
    """B labelled impressions.

    Args:
      features: as :func:`parse` gives them, ``candidate_item_id`` and ``label`` among them.
      of_candidates: further features that have a value a candidate.

    Raises:
      DataError: if candidates and labels of an impression differ in number.
    """

    def __init__(self, features: Mapping[str, tf.RaggedTensor], of_candidates: Sequence[str] = ()) -> None:
        self.features = features
        self.candidates: Array = features[CANDIDATE_ITEM_ID].row_lengths().numpy()
        """[B] how many."""
        for name in (LABEL, *of_candidates):
            found = features[name].row_lengths().numpy()
            if (wrong := np.flatnonzero(found != self.candidates)).size:
                row = wrong[0]
                raise DataError(
                    f"{name}: {found[row]} values for {self.candidates[row]} candidates, in row {row} of a batch; "
                    "was the split written by this pipeline?"
                )

    @property
    def negative_set(self) -> Array:
        """[B] bytes."""
        values: Array = self.features[NEGATIVE_SET].numpy()
        return values

    @property
    def real(self) -> Array:
        """[B, N] bool: a candidate, not padding."""
        real: Array = tf.sequence_mask(self.candidates).numpy()
        return real

    def padded(self, name: str) -> tf.Tensor:
        """[B, T] or [B, N] int64: a feature, right-padded with 0."""
        return self.features[name].to_tensor()

    def of_pairs(self, name: str) -> Array:
        """[pairs] int64: a candidate feature, impression by impression."""
        values: Array = self.features[name].values.numpy()
        return values

    def of_impressions(self, name: str) -> Int64Array:
        """[B] int64: a feature of the impression itself.

        Raises:
          DataError: if an impression has not one value of it.
        """
        feature = self.features[name]
        values: Int64Array = (feature.values if isinstance(feature, tf.RaggedTensor) else feature).numpy().reshape(-1)
        if values.size != self.candidates.size:
            raise DataError(
                f"{name}: {values.size} values in {self.candidates.size} impressions; was the split written by this "
                "version of the pipeline?"
            )
        return values

    def for_pairs(self, values: Array) -> Array:
        """[B] -> [pairs]: each impression's value for each of its candidates."""
        return np.repeat(values, self.candidates)
