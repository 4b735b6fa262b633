"""Drift and skew of generated logs, and the formulas against other implementations."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from declared_impressions import declared
from pydantic import ValidationError
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp
from tensorflow_metadata.proto.v0 import statistics_pb2

from ctr.components.anomaly_gate.distributions import (
    Cumulative,
    Distributions,
    SplitDistributions,
    distributions_of,
)
from ctr.components.anomaly_gate.drift import DriftError, by_hour, compare, jensen_shannon, stop_on_drift
from ctr.components.drift import Comparison, DriftReport
from ctr.components.examples.summary import IngestSummary, key, summarise
from ctr.components.settings import StatisticsConfig
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig
from ctr.models.impression import SPLITS
from ctr.pipeline.settings.pipeline_config import load_preset

Rows = list[tuple[str, int]]
"""Behaviour and time, in order of time."""
DAY = 86_400
SHANGHAI = ZoneInfo("Asia/Shanghai")


def line(values: Any) -> Cumulative:
    """As TFDV's ten quantiles give it."""
    return Cumulative(
        values=tuple(np.quantile(values, np.linspace(0, 1, 11)).tolist()), shares=tuple(np.linspace(0, 1, 11).tolist())
    )


def distributions(rows: Rows, lengths: Any = range(51), ages: Any = range(1, 10_000)) -> Distributions:
    """Of a log, as ingest splits it."""
    ends = [0, int(0.7 * len(rows)), int(0.8 * len(rows)), len(rows)]
    return Distributions(
        splits={
            split: SplitDistributions(
                events=len(part),
                behaviors=dict(Counter(behavior for behavior, _ in part)),
                hours=dict(Counter(second // 3600 for _, second in part)),
                history_age=line(ages),
                history_length=line(lengths),
            )
            for split, part in ((name, rows[ends[i] : ends[i + 1]]) for i, name in enumerate(SPLITS))
        }
    )


def found(report: DriftReport, kind: str, feature: str, split: str = "eval") -> Comparison:
    (each,) = (c for c in report.comparisons if (c.kind, c.feature, c.split) == (kind, feature, split))
    return each


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Rows]:
    """Two logs of different users."""
    logs = []
    for seed in (1, 2):
        path = tmp_path_factory.mktemp("log") / "log.csv"
        generate(GeneratorConfig(users=700, seed=seed), path)
        rows = [text.split(",") for text in path.read_text().splitlines()]
        logs.append(sorted(((row[3], int(row[4])) for row in rows), key=lambda row: row[1]))
    return logs


def judged(rows: Rows, before: Rows | None = None, *settings: str) -> DriftReport:
    config = load_preset("demo", list(settings)).statistics
    return compare(distributions(rows), distributions(before) if before else None, config, SHANGHAI, "approvals/1")


def test_a_next_span_like_the_last_one_passes(nights: list[Rows]) -> None:
    report = judged(nights[1], nights[0])
    stop_on_drift(report)
    assert {each.state for each in report.comparisons} <= {"within", "not_compared"}
    # Validation has less than statistics.min_events.
    assert {c.split for c in report.of_state("not_compared")} == {"validation"}
    assert "7," in found(report, "drift", "hour", "validation").words
    assert found(report, "drift", "behavior", "validation").state == "within"
    assert len(report.comparisons) == 4 * (len(SPLITS) + 1)


def test_a_first_span_is_held_against_its_own_train_split_alone(nights: list[Rows]) -> None:
    report = judged(nights[0])
    stop_on_drift(report)
    assert {(each.kind, each.split, each.state) for each in report.comparisons} == {("skew", "eval", "within")}


@pytest.mark.parametrize("hours", [3, 8, -5])
def test_a_clock_that_was_moved_stops_the_run(nights: list[Rows], hours: int) -> None:
    """Each time is one that may be: no range of the schema is broken."""
    moved = [(behavior, second + 3600 * hours) for behavior, second in nights[1]]
    report = judged(moved, nights[0])
    with pytest.raises(DriftError) as raised:
        stop_on_drift(report)
    for split in ("train", "eval"):
        each = found(report, "drift", "hour", split)
        assert each.state == "stopped"
        assert f"  {each.words}\n" in str(raised.value)
        assert f"drift of hour, split {split} against the last approved {split}: " in each.words
        assert f"is {each.value:.3f}; statistics.drift.hour.stop is 0.06." in each.words
        assert f"With a clock that is {hours:+d} h off it would be 0.0" in each.words
    # All of it was moved alike.
    assert found(report, "skew", "hour").state == "within"


def test_a_clock_that_was_moved_within_a_log_stops_a_first_run(nights: list[Rows]) -> None:
    cut = nights[0][int(0.8 * len(nights[0]))][1]
    moved = [(behavior, second + 8 * 3600 * (second >= cut)) for behavior, second in nights[0]]
    report = judged(moved)
    with pytest.raises(
        DriftError, match=r"skew of hour, split eval against train: .*; statistics\.skew\.hour\.stop is"
    ):
        stop_on_drift(report)


@pytest.mark.parametrize("kept", [0, 0.2])
def test_a_behaviour_that_is_lost_or_collapses_stops_the_run(nights: list[Rows], kept: float) -> None:
    rng = np.random.default_rng(0)
    fewer = [row for row in nights[1] if row[0] != "buy" or rng.random() < kept]
    report = judged(fewer, nights[0])
    with pytest.raises(DriftError, match=r"statistics\.drift\.behavior\.stop is 0\.7\. buy is 0"):
        stop_on_drift(report)
    each = found(report, "drift", "behavior", "train")
    assert each.value == pytest.approx(1 - kept, abs=0.1)
    assert judged(fewer, nights[0], "statistics.drift.behavior.stop=null").of_state("stopped") == ()


def test_lesser_drift_is_reported_and_stops_nothing(nights: list[Rows]) -> None:
    rng = np.random.default_rng(0)
    fewer = [row for row in nights[1] if row[0] != "fav" or rng.random() < 0.5]
    report = judged(fewer, nights[0])
    stop_on_drift(report)
    each = found(report, "drift", "behavior", "train")
    assert (each.state, each.bound, each.setting) == ("reported", 0.3, "statistics.drift.behavior.report")
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_longer_and_older_histories_are_reported(nights: list[Rows]) -> None:
    before, now = distributions(nights[0]), distributions(nights[0], lengths=range(20, 51), ages=range(1, 99_000))
    report = compare(now, before, StatisticsConfig(), SHANGHAI)
    stop_on_drift(report)
    for feature in ("history_age", "history_length"):
        assert found(report, "drift", feature).state == "reported"
        assert found(report, "skew", feature).value == 0


def test_a_log_of_some_users_or_of_few_hours_is_not_compared(nights: list[Rows]) -> None:
    few = nights[0][::50]
    hours = found(judged(few, few), "drift", "hour")
    assert (hours.state, hours.value, hours.bound) == ("not_compared", None, None)
    assert "less than statistics.min_events (10,000)" in hours.words
    short = [(behavior, second - second % DAY // 8) for behavior, second in nights[0]]
    report = judged([row for row in short if row[1] < short[0][1] + DAY // 4], nights[0], "statistics.min_events=1")
    assert "whole hours of the day are in both; 12 are needed" in found(report, "drift", "hour").words
    assert "no behaviour is expected 100 times" in found(judged(few[:90], nights[0]), "drift", "behavior").words


def test_hours_of_the_day_are_the_zones_and_means_over_whole_ones() -> None:
    first = 1_511_539_200 // 3600
    # Local midnight of 25 November; two days, of which the second has twice the events, from 00 to 05 o'clock on day 3.
    events = {first + hour: (1 + hour // 24) * (10 + hour % 24) for hour in range(48)} | {first + 48 + 5: 7}
    rates = by_hour(events, SHANGHAI)
    assert rates[0] == (2 * 10 + 0) / 2, "the first hour is cut, the one of the third day has no event"
    assert rates[12] == 1.5 * 22
    # In Kolkata a whole hour of UTC begins half past: it counts as the hour that it begins in.
    assert by_hour(events, ZoneInfo("Asia/Kolkata"))[9] == rates[12]
    assert np.isnan(by_hour({first: 5, first + 1: 5}, SHANGHAI)).all()
    assert np.isnan(by_hour({}, SHANGHAI)).all()
    assert np.flatnonzero(~np.isnan(by_hour({first: 1, first + 3: 1}, SHANGHAI))).tolist() == [1, 2]


def test_the_formulas_are_scipys() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.random(24), rng.random(24) * (rng.random(24) > 0.2)
    assert jensen_shannon(one, other) == pytest.approx(jensenshannon(one, other, base=2) ** 2)
    assert jensen_shannon(one, 7 * one) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    lengths = rng.integers(1, 40, 5000), np.minimum(rng.integers(1, 60, 5000), 40)
    now, before = (
        distributions([("pv", 3600 * i) for i in range(100)], lengths=each, ages=range(1, 9)) for each in lengths
    )
    report = compare(now, before, StatisticsConfig(min_events=1), SHANGHAI)
    # Deciles know the distributions up to a tenth between them.
    assert found(report, "drift", "history_length").value == pytest.approx(ks_2samp(*lengths).statistic, abs=0.05)


def test_distributions_are_those_of_tfdv_and_of_ingest() -> None:
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    feature = statistics.datasets.add(num_examples=10).features.add()
    feature.path.step.append("history_age")
    lengths = feature.num_stats.common_stats.num_values_histogram.buckets
    for low, high in ((1, 8), (8, 50), (50, 50), (50, 50)):
        lengths.add(low_value=low, high_value=high, sample_count=2.5)
    feature.num_stats.histograms.add(type=statistics_pb2.Histogram.STANDARD).buckets.add(high_value=9, sample_count=1)
    quantiles = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES).buckets
    quantiles.add(low_value=1, high_value=600, sample_count=5)
    quantiles.add(low_value=600, high_value=9000, sample_count=5)
    totals = {key("events", "eval"): 7, key("behaviors", "eval", "buy"): 7, key("hours", "eval", "420000"): 7}
    summary: IngestSummary = summarise(["log.csv"], totals, (1, 2))
    evaluated = distributions_of(summary, {"eval": statistics}).splits["eval"]
    assert (evaluated.events, evaluated.behaviors["buy"], evaluated.hours) == (7, 7, {420_000: 7})
    assert evaluated.history_age == Cumulative(values=(1, 600, 9000), shares=(0, 0.5, 1))
    assert evaluated.history_length == Cumulative(values=(1, 8, 50, 50, 50), shares=(0, 0.25, 0.5, 0.75, 1))
    nothing = distributions_of(summary, {"eval": statistics_pb2.DatasetFeatureStatisticsList()}).splits["eval"]
    assert nothing.history_age is nothing.history_length is None
    now, before = (Distributions(splits={"eval": each}) for each in (nothing, evaluated))
    age = found(compare(now, before, StatisticsConfig(min_events=1), SHANGHAI), "drift", "history_age")
    assert age.words.endswith("split eval against the last approved eval: not compared, one of them has no histories.")


def test_a_declared_feature_is_compared_like_ages() -> None:
    def of_prices(*deciles: float) -> Distributions:
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        feature = statistics.datasets.add().features.add()
        feature.path.step.append("candidate_price")
        buckets = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES).buckets
        for low, high in itertools.pairwise(deciles):
            buckets.add(low_value=low, high_value=high, sample_count=100)
        return distributions_of(summarise(["log.csv"], {key("events", "eval"): 100}, (1, 2)), {"eval": statistics})

    with declared():
        before, alike, moved = of_prices(0, 1, 2, 3, 4), of_prices(0, 1, 2, 3, 4), of_prices(2, 3, 4, 5, 6)
    config = StatisticsConfig(min_events=1)
    of = [found(compare(n, before, config, SHANGHAI), "drift", "candidate_price") for n in (alike, moved)]
    assert [(each.value, each.state) for each in of] == [(0, "within"), (0.5, "reported")]
    assert "drift of candidate_price" in of[1].words
    assert of[1].setting == "statistics.drift.declared.report"
    assert not of_prices(0, 1).splits["eval"].declared, "of a feature that is not declared"


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"stop \(0.01\) must not be below report \(0.03\)"):
        StatisticsConfig.model_validate({"drift": {"hour": {"stop": 0.01}}})
    assert StatisticsConfig.model_validate({"skew": {"hour": {"stop": 0.5}}}).skew.hour.report == 0.03


@pytest.mark.slow
def test_the_last_approval_is_of_before_the_statistics_and_still_there(tmp_path: Path) -> None:
    from tfx.types.standard_artifacts import ExampleStatistics

    from ctr.components.anomaly_gate.component import LastApprovalStrategy
    from ctr.components.artifacts import DataApproval

    statistics = ExampleStatistics()
    statistics.id = 10
    approvals = []
    for number in (3, 7, 8, 12):
        approval = DataApproval()
        approval.id, approval.uri = number, str(tmp_path / str(number))
        if number != 8:
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "distributions.json").write_text("{}")
        approvals.append(approval)

    def chosen(there: list[Any]) -> list[int]:
        resolved = LastApprovalStrategy().resolve_artifacts(None, {"statistics": [statistics], "approval": there})
        assert resolved["statistics"] == []
        return [each.id for each in resolved["approval"]]

    assert chosen(approvals) == chosen(approvals[::-1]) == [7], "8 was removed, 12 is of this run or of a later one"
    assert chosen(approvals[3:]) == chosen([]) == []
