from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctr.generator import compare
from ctr.generator.compare import auc, contemporaneous_pairs, evaluation_start, measure, read_log, recency
from ctr.generator.events import Events

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "UserBehavior_sample.csv.gz"


def _number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.fixture(scope="module")
def measured(log: Events) -> dict[str, str]:
    return measure(log)


def test_auc_equals_sklearns_with_ties_and_infinities() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(1, 9, 300) * 1.0, rng.integers(0, 7, 200) * 1.0
    labels = np.repeat([1, 0], [300, 200])
    assert auc(positive, negative) == pytest.approx(roc_auc_score(labels, np.concatenate([positive, negative])))
    never = np.where(positive < 3, -np.inf, positive)
    finite = np.where(positive < 3, -1e9, positive)
    assert auc(never, negative) == pytest.approx(roc_auc_score(labels, np.concatenate([finite, negative])))


def test_pairs_follow_the_protocol(log: Events) -> None:
    pairs = contemporaneous_pairs(log)
    cut = evaluation_start(log)
    assert np.mean(log.time < cut) == pytest.approx(0.8, abs=0.001)
    assert (log.time[pairs.row] >= cut).all()
    assert len(pairs.row) > 0.19 * len(log)
    by_time = np.argsort(log.time, kind="stable")
    touched = {(user, item) for user, item in zip(log.user.tolist(), log.item.tolist(), strict=True)}
    rng = np.random.default_rng(1)
    for pair in rng.integers(0, len(pairs.row), 200):
        row, item = pairs.row[pair], pairs.negative_item[pair]
        assert (log.user[row], item) not in touched
        after = by_time[np.searchsorted(log.time[by_time], log.time[row], side="right") :][: compare.NEGATIVE_EVENTS]
        match = after[log.item[after] == item]
        assert len(match) > 0
        assert pairs.negative_category[pair] in log.category[match]
        assert (log.user[match] != log.user[row]).all()


def test_recency_equals_a_loop_over_the_history(log: Events) -> None:
    rows = np.random.default_rng(2).integers(0, len(log), 300)
    value = log.category[rows]
    expected = []
    for row in rows:
        history = np.flatnonzero((log.user == log.user[row]) & (log.time < log.time[row]))[-compare.HISTORY :]
        ages = [log.time[row] - log.time[event] for event in history if log.category[event] == log.category[row]]
        expected.append(-float(min(ages)) if ages else -np.inf)
    assert recency(log, rows, value, log.category).tolist() == expected


def test_reading_leaves_out_what_is_not_a_row_of_the_window(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "2,5,7,pv,1511600001\r\n1,5,7,buy,1511600000\r\n1,5,7,pv\r\n1,5,7,click,1511600000\r\n"
        "x,5,7,pv,1511600000\r\n1,5,7,pv,-5\r\n1,5,7,pv,1500000000\r\n1,6,7,cart,1511600000\r\n"
    )
    log = read_log(path)
    assert log.user.tolist() == [1, 1, 2]
    assert log.item.tolist() == [5, 6, 5]
    assert log.behavior.tolist() == [4, 2, 1]


def test_a_log_without_rows_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("1,2,3,pv,5\n")
    with pytest.raises(ValueError, match=r"empty\.csv: no readable row"):
        read_log(path)
    assert compare.main([str(path), str(path)]) == 2
    assert "no readable row" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "missing.csv"), str(path)]) == 2
    assert "missing.csv" in capsys.readouterr().err


def test_the_tool_prints_both_logs(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(generated), str(generated)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| measure | log.csv | log.csv |"
    assert all(line.split(" | ")[1] == line.split(" | ")[2].removesuffix(" |") for line in lines)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("share of pv", 0.891, 0.901),
        ("share of cart", 0.050, 0.060),
        ("share of fav", 0.026, 0.032),
        ("share of buy", 0.017, 0.023),
        ("events a user, mean", 94, 108),
        ("buys without a pv before", 0.43, 0.55),
        ("pauses above 30 minutes", 0.14, 0.18),
        ("events with an item of before", 0.21, 0.27),
        ("AUC of popularity", 0.48, 0.53),
        ("AUC of category recency", 0.82, 0.87),
    ],
)
def test_marginals_are_those_of_the_real_log(measured: dict[str, str], name: str, low: float, high: float) -> None:
    assert low <= _number(measured[name]) <= high


def test_the_tail_of_events_a_user_is_heavy(log: Events) -> None:
    counts = np.unique(log.user, return_counts=True)[1]
    assert np.median(counts) < 0.85 * counts.mean()
    assert counts.max() > 4 * counts.mean()


def test_nights_are_quiet(log: Events) -> None:
    hour = (log.time + 8 * 3600) // 3600 % 24
    assert np.mean((hour >= 20) & (hour < 23)) > 10 * np.mean((hour >= 2) & (hour < 5))


def test_recency_tells_more_than_membership(measured: dict[str, str]) -> None:
    assert _number(measured["AUC of category recency"]) > _number(measured["AUC of category in history"]) + 0.015


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the real sample is not beside this checkout")
def test_the_one_line_scorers_do_on_the_real_sample_what_they_are_known_to_do() -> None:
    measured = measure(read_log(SAMPLE))
    # 815 users, of which the sample holds 699: popularity 0.495, membership 0.828, recency 0.857.
    assert _number(measured["AUC of popularity"]) == pytest.approx(0.495, abs=0.015)
    assert _number(measured["AUC of category in history"]) == pytest.approx(0.828, abs=0.01)
    assert _number(measured["AUC of category recency"]) == pytest.approx(0.857, abs=0.01)
