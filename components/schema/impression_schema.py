"""The schema of raw impressions, made from the settings that the impressions are made with.

Every feature is of variable length, so that parsing gives sparse tensors and an empty history is data, not an
anomaly. (A split in which every history is empty is one: TFDV takes the smallest of no values to be 0.)

Domains are stated as ranges because a drift comparator needs statistics of an earlier run, which ExampleValidator
is not given, and the infinity norm of a numeric feature is silently 0 (TFDV issue 147).

What a request does not carry is not in the environment SERVING. The lengths bound what is stored, not requests:
those may have longer histories and more candidates.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tensorflow_metadata.proto.v0 import schema_pb2

from ctr.components.settings import WINDOW_SETTINGS, IngestConfig
from ctr.models import impression as names
from ctr.models.declared import Declared
from ctr.models.registration import Plugin
from ctr.models.section import Section

SERVING: Final = "SERVING"
TRAINING: Final = "TRAINING"

_TYPES: Final = {"int64": schema_pb2.INT, "float": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}


class Ranges(Section):
    """What ``ingest`` says of the impressions that it stores, and no other of its settings."""

    history_length: int
    """Most events of a history."""
    candidates: int
    """Most candidates of an impression."""
    negative_sets: tuple[str, ...]
    """Values of ``negative_set``."""
    plugins: tuple[Plugin, ...] = ()
    """Modules that register features."""
    features: Declared = ()
    """Rows that the log's description declares."""

    @classmethod
    def of(cls, ingest: IngestConfig) -> Ranges:
        """The ranges of what these settings store."""
        candidates = 1 + max(ingest.training_negatives.total, ingest.evaluation_negatives)
        if ingest.exposures:
            candidates = max(ingest.exposures + ingest.training_negatives.total, 1 + ingest.evaluation_negatives)
        return cls(
            history_length=ingest.history_length + ingest.candidate_in_history,
            candidates=1 if ingest.flip_labels else candidates,
            negative_sets=(names.MIXED, *ingest.evaluation_sets),
            plugins=tuple(names.feature_modules()),
            features=tuple(names.declared_features()),
        )


class _Count(NamedTuple):
    """How many values of a feature an impression has, and the settings that say so."""

    fewest: int
    most: int
    settings: tuple[str, ...] = ()


def impression_schema(ranges: Ranges, window: tuple[int, int]) -> schema_pb2.Schema:
    """The schema; where a range comes from settings, the feature's ``annotation.comment`` names them.

    Args:
      ranges: of the settings.
      window: first and last Unix second of the log.
    """
    first, last = window
    # Unlike that of a request, a stored event lies in the window.
    of_window = {
        names.TIMESTAMP: (first, last),
        names.HISTORY_AGE: (names.FEATURES[names.HISTORY_AGE].smallest, last - first),
    }
    shown = names.SHOWN in ranges.negative_sets
    most = "ingest.dataset.exposures.max_candidates" if shown else "ingest.evaluation_negatives"
    candidates = _Count(1, ranges.candidates, ("ingest.training_negatives", most))
    counts: dict[names.Group, _Count] = {
        "context": _Count(1, 1),
        "context_input": _Count(1, 1),
        "history": _Count(0, ranges.history_length, ("ingest.history_length",)),
        "candidate": candidates,
        "label": candidates,
    }
    schema = schema_pb2.Schema(default_environment=[TRAINING, SERVING])
    for feature in names.FEATURES.values():
        count = counts[feature.group]
        added = schema.feature.add(name=feature.name, type=_TYPES[feature.dtype])
        added.value_count.min, added.value_count.max = count.fewest, count.most
        if count.fewest > 0:
            added.presence.min_fraction, added.presence.min_count = 1.0, 1
        if feature.name not in names.REQUEST_FEATURES:
            added.not_in_environment.append(SERVING)
        if settings := (WINDOW_SETTINGS if feature.name in of_window else ()) + count.settings:
            added.annotation.comment.extend(settings)
        if feature.dtype == "int64":
            smallest, largest = of_window.get(feature.name, (feature.smallest, feature.largest))
            added.int_domain.min = smallest
            if largest != names.NO_BOUND:
                added.int_domain.max = largest
        if feature.dtype == "float":
            added.float_domain.disallow_nan = added.float_domain.disallow_inf = True
    (feature,) = (each for each in schema.feature if each.name == names.NEGATIVE_SET)
    feature.domain = names.NEGATIVE_SET
    feature.annotation.comment.append("ingest.evaluation_sets")
    schema.string_domain.add(name=names.NEGATIVE_SET, value=ranges.negative_sets)
    return schema
