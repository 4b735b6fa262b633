"""The keys of JSON documents are those that docs/command-line.md lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ctr.components.impression_gen.check import Checked
from ctr.components.run_report.report import Report
from ctr.components.scoring.evaluation import Evaluation, Verdict
from ctr.components.usage import Usage
from ctr.generator.behavior_log import GeneratorSummary
from ctr.pipeline.commands import data, generate, predict, release, run, sweep
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.release.change import described
from ctr.pipeline.release.labels import Labels
from ctr.pipeline.runners.local import RunResult
from ctr.pipeline.sweep.render import SweepReport
from ctr.serving.impressions import RankedCandidate, Ranking

PAGE = (Path(__file__).parents[4] / "docs" / "command-line.md").read_text()


def documented(title: str) -> set[str]:
    (table,) = re.findall(rf"^\| {title} \|.*?\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    return {name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def run_result() -> RunResult:
    nothing: dict[str, Any] = {"blessed": False}
    verdict = Verdict.model_construct(**nothing)
    known: dict[str, Any] = {
        "config": {"model": {"name": "din"}, "output": "output"},
        "evaluation": Evaluation.model_construct(**{**nothing, "verdict": verdict}),
    }
    report = Report.model_construct(**known, pushed_version=None, pushed_to=None)
    return RunResult("1-din", report, {"Trainer": Usage(seconds=2.0)}, frozenset({"B", "A"}), False, "logs/1.log")


CANDIDATE = RankedCandidate(item_id=5, category_id=7, position=0, probability=0.5, logit=0.0)
RANKING = Ranking(model_name="ctr", model_version=12, candidates=(CANDIDATE,))
CHANGE = described("canary", None, Labels(1, 2), "", None)
NOTHING: dict[str, Any] = dict.fromkeys(SweepReport.model_fields)
SWEEP = SweepReport.model_construct(**NOTHING)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    ("title", "document"),
    [
        ("key of a run", lambda: run.answer([run_result()])["runs"][0]),
        ("key of a sweep", lambda: sweep.answer(SWEEP, Layout("output"))),
        ("key of a ranking", lambda: predict.answer(RANKING, 50, None)),
        ("key of a check", lambda: data.answer(Checked([], []))),
        ("key of a change", lambda: release.answer(CHANGE, moved=True)),
        ("key of a log", lambda: generate.answer(GeneratorSummary(Path("x.csv"), 1, 2, {"pv": 2}, {}))),
    ],
)
def test_documents_have_the_keys_of_their_page(title: str, document: Any) -> None:
    keys = set(json.loads(json.dumps(document())))
    written = documented(title)
    assert keys <= written
    # What else the table names is part of a candidate.
    assert written - keys <= set(RankedCandidate.model_fields) | {"table", "trials", "plot"}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_the_challengers_of_a_run_follow_it() -> None:
    document = run.answer([run_result(), run_result()])
    assert [run["cached"] for run in document["runs"]] == [["A", "B"]] * 2
    assert document["runs"][0]["blessed"] is False
    assert document["runs"][0]["pushed_version"] is None
