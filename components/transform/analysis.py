"""What codes of declared features are learnt from: the train split, and there each value once.

An item stands in many histories, and an event in each later one of its user. So a feature that candidates have is
counted over the candidates, one of the impression over the impressions, and one that only histories have over the
newest event of each: an event is that of one impression, the one after it.

Counts are exact. Of a quantile's numbers 12 bits of the mantissa are kept, so that they are few: a boundary is right to
0.03 %, whole numbers up to 4096 exactly. Neither depends on the order of the shards, nor on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf

from ctr.components.examples.impressions import parse, records
from ctr.components.files import create_file
from ctr.models.arrays import Array
from ctr.models.impression import FEATURES, Encoding, Feature, declare_features, declared_features, from_plain

_BATCH: Final = 4096
_MANTISSA: Final = np.uint32(0xFFFFF000)

Counts = dict[str, tuple[Array, Array]]
"""Declared name -> values, rising, and how often each stands there."""


class Learnt(NamedTuple):
    """What the train split says of declared features."""

    vocabularies: Mapping[str, Array]
    """Name of the vocabulary -> int64 values, the most frequent first, ties by the smaller one."""
    quantiles: Mapping[str, tuple[float, ...]]
    """Declared name -> boundaries, rising."""


def vocabulary_of(declared: str) -> str:
    """The name of a declared feature's vocabulary, an asset of the transform graph."""
    return f"feature_{declared}"


def counted() -> dict[str, list[Feature]]:
    """Declared name, of those whose codes are learnt -> the rows that are counted."""
    rows: dict[str, list[Feature]] = {}
    for feature in FEATURES.values():
        if feature.encoding and feature.encoding.is_learnt:
            rows.setdefault(feature.declared, []).append(feature)
    return {name: [each for each in several if each.group != "history"] or several for name, several in rows.items()}


def learn(counts: Counts) -> Learnt:
    """Of the counts of the whole train split."""
    vocabularies, quantiles = {}, {}
    encodings = {feature.declared: feature.encoding for feature in FEATURES.values() if feature.encoding}
    for name in counted():
        if encodings[name].kind == "vocabulary":
            vocabularies[vocabulary_of(name)] = _vocabulary(*counts[name], encodings[name])
        else:
            quantiles[name] = _quantiles(*counts[name], encodings[name].size)
    return Learnt(vocabularies, quantiles)


def _vocabulary(values: Array, numbers: Array, encoding: Encoding) -> Array:
    kept = numbers >= encoding.min_count
    values, numbers = values[kept], numbers[kept]
    most = values[np.lexsort((values, -numbers))][: encoding.size]
    # A table needs some line; 0 is no category, and never looked up.
    return most if most.size else np.zeros(1, np.int64)


def _quantiles(values: Array, numbers: Array, size: int) -> tuple[float, ...]:
    ends = np.cumsum(numbers)
    if not ends.size:
        return ()
    places = ends[-1] * np.arange(1, size) // size
    found = np.unique(values[np.searchsorted(ends, places, side="right")])
    # Nothing lies below the smallest value.
    return tuple(map(float, found[found > values[0]]))


def count(features: Mapping[str, tf.RaggedTensor]) -> Counts:
    """Of the impressions of a batch, as ``impressions.parse`` gives them."""
    counts = {}
    for name, rows in counted().items():
        parts = [features[row.name][:, -1:] if row.group == "history" else features[row.name] for row in rows]
        values = np.concatenate([part.values.numpy() for part in parts])
        if rows[0].dtype == "float":
            # -0 is 0.
            values = ((values + np.float32(0)).view(np.uint32) & _MANTISSA).view(np.float32)
        else:
            values = values[values != 0]
        counts[name] = np.unique(values, return_counts=True)
    return counts


def merged(several: Iterable[Counts]) -> Counts:
    """Of all their impressions."""
    parts = [each for each in several if each]
    whole: Counts = {}
    for name in parts[0] if parts else ():
        values, places = np.unique(np.concatenate([part[name][0] for part in parts]), return_inverse=True)
        numbers = np.concatenate([part[name][1] for part in parts])
        whole[name] = values, np.bincount(places, numbers, values.size).astype(np.int64)
    return whole


class CountShard(beam.DoFn):
    """Path of a shard of raw impressions -> its counts."""

    def __init__(self) -> None:
        self._declared = declared_features()

    def setup(self) -> None:
        """Makes the declared features known to the worker."""
        declare_features(map(from_plain, self._declared))

    def process(self, path: str) -> Iterator[Counts]:
        """Counts one shard."""
        names = [row.name for rows in counted().values() for row in rows]
        batches = records([path]).batch(_BATCH).map(lambda batch: parse(batch, names)).prefetch(1)
        yield merged(count(features) for features in batches)


def analyse(pipeline: beam.Pipeline, shards: Sequence[str], file: str) -> None:
    """Counts the train split, to a file that :func:`read_counts` reads."""
    _ = (
        pipeline
        | "Train" >> beam.Create(sorted(shards))
        | "Count" >> beam.ParDo(CountShard())
        | "Merge" >> beam.CombineGlobally(merged)
        | "Write" >> beam.Map(_write, file)
    )


def _write(counts: Counts, file: str) -> None:
    arrays: dict[str, Any] = {}
    for name, (values, numbers) in counts.items():
        arrays |= {f"{name}.values": values, f"{name}.counts": numbers}
    with closing(create_file(file)) as opened:
        np.savez(opened, **arrays)


def read_counts(file: str) -> Counts:
    """What :func:`analyse` wrote; nothing where no impression has a value."""
    nothing = np.zeros(0, np.int64)
    with tf.io.gfile.GFile(file, "rb") as opened, np.load(opened) as arrays:
        found = dict(arrays)
    return {name: (found.get(f"{name}.values", nothing), found.get(f"{name}.counts", nothing)) for name in counted()}
