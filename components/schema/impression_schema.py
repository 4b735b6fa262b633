"""The schema of raw impressions, made from the settings that the impressions are made with.

Every feature is of variable length, so that parsing gives sparse tensors and an empty history is data, not an
anomaly. (A split in which every history is empty is one: TFDV takes the smallest of no values to be 0.)

Domains are stated as ranges because a drift comparator needs statistics of an earlier run, which ExampleValidator
is not given, and the infinity norm of a numeric feature is silently 0 (TFDV issue 147).

What a request does not carry is not in the environment SERVING. The lengths bound what is stored, not requests:
those may have longer histories and more candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tensorflow_metadata.proto.v0 import schema_pb2

from components.settings import WINDOW_SETTINGS, IngestConfig
from models import impression as names
from models.model_config import Section

SERVING: Final = "SERVING"
TRAINING: Final = "TRAINING"

_NO_BOUND: Final = 2**63 - 1


class Ranges(Section):
    """What ``ingest`` says of the impressions that it stores, and no other of its settings."""

    history_length: int
    """Most events of a history."""
    candidates: int
    """Most candidates of an impression."""
    negative_sets: tuple[str, ...]
    """Values of ``negative_set``."""

    @classmethod
    def of(cls, ingest: IngestConfig) -> Ranges:
        """The ranges of what these settings store."""
        negatives = max(ingest.training_negatives.total, ingest.evaluation_negatives)
        return cls(
            history_length=ingest.history_length + ingest.candidate_in_history,
            candidates=1 if ingest.flip_labels else 1 + negatives,
            negative_sets=(names.MIXED, *ingest.evaluation_sets),
        )


class _Values(NamedTuple):
    """Of one feature: its smallest and largest value, and the settings that they come from."""

    smallest: int
    largest: int
    settings: tuple[str, ...] = ()


def impression_schema(ranges: Ranges, window: tuple[int, int]) -> schema_pb2.Schema:
    """The schema; where a range comes from settings, the feature's ``annotation.comment`` names them.

    Args:
      ranges: of the settings.
      window: first and last Unix second of the log.
    """
    first, last = window
    values = {name: _Values(*bounds) for name, bounds in names.VALUE_RANGES.items()} | {
        names.USER_ID: _Values(1, _NO_BOUND),
        names.TIMESTAMP: _Values(first, last, WINDOW_SETTINGS),
        # Unlike that of a request, a stored event lies in the window.
        names.HISTORY_AGE: _Values(names.VALUE_RANGES[names.HISTORY_AGE].minimum, last - first, WINDOW_SETTINGS),
        names.LABEL: _Values(0, 1),
    }
    length = ("ingest.history_length",)
    negatives = ("ingest.training_negatives", "ingest.evaluation_negatives")
    schema = schema_pb2.Schema(default_environment=[TRAINING, SERVING])
    for name in (names.USER_ID, names.TIMESTAMP):
        _add(schema, name, values[name], 1, 1)
    _add_names(schema, names.NEGATIVE_SET, ranges.negative_sets, "ingest.evaluation_sets")
    for name in names.HISTORY_FEATURES:
        _add(schema, name, values[name], 0, ranges.history_length, length)
    for name in (*names.CANDIDATE_FEATURES, names.LABEL):
        _add(schema, name, values[name], 1, ranges.candidates, negatives)
    return schema


def _add(
    schema: schema_pb2.Schema, name: str, values: _Values, fewest: int, most: int, settings: tuple[str, ...] = ()
) -> None:
    feature = _feature(schema, name, schema_pb2.INT, fewest, most)
    feature.int_domain.min = values.smallest
    if values.largest != _NO_BOUND:
        feature.int_domain.max = values.largest
    if settings := values.settings + settings:
        feature.annotation.comment.extend(settings)


def _add_names(schema: schema_pb2.Schema, name: str, values: Sequence[str], settings: str) -> None:
    feature = _feature(schema, name, schema_pb2.BYTES, 1, 1)
    feature.domain = name
    feature.annotation.comment.append(settings)
    schema.string_domain.add(name=name, value=values)


def _feature(
    schema: schema_pb2.Schema, name: str, kind: schema_pb2.FeatureType.ValueType, fewest: int, most: int
) -> schema_pb2.Feature:
    feature = schema.feature.add(name=name, type=kind)
    feature.value_count.min, feature.value_count.max = fewest, most
    if fewest > 0:
        feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
    if name not in names.REQUEST_FEATURES:
        feature.not_in_environment.append(SERVING)
    return feature
