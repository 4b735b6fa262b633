"""What is compared between data: counts of all events from ingest, and histories from TFDV's statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import Field
from tensorflow_metadata.proto.v0 import statistics_pb2

from ctr.components.examples.summary import IngestSummary
from ctr.models.impression import FEATURES, HISTORY_AGE
from ctr.models.section import Record

DISTRIBUTIONS_FILE: Final = "distributions.json"
"""In a ``DataApproval`` artifact, JSON of :class:`Distributions`: what the next data are compared with."""


class Cumulative(Record):
    """A cumulative distribution as points of a line."""

    values: tuple[float, ...]
    """Not falling; where one stands twice, the line jumps."""
    shares: tuple[float, ...]
    """Of what is at most so large, from 0 to 1."""


class SplitDistributions(Record):
    """Of one split."""

    events: int
    """Of the log, not impressions: these are chosen (``ingest.targets_per_user``), mostly from a split's end."""
    behaviors: dict[str, int]
    """Kind -> events."""
    hours: dict[int, int]
    """Unix time // 3600 -> events."""
    history_age: Cumulative | None
    """Of all events of all histories, seconds; None without any."""
    history_length: Cumulative | None
    """Of the histories that have an event; likewise."""
    declared: dict[str, Cumulative] = Field(default_factory=dict)
    """Of each declared feature that has values; categories in the order of their numbers."""


class Distributions(Record):
    """Of all data of a run."""

    splits: dict[str, SplitDistributions]


def distributions_of(
    summary: IngestSummary, statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]
) -> Distributions:
    """Gathers them.

    Args:
      summary: of the ingest.
      statistics: split -> of its impressions, as TFDV writes them.
    """
    splits = {}
    for split, of_split in statistics.items():
        numbers = {f.path.step[0]: f.num_stats for d in of_split.datasets for f in d.features if len(f.path.step) == 1}
        ages = numbers.get(HISTORY_AGE, statistics_pb2.NumericStatistics())
        declared = {name: _quantiles(numbers[name]) for name, f in FEATURES.items() if f.declared and name in numbers}
        splits[split] = SplitDistributions(
            events=summary.events[split],
            behaviors=summary.behaviors[split],
            hours=summary.hours[split],
            history_age=_quantiles(ages),
            history_length=_cumulative(ages.common_stats.num_values_histogram.buckets),
            declared={name: line for name, line in declared.items() if line is not None},
        )
    return Distributions(splits=splits)


def _quantiles(numbers: statistics_pb2.NumericStatistics) -> Cumulative | None:
    deciles = [each for each in numbers.histograms if each.type == statistics_pb2.Histogram.QUANTILES]
    return _cumulative(bucket for histogram in deciles for bucket in histogram.buckets)


def _cumulative(buckets: Iterable[statistics_pb2.Histogram.Bucket]) -> Cumulative | None:
    found = list(buckets)
    total = sum(bucket.sample_count for bucket in found)
    if not total:
        return None
    shares, so_far = [0.0], 0.0
    for bucket in found:
        so_far += bucket.sample_count
        shares.append(so_far / total)
    return Cumulative(values=(found[0].low_value, *(bucket.high_value for bucket in found)), shares=tuple(shares))
