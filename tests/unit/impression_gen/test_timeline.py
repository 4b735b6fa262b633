from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.counts import SECOND_COUNT, merge_counts
from ctr.components.impression_gen.timeline import AFTER_ALL, Timeline, make_timeline
from ctr.components.settings import IngestConfig


def seconds_of(times: list[int]) -> np.ndarray:
    records = np.ones(len(times), SECOND_COUNT)
    records["second"] = times
    return merge_counts(records)


@settings(deadline=None)
@given(
    times=st.lists(st.integers(0, 60), min_size=30, max_size=200),
    buckets=st.integers(1, 9),
    reach=st.integers(1, 40),
)
def test_boundaries_and_buckets(times: list[int], buckets: int, reach: int) -> None:
    ingest = IngestConfig(user_partitions=buckets, contemporaneous_events=reach)
    try:
        timeline = make_timeline(seconds_of(times), ingest)
    except ValueError:
        # Three consecutive stretches with events: not where too many are in one second.
        starts = [
            min((s for s in times if sum(t >= s for t in times) <= share * len(times)), default=None)
            for share in (0.2 + 0.1, 0.2)
        ]
        assert None in starts or starts[0] == starts[1] or starts[0] == min(times)
        return
    n = len(times)
    for start, share in ((timeline.eval_start, 0.2), (timeline.validation_start, 0.2 + 0.1)):
        earliest = min(s for s in set(times) if sum(t >= s for t in times) <= share * n)
        assert start == earliest
    assert timeline.buckets(np.array(times)).min() >= 0
    for t in set(times):
        bucket = int(timeline.buckets(np.array([t]))[0])
        assert timeline.bucket_starts[bucket] <= t
        seen = [u for u in times if timeline.bucket_starts[bucket] <= u < timeline.bucket_ends[bucket]]
        wanted = sorted(u for u in times if u > t)[:reach]
        # All events of the last second needed, so that the order within it can be decided.
        needed = [u for u in times if wanted and t < u <= wanted[-1]]
        assert sorted(u for u in seen if t < u <= (wanted[-1] if wanted else t)) == sorted(needed)
    sent = [
        (int(b), times[i])
        for index, bucket in timeline.buckets_reached(np.array(times))
        for i, b in zip(index, bucket, strict=True)
    ]
    ranges = list(zip(timeline.bucket_starts, timeline.bucket_ends, strict=True))
    assert sorted(sent) == sorted((b, t) for b, (start, end) in enumerate(ranges) for t in times if start <= t < end)


def test_splits() -> None:
    timeline = Timeline(
        validation_start=10, eval_start=20, bucket_starts=(0, 15), bucket_ends=(12, AFTER_ALL), busiest_second=0.1
    )
    times = np.array([9, 10, 19, 20, 99])
    assert timeline.splits(times).tolist() == [0, 1, 1, 2, 2]
    assert timeline.split_ends(times).tolist() == [10, 20, 20, AFTER_ALL, AFTER_ALL]
    assert timeline.buckets(np.array([0, 14, 15])).tolist() == [0, 0, 1]
    assert Timeline.model_validate_json(timeline.model_dump_json()) == timeline


def test_an_empty_split_is_named() -> None:
    with pytest.raises(ValueError, match="8 events in 2 distinct seconds leave nothing for validation and eval"):
        make_timeline(seconds_of([1] * 4 + [2] * 4), IngestConfig())
