from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from report_sample import (
    AFTERWARDS,
    HARDER,
    MISSED,
    REFUSED,
    SERVED,
    SKEW,
    around,
    bound,
    evaluation,
    make_report,
    slice_result,
)

from ctr.components.run_report.page import render_page
from ctr.components.run_report.render import render, render_markdown
from ctr.components.run_report.report import Afterwards, Report, ReportUnreadable, read_report
from ctr.components.scoring.evaluation import MODEL, Verdict
from ctr.models.impression import NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset


def section(text: str, title: str) -> str:
    """A table with its notes."""
    return text[text.index(f"\n{title}") :].split("\n\n")[0]


def row(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def test_the_decisive_numbers_stand_in_their_rows() -> None:
    text = render(make_report(), AFTERWARDS)
    assert text.startswith("din, preset sample: BLESSED, version 1732500000 pushed\n  All 4 bounds met.\n")
    head = section(text, "AUC on contemporaneous negatives")
    # The value, half of its interval, and the same on positives that are new to the user.
    assert row(head, "din  ") == ["0.8912", "0.0028", "0.8427", "0.0063"]
    assert row(head, "latest blessed model") == ["0.8871", "0.0028", "0.8390", "0.0062"]
    assert row(head, "logistic regression, match features") == ["0.8670", "0.0028", "0.8211", "0.0062"]
    leads = [line.split()[3:] for line in head.splitlines() if "din above it" in line]
    assert leads == [["+0.0041", "0.0011", "+0.0037", "0.0025"], ["+0.0242", "0.0011", "+0.0216", "0.0025"]]
    by_set = section(text, "din by negative set")
    harder = [HARDER[name] for name in NEGATIVE_SETS]
    assert row(by_set, "log loss") == [f"{0.4321 + lower:.4f}" for lower in harder]
    assert row(by_set, "best baseline: AUC") == [f"{0.867 - lower * 0.417:.4f}" for lower in harder]
    assert row(by_set, "pairs") == ["30,082"] * len(NEGATIVE_SETS)
    gate = section(text, "Gate")
    assert row(gate, "AUC against latest blessed model") == ["+0.0041", "0.0050", ">=", "-0.0050", "met"]
    assert "73,899 rows read, 73,800 kept, 99 quarantined (not_an_integer 1, negative_timestamp 38" in text
    assert "39.8 s, of them Trainer 29.5, ImpressionGen 6.0, Evaluator 4.2." in text
    assert "Pushed to output/serving/ctr/1732500000" in text


@pytest.mark.parametrize("report", [make_report(), make_report(**REFUSED)])
def test_the_report_is_read_at_a_glance(report: Report) -> None:
    assert len(render(report, AFTERWARDS, width=100).splitlines()) < 50


def test_the_columns_of_a_table_end_at_the_same_place() -> None:
    lines = section(render(make_report()), "din by negative set").splitlines()[3:]
    assert len(lines) > 6
    assert {len(line) for line in lines if line.strip()} == {len(lines[0])}


REPORTS = [make_report(), make_report(**REFUSED)]
NUMBER = re.compile(r"[+-]?\d[\d.,]*\d%?|\d")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("report", REPORTS)
def test_the_report_fits_and_loses_nothing(report: Report, width: int) -> None:
    text, whole = render(report, AFTERWARDS, width=width), render(report, AFTERWARDS, width=1000)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    # Words may go on in the next line, numbers may not.
    assert Counter(text.replace(" ", "").replace("\n", "")) == Counter(whole.replace(" ", "").replace("\n", ""))
    assert Counter(NUMBER.findall(text)) == Counter(NUMBER.findall(whole))
    assert text.isascii()


def test_a_path_stays_whole() -> None:
    path = "/" + "folder/" * 20
    assert f"Pushed to\n  {path}\n" in render(make_report(pushed_to=path), AFTERWARDS, width=60)


def test_a_refusal_names_each_bound_and_what_to_look_at() -> None:
    report = make_report(**REFUSED)
    for text in (render(report, width=200), render_markdown(report)):
        said = " ".join(text.split())
        assert "din, preset sample: NOT BLESSED, nothing pushed" in said
        assert "2 of 6 bounds missed. Look first: the slice item:new, which is furthest on the wrong side." in said
        for missed in MISSED:
            assert missed.words in said
        assert "what was served before is served on" in said
    assert row(section(render(report), "Gate"), "AUC (item:new)")[-3:] == [">=", "0.9000", "MISSED"]


def test_a_first_run_says_that_it_was_compared_with_nothing() -> None:
    text = render(make_report(evaluation=evaluation(blessed=False)))
    assert "All 3 bounds met." in text
    assert row(text, "AUC against latest blessed model") == ["-", "-", ">=", "-0.0050", "open"]
    assert "There is no blessed model yet" in text
    assert "latest blessed model: AUC" not in text


def test_a_model_that_cannot_be_compared_with_is_the_reason() -> None:
    verdict = Verdict(
        blessed=False,
        bounds=(bound("min", "met"), bound("max_drop", "not_compared", measured=None)),
        comparison="incompatible",
        comparison_words="The blessed model has another vocabulary.",
        look_first="",
    )
    text = render(make_report(**(REFUSED | {"evaluation": evaluation(verdict=verdict)})), width=200)
    assert "No bound missed, but not compared: The blessed model has another vocabulary." in text


def test_a_bound_of_a_metric_that_is_better_lower_allows_a_rise() -> None:
    rise = bound("max_drop", "met", metric="log_loss", bound=0.01, measured=around(0.002, 0.004))
    elsewhere = bound("max", "met", metric="log_loss", negative_set="same_category", slice="user:cold", bound=1.5)
    verdict = evaluation().verdict.model_copy(update={"bounds": (rise, elsewhere)})
    gate = section(render(make_report(evaluation=evaluation(verdict=verdict))), "Gate")
    assert row(gate, "log loss against latest blessed model") == ["+0.0020", "0.0038", "<=", "+0.0100", "met"]
    assert row(gate, "log loss (same category, user:cold)")[-3:] == ["<=", "1.5000", "met"]


def test_what_having_been_seen_tells_is_said() -> None:
    """Shares by set where they differ, one where they do not."""
    sets = make_report().baselines.sets
    different = {"uniform": sets["uniform"].model_copy(update={"seen_positives": 1504, "seen_negatives": 151})}
    report = make_report()
    report = make_report(baselines=report.baselines.model_copy(update={"sets": sets | different}))
    text = render_markdown(report)
    assert report.baselines.seen_before() in text
    assert "Seen before: 10.0% / 22.3% / 22.3%" in text
    assert "Seen before: 22.3% of the positives" in make_report().baselines.seen_before()


def test_a_scorer_near_1_is_called_too_good_to_be_true() -> None:
    assert "Too good" not in render(make_report())
    found = evaluation()
    giveaway = slice_result("uniform", "", 15_041, 0, True)
    metrics = giveaway.metrics | {"popularity": {"auc": around(0.9951, 0.001)}, MODEL: {"auc": around(0.9942, 0.001)}}
    slices = tuple(
        each.model_copy(update={"metrics": metrics}) if (each.negative_set, each.slice) == ("uniform", "") else each
        for each in found.slices
    )
    text = " ".join(render(make_report(evaluation=found.model_copy(update={"slices": slices}))).split())
    assert "Too good to be true: din is 0.9942 on uniform, item popularity in train is 0.9951 on uniform." in text
    unbounded = found.verdict.model_copy(update={"bounds": (bound("min", "met"),)})
    report = make_report(evaluation=found.model_copy(update={"slices": slices, "verdict": unbounded}))
    assert "Too good" not in render(report)


def test_a_metric_from_outside_has_its_row(plugins: Path) -> None:
    config = load_preset("sample", ["evaluation.bounds.brier.max=0.2"], ["my_shop.brier"]).model_dump(mode="json")
    found = evaluation()
    slices = tuple(
        each.model_copy(update={"metrics": each.metrics | {MODEL: each.metrics[MODEL] | {"brier": around(0.1, 0)}}})
        for each in found.slices
    )
    report = make_report(config=config, evaluation=found.model_copy(update={"slices": slices}))
    assert row(section(render(report), "din by negative set"), "Brier score") == ["0.1000"] * len(NEGATIVE_SETS)


def test_a_number_that_is_undefined_is_a_dash() -> None:
    found = evaluation()
    undefined = {"auc": around(0.5, 0).model_copy(update={"value": None, "low": None, "high": None})}
    slices = tuple(each.model_copy(update={"metrics": {MODEL: undefined}, "differences": {}}) for each in found.slices)
    text = render(make_report(evaluation=found.model_copy(update={"slices": slices})))
    assert row(section(text, "AUC on contemporaneous"), "din  ") == ["-"] * 4
    assert row(section(text, "din by negative set"), "best baseline: AUC") == ["-"] * len(NEGATIVE_SETS)


def test_what_an_earlier_run_pushed_is_not_said_to_be_new() -> None:
    text = " ".join(render(make_report(), Afterwards(pushed_earlier=True)).split())
    assert text.startswith("din, preset sample: BLESSED, version 1732500000 was pushed by an earlier run")
    assert "An earlier run pushed it to output/serving/ctr/1732500000" in text


def test_markdown_has_whole_tables() -> None:
    page = render_markdown(make_report(pushed_to="a|b"))
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| din | 0.8912 | 0.0028 | 0.8427 | 0.0063 |" in page
    assert "drawn with seed 2017" in page
    assert "1,000 bootstrap resamples of users" in page


def test_a_report_comes_back_as_it_was_and_another_versions_is_refused(tmp_path: Path) -> None:
    report = make_report()
    (tmp_path / "report.json").write_text(report.model_dump_json())
    assert read_report(str(tmp_path)) == report
    old = report.model_dump_json().replace('"evaluation":{"judged_set"', '"verdict":{"judged_set"')
    (tmp_path / "report.json").write_text(old)
    with pytest.raises(ReportUnreadable, match=r"report\.json: written by another version .*evaluation.*run the pipe"):
        read_report(str(tmp_path))


def test_rendering_loads_neither_tensorflow_nor_tfx() -> None:
    modules = "ctr.components.run_report.page, ctr.components.run_report.kubeflow, ctr.pipeline.commands.report"
    code = f"import sys, {modules}; print({{'tensorflow', 'tfx', 'apache_beam'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_was_served_stands_beside_what_was_trained_on() -> None:
    alone = section(render(make_report()), "Skew")
    words = (
        "Asked as trained, by its signatures and over gRPC, 300 impressions: logits differ by 2.3e-07 at most, allowed"
    )
    assert f"{words} 1e-05." in " ".join(alone.split())
    served = make_report(skew=SKEW.model_copy(update={"served": SERVED}))
    for text in (render(served), render(served, width=80)):
        table = section(text, "Skew: requests served and data trained on")
        assert row(table, "history_length") == ["5,000", "20,000", "0.4321", "0.1000", "reported"]
        assert row(table, "candidate_item_id") == ["500,000", "60,000", "0.0123", "0.1000", "within"]
    assert "answered by versions 1732500000, 1732413600, beside 20,000 train" in " ".join(render(served).split())
    said = " ".join(render(served).split())
    assert "(Asia/Shanghai), answered by" in said
    elsewhere = served.model_copy(
        update={
            "config": load_preset("sample").with_overrides({"ingest.dataset.time.zone": "UTC"}).model_dump(mode="json")
        }
    )
    shown_there = f"{dt.datetime.fromtimestamp(SERVED.first or 0, dt.timezone.utc):%Y-%m-%d %H:%M} to"
    for text in (" ".join(render(elsewhere).split()), render_page(elsewhere)):
        assert "(UTC), answered by" in text
        assert shown_there in text
    assert "| history_length | 5,000 |" in render_markdown(served)
    page = render_page(served)
    assert "<caption>Requests served and data trained on</caption>" in page
    assert '<span class="state reported">reported</span>' in page
