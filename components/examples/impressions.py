"""Reads transformed impressions in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import tensorflow as tf

from models.impression import (
    CANDIDATE_CATEGORY_INDEX,
    CANDIDATE_ITEM_INDEX,
    LABEL,
    NEGATIVE_SET,
    PADDING_ID,
    REQUEST_FEATURES,
)

BATCH_SIZE: Final = 512
"""Impressions compared at a time: 20 MB a feature at 10 candidates and histories of 1000."""

_INT_FEATURES: Final = (*REQUEST_FEATURES, CANDIDATE_ITEM_INDEX, CANDIDATE_CATEGORY_INDEX, LABEL)
_SPEC: Final = {
    NEGATIVE_SET: tf.io.FixedLenFeature([], tf.string),
    **{name: tf.io.RaggedFeature(tf.int64) for name in _INT_FEATURES},
}


@dataclass(frozen=True)
class Batch:
    """B impressions.

    Attributes:
      negative_set: [B] bytes.
      features: name -> [B, T] or [B, N] int64, right-padded with 0.
    """

    negative_set: np.ndarray
    features: dict[str, tf.Tensor]

    @property
    def real(self) -> np.ndarray:
        """[B, N] bool: a candidate, not padding."""
        return self.features[REQUEST_FEATURES[-1]].numpy() != PADDING_ID

    def pairs(self, feature: str) -> np.ndarray:
        """[pairs] int64: a candidate feature without padding, impression by impression."""
        return self.features[feature].numpy()[self.real]


def read(files: Sequence[str]) -> Iterator[np.ndarray]:
    """Serialized impressions, [<= BATCH_SIZE] bytes a time, in the order of the files (gzipped TFRecord)."""
    dataset = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP").batch(BATCH_SIZE)
    yield from dataset.as_numpy_iterator()


def parse(serialized: np.ndarray) -> Batch:
    """Parses [B] serialized impressions.

    Raises:
      ValueError: if candidates and labels of an impression differ in number.
    """
    parsed = tf.io.parse_example(tf.constant(serialized), _SPEC)
    candidates = parsed[REQUEST_FEATURES[-1]].row_lengths()
    for name in (LABEL, CANDIDATE_ITEM_INDEX, CANDIDATE_CATEGORY_INDEX):
        wrong = np.flatnonzero(parsed[name].row_lengths() != candidates)
        if wrong.size:
            row = int(wrong[0])
            raise ValueError(
                f"{name}: {int(parsed[name].row_lengths()[row])} values for {int(candidates[row])} candidates, "
                f"in row {row} of a batch; was the split written by Transform?"
            )
    return Batch(
        negative_set=parsed[NEGATIVE_SET].numpy(), features={name: parsed[name].to_tensor() for name in _INT_FEATURES}
    )
