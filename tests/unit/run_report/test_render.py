from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ctr.components.run_report.render import render, render_markdown
from ctr.components.run_report.report import Report
from ctr.components.scoring.baselines import BaselineResults, SetResult, UnknownShare
from ctr.components.scoring.verdict import Failure, Verdict
from ctr.models.impression import NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset


def make_report(**changes: Any) -> Report:
    aucs = {
        "seen_before": 0.61,
        "popularity": 0.495,
        "coldness": 0.5,
        "category_recency": 0.857,
        "logistic_regression": 0.867,
    }
    aucs_new = {"popularity": 0.465, "coldness": 0.5, "category_recency": 0.817, "logistic_regression": 0.827}
    metrics = {
        "auc": 0.8912,
        "auc_new": 0.8512,
        "gauc": 0.8534,
        "log_loss": 0.4321,
        "gauc_users": 650.0,
        "gauc_users_skipped": 3.0,
    }
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
                name: SetResult(
                    impressions=15_041,
                    pairs=30_082,
                    positives=15_041,
                    seen_positives=3_354 - number,
                    seen_negatives=0,
                    pairs_new=23_374 + 2 * number,
                    auc=aucs,
                    auc_new=aucs_new,
                )
                for number, name in enumerate(NEGATIVE_SETS)
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
    blessed_metrics={"negative_set=contemporaneous": {"auc": 0.9112, "auc_new": 0.8711}},
)


NEW = "AUC on items that are new to the user"


def section(text: str, title: str) -> str:
    """A table with its notes."""
    return text[text.index(f"\n{title}") :].split("\n\n")[0]


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
    auc, auc_new = section(text, "AUC by negative set"), section(text, NEW)
    assert row(auc, "din: AUC") == ["0.8912"] * len(NEGATIVE_SETS)
    assert row(auc, "din: GAUC") == ["0.8534"] * len(NEGATIVE_SETS)
    assert row(auc, "din: log loss") == ["0.4321"] * len(NEGATIVE_SETS)
    assert row(auc, "coldness (item seen in train)") == ["0.5000"] * len(NEGATIVE_SETS)
    assert row(auc, "logistic regression, match features") == ["0.8670"] * len(NEGATIVE_SETS)
    assert row(auc, "din above the best of these") == ["+0.0242"] * len(NEGATIVE_SETS)
    assert row(auc, "pairs") == ["30,082"] * len(NEGATIVE_SETS)
    assert row(auc, "users of one class, not in GAUC") == ["3"] * len(NEGATIVE_SETS)
    assert row(auc, "seen before (in the own history)") == ["0.6100"] * len(NEGATIVE_SETS)
    assert row(auc, "positives seen before") == ["22.3%"] * len(NEGATIVE_SETS)
    assert row(auc, "negatives seen before") == ["0.0%"] * len(NEGATIVE_SETS)
    assert row(auc_new, "din: AUC") == ["0.8512"] * len(NEGATIVE_SETS)
    assert row(auc_new, "category recency") == ["0.8170"] * len(NEGATIVE_SETS)
    assert row(auc_new, "din above the best of these") == ["+0.0242"] * len(NEGATIVE_SETS)
    assert row(auc_new, "pairs") == ["23,374", "23,376", "23,378", "23,380"]
    assert row(text, "eval, uniform") == ["79.1%", "27.7%", "0.5%", "0.5%"]
    assert row(text, "Trainer") == ["29.5"]
    assert row(text, "total") == ["35.5"]
    assert "seed 2017" in text
    assert "Pushed to output/serving/ctr/1732500000" in text


def test_the_columns_of_a_table_end_at_the_same_place() -> None:
    text = render(make_report())
    lines = section(text, "AUC by negative set").split("Protocol")[0].splitlines()[2:]
    assert len(lines) > 10
    assert {len(line) for line in lines if line.strip()} == {len(lines[0])}


REPORTS = [make_report(), make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)]
NUMBER = re.compile(r"[+-]?\d[\d.,]*\d%?|\d")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("report", REPORTS)
def test_the_report_fits_and_loses_nothing(report: Report, width: int) -> None:
    times = {"a" * 40: 1.0, "Trainer": 29.5}
    text, whole = render(report, times, width=width), render(report, times, width=1000)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    # Words may go on in the next line, numbers may not.
    assert Counter(text.replace(" ", "").replace("\n", "")) == Counter(whole.replace(" ", "").replace("\n", ""))
    assert Counter(NUMBER.findall(text)) == Counter(NUMBER.findall(whole))
    assert text.isascii()


def test_a_path_stays_whole() -> None:
    path = "/" + "folder/" * 20
    assert f"Pushed to\n  {path}\n" in render(make_report(pushed_to=path), {"Trainer": 1.0}, width=60)


def test_a_refusal_names_each_bound_and_by_how_much() -> None:
    text = " ".join(render(make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)).split())
    assert text.startswith("din, preset sample: NOT BLESSED, nothing pushed")
    assert "auc on negative_set=contemporaneous is 0.8912; the lower bound is 0.9990, missed by 0.1078" in text
    assert "changed by -0.0200 against the latest blessed model; the bound is -0.0050, missed by 0.0150" in text
    assert "what was served before is served on" in text


def test_every_table_of_aucs_says_what_having_been_seen_tells() -> None:
    """Shares by set where they differ, one where they do not; the same words in both forms."""
    sets = make_report().baselines.sets
    different = {"uniform": sets["uniform"].model_copy(update={"seen_positives": 1504, "seen_negatives": 151})}
    report = make_report()
    report = make_report(baselines=report.baselines.model_copy(update={"sets": sets | different}))
    for text in (" ".join(render(report).split()), render_markdown(report)):
        assert report.baselines.seen_before() in text
        assert "Seen before: 10.0% / 22.3% / 22.3% / 22.3% of the positives stand in the user's own history" in text
        assert (
            "and 1.0% / 0.0% / 0.0% / 0.0% of the negatives (uniform, same category, contemporaneous, revisit)" in text
        )
    words = make_report().baselines.seen_before()
    assert "Seen before: 22.3% of the positives" in words
    assert "Revisit negatives are items of that history" in words
    assert "Other negatives are drawn outside the user's own log" in words
    one = report.baselines.model_copy(update={"sets": {"uniform": sets["uniform"]}}).seen_before()
    assert "(uniform). Negatives are drawn outside the user's own log, so having been seen" in one


def test_a_scorer_near_1_is_called_too_good_to_be_true() -> None:
    assert "Too good" not in render(make_report())
    report = make_report()
    sets = dict(report.baselines.sets)
    uniform = sets["uniform"]
    sets["uniform"] = uniform.model_copy(update={"auc": uniform.auc | {"logistic_regression": 0.9951}})
    metrics = report.verdict.metrics
    metrics["negative_set=same_category"] = metrics["negative_set=same_category"] | {"auc": 0.9942, "gauc": 0.9931}
    changes = {
        "baselines": report.baselines.model_copy(update={"sets": sets}),
        "verdict": report.verdict.model_copy(update={"metrics": metrics}),
    }
    text = " ".join(render(make_report(**changes)).split())
    assert (
        "Too good to be true: logistic regression, match features is 0.9951 on uniform, "
        "din: AUC is 0.9942 on same_category, din: GAUC is 0.9931 on same_category. Something that gives the label away"
        in text
    )
    any_auc = load_preset("sample", ["evaluation.bounds.auc.max=null"]).model_dump(mode="json")
    assert "Too good" not in render(make_report(**changes, config=any_auc))


def test_the_gate_names_both_bounds_and_what_an_auc_above_them_means() -> None:
    failure = REFUSED.failures[0].model_copy(
        update={"kind": "upper_bound", "bound": 0.99, "value": 0.9977, "short_by": 0.0077}
    )
    verdict = REFUSED.model_copy(update={"failures": (failure,)})
    text = " ".join(render(make_report(verdict=verdict, pushed_version=None, pushed_to=None)).split())
    assert "AUC on contemporaneous negatives at least 0.8670 and at most 0.9900" in text
    assert "is 0.9977; the upper bound is 0.9900, exceeded by 0.0077. Something that gives the label away" in text
    assert "raise that bound in evaluation.bounds, or set it to null" in text


def test_each_bound_is_named_and_a_metric_from_outside_has_its_row(plugins: Path) -> None:
    bounds = ["evaluation.bounds.brier.max=0.2", "evaluation.bounds.log_loss@overall.max_drop=0.01"]
    config = load_preset("sample", bounds, ["my_shop.brier"]).model_dump(mode="json")
    metrics = {"negative_set=contemporaneous": {"auc": 0.8912, "brier": 0.1234}}
    for blessed in ({}, metrics):
        verdict = Verdict(blessed=True, failures=(), metrics=metrics, blessed_metrics=blessed)
        text = render(make_report(config=config, verdict=verdict))
        assert row(section(text, "AUC by negative set"), "din: Brier score") == ["-", "-", "0.1234", "-"]
        text = " ".join(text.split())
        assert "Brier score on contemporaneous negatives at most 0.2000" in text
        assert ("log loss overall at most 0.0100 above the latest blessed model" in text) == bool(blessed)
        assert ("log loss overall" in text) == bool(blessed)


def test_a_missing_metric_is_a_dash_and_not_a_number() -> None:
    text = render(make_report(verdict=REFUSED, pushed_version=None, pushed_to=None))
    auc, auc_new = section(text, "AUC by negative set"), section(text, NEW)
    assert row(auc, "din: GAUC") == ["-"] * len(NEGATIVE_SETS)
    assert row(auc, "din: AUC") == ["-", "-", "0.8912", "-"]
    assert row(auc, "latest blessed model: AUC") == ["-", "-", "0.9112", "-"]
    assert row(auc_new, "latest blessed model: AUC") == ["-", "-", "0.8711", "-"]


def test_markdown_tables_have_a_cell_for_every_column() -> None:
    text = render_markdown(make_report())
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| din: AUC | 0.8912 | 0.8912 | 0.8912 | 0.8912 |" in text


def test_a_report_survives_its_json() -> None:
    report = make_report(verdict=REFUSED, pushed_version=None, pushed_to=None)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_rendering_loads_neither_tensorflow_nor_tfx() -> None:
    code = (
        "import sys, ctr.components.run_report.render; print({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
