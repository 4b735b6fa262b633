from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from components.baselines.results import BaselineResults, SetResult, UnknownShare
from components.evaluator.verdict import Failure, Verdict
from components.run_report.render import render, render_markdown
from components.run_report.report import Report
from models.impression import NEGATIVE_SETS
from pipeline.config import load_preset


def make_report(**changes: Any) -> Report:
    aucs = {"popularity": 0.495, "coldness": 0.5, "category_recency": 0.857, "logistic_regression": 0.867}
    metrics = {"auc": 0.8912, "gauc": 0.8534, "log_loss": 0.4321, "gauc_users": 650.0, "gauc_users_skipped": 3.0}
    values: dict[str, Any] = {
        "config": load_preset("sample").model_dump(mode="json"),
        "rows_read": 73_899,
        "rows_kept": 73_800,
        "quarantined": {"negative_timestamp": 38, "outside_window": 12, "duplicate": 49},
        "users": 699,
        "impressions": {"train": 50_000, "validation": 7_000, "eval": 45_123},
        "dropped": {"train": {"short_history": 600, "no_negative:uniform": 0}, "eval": {"short_history": 15}},
        "items_with_several_categories": 21,
        "vocabulary": {"items": 12_345, "categories": 1_234},
        "baselines": BaselineResults(
            sets={
                name: SetResult(impressions=15_041, pairs=30_082, positives=15_041, auc=aucs) for name in NEGATIVE_SETS
            },
            unknown=tuple(
                UnknownShare(
                    split=split,
                    negative_set=name,
                    label=label,
                    candidates=1000,
                    unknown_items=791 if label == "positive" else 277,
                    unknown_categories=5,
                )
                for split, name in [("train", "mixed"), ("validation", "mixed"), *(("eval", n) for n in NEGATIVE_SETS)]
                for label in ("positive", "negative")
            ),
            fitted_impressions=50_000,
            fitted_pairs=150_000,
            coefficients={"item_seen": 0.1},
            seed=1,
        ),
        "verdict": Verdict(
            blessed=True,
            failures=(),
            metrics={f"negative_set={name}": metrics for name in NEGATIVE_SETS},
            blessed_metrics={},
        ),
        "pushed_version": 1_732_500_000,
        "pushed_to": "output/serving/ctr/1732500000",
    }
    return Report.model_validate(values | changes)


REFUSED = Verdict(
    blessed=False,
    failures=(
        Failure(
            metric="auc",
            slice="negative_set=contemporaneous",
            kind="lower_bound",
            bound=0.999,
            value=0.8912,
            short_by=0.1078,
        ),
        Failure(
            metric="auc",
            slice="negative_set=contemporaneous",
            kind="max_drop",
            bound=-0.005,
            value=-0.02,
            short_by=0.015,
        ),
    ),
    metrics={"negative_set=contemporaneous": {"auc": 0.8912, "gauc": None}},
    blessed_metrics={"negative_set=contemporaneous": {"auc": 0.9112}},
)


def row(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def test_every_number_of_the_run_stands_in_its_row() -> None:
    text = render(make_report(), {"ImpressionGen": 6.04, "Trainer": 29.5})
    assert text.startswith("din, preset sample: BLESSED, version 1732500000 pushed\n")
    assert row(text, "read") == ["73,899"]
    assert row(text, "kept") == ["73,800"]
    assert row(text, "quarantined: negative_timestamp") == ["38"]
    assert row(text, "quarantined: duplicate") == ["49"]
    assert row(text, "impressions, eval") == ["45,123"]
    assert row(text, "events without impression: short_history") == ["615"]
    assert row(text, "items with several categories") == ["21"]
    assert row(text, "vocabulary, items") == ["12,345"]
    assert row(text, "din: AUC") == ["0.8912"] * 3
    assert row(text, "din: GAUC") == ["0.8534"] * 3
    assert row(text, "din: log loss") == ["0.4321"] * 3
    assert row(text, "coldness (item seen in train)") == ["0.5000"] * 3
    assert row(text, "logistic regression, match features") == ["0.8670"] * 3
    assert row(text, "din above the best of these") == ["+0.0242"] * 3
    assert row(text, "pairs") == ["30,082"] * 3
    assert row(text, "users of one class, not in GAUC") == ["3"] * 3
    assert row(text, "eval, uniform") == ["79.1%", "27.7%", "0.5%", "0.5%"]
    assert row(text, "Trainer") == ["29.5"]
    assert row(text, "total") == ["35.5"]
    assert "seed 2017" in text
    assert "Pushed to output/serving/ctr/1732500000" in text


def test_the_columns_of_a_table_end_at_the_same_place() -> None:
    text = render(make_report())
    lines = text.split("AUC by negative set")[1].split("Protocol")[0].splitlines()[1:]
    assert len(lines) > 10
    assert {len(line) for line in lines if line.strip()} == {len(lines[0])}


REPORTS = [make_report(), make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)]
NUMBER = re.compile(r"[+-]?\d[\d.,]*\d%?|\d")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("report", REPORTS)
def test_the_report_fits_and_loses_nothing(report: Report, width: int) -> None:
    times = {"a" * 40: 1.0, "Trainer": 29.5}
    text, whole = render(report, times, width), render(report, times, 1000)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    # Words may go on in the next line, numbers may not.
    assert Counter(text.replace(" ", "").replace("\n", "")) == Counter(whole.replace(" ", "").replace("\n", ""))
    assert Counter(NUMBER.findall(text)) == Counter(NUMBER.findall(whole))
    assert text.isascii()


def test_a_path_stays_whole() -> None:
    path = "/" + "folder/" * 20
    assert f"Pushed to\n  {path}\n" in render(make_report(pushed_to=path), {"Trainer": 1.0}, 60)


def test_a_refusal_names_each_bound_and_by_how_much() -> None:
    text = " ".join(render(make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)).split())
    assert text.startswith("din, preset sample: NOT BLESSED, nothing pushed")
    assert "auc on negative_set=contemporaneous is 0.8912; the lower bound is 0.9990, missed by 0.1078" in text
    assert "changed by -0.0200 against the latest blessed model; the bound is -0.0050, missed by 0.0150" in text
    assert "what was served before is served on" in text


def test_a_missing_metric_is_a_dash_and_not_a_number() -> None:
    text = render(make_report(verdict=REFUSED, pushed_version=None, pushed_to=None))
    assert row(text, "din: GAUC") == ["-", "-", "-"]
    assert row(text, "din: AUC") == ["-", "-", "0.8912"]
    assert row(text, "latest blessed model: AUC") == ["-", "-", "0.9112"]


def test_markdown_tables_have_a_cell_for_every_column() -> None:
    text = render_markdown(make_report())
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| din: AUC | 0.8912 | 0.8912 | 0.8912 |" in text


def test_a_report_survives_its_json() -> None:
    report = make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_rendering_loads_neither_tensorflow_nor_tfx() -> None:
    code = "import sys, components.run_report.render; print({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
