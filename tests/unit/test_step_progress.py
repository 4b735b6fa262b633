from __future__ import annotations

import logging

import pytest

from ctr.components.progress import Counter, said, say


def test_a_counter_speaks_soon_and_then_ever_less_often() -> None:
    now = 0.0
    lines: list[tuple[float, str]] = []
    counter = Counter(
        "Evaluator", "impressions", "scored", report=lambda _, line: lines.append((now, line)), clock=lambda: now
    )
    for half_seconds in range(1, 121):
        now = half_seconds / 2
        counter.add(1000)
    assert [second for second, _ in lines] == [1, 2, 4, 8, 16, 26, 36, 46, 56]
    assert lines[1][1] == "0:02: 4,000 impressions scored, 2,000 impressions/s"
    assert lines[-1][1].startswith("0:56: 112,000 impressions")


def test_what_a_step_says_is_read_back(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("absl").setLevel(logging.INFO)
    with caplog.at_level(logging.INFO):
        say("Evaluator", "0:02: 4,000 impressions scored: so far")
    (record,) = caplog.records
    assert said(record.getMessage()) == ("Evaluator", "0:02: 4,000 impressions scored: so far")
    assert said("Progress was made") is None
