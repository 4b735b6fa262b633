"""The sweep on the data of the shared run."""

from __future__ import annotations

import csv
import json
import os
import re
from multiprocessing import active_children
from pathlib import Path

import pytest
from trained_run import Trained, restored_model

from ctr.models.impression import NEGATIVE_SETS
from ctr.pipeline.commands import cli
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import node_runs
from ctr.pipeline.sweep.render import SweepReport, render_markdown
from ctr.pipeline.sweep.results import Journal, TrialResult

MOST_GROWTH_MB = 20
"""From the first trial to the second: the table and the plot take 3; in the sweep's own process it was 99."""


@pytest.fixture
def used_mb(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Memory of the sweep's own process after each trial."""
    used: list[float] = []
    append = Journal.append

    def weigh(self: Journal, result: TrialResult) -> None:
        append(self, result)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        assert not active_children()

    monkeypatch.setattr(Journal, "append", weigh)
    return used


def _sweep(trained: Trained, *options: str) -> int:
    where = ("--data", trained.config.data, "--preset", "demo", "--output", trained.config.output)
    what = ("--set", "training.epochs=1", "--models", "dnn", "--match-features", "with")
    negatives = ("--samplers", "in_batch,mixed", "--alphas", "0", "--losses", "sampled_softmax")
    return cli.main(["sweep", *where, *what, *negatives, *options])


def test_a_sweep_trains_on_the_data_of_the_run_and_goes_on_where_it_was(
    trained: Trained, used_mb: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    assert _sweep(trained) == 0
    table, said = capfd.readouterr()
    # Libraries that the trials' processes import have nothing to say on a terminal.
    assert "Warning" not in said
    first, second = used_mb
    assert second - first < MOST_GROWTH_MB
    folder = Path(Layout(trained.config.output).sweep)
    whole = (folder / "table.md").read_text()
    assert max(map(len, table.splitlines())) <= 80
    for measured in re.findall(r"sampled softmax \| \S+ \| \S+ \| (\S+) ", whole):
        assert f" {measured} " in table
    assert (folder / "plot.png").stat().st_size > 10_000

    log = max(Path(Layout(trained.config.output).logs).glob("*-data.log"))
    nodes = node_runs(Layout(trained.config.output).metadata_db, trained.config.pipeline_name, log.stem)
    states = {node.node: node.state for node in nodes}
    # A resolver always looks.
    assert states.pop("LastApproval") == "COMPLETE"
    assert states == dict.fromkeys(
        (
            "ImpressionGen",
            "StatisticsGen",
            "SchemaGen",
            "ExampleValidator",
            "AnomalyGate",
            "ImpressionTransform",
            "Baselines",
        ),
        "CACHED",
    )

    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["negatives"] for row in rows] == ["in-batch", "mixed 0"]
    # Which are one and the same.
    for name in ("auc_contemporaneous", "log_loss_uniform", "shuffled_auc"):
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), abs=1e-6)
    for row in rows:
        # One epoch on a log of 300 users: what is left to learn is little, but far above a coin.
        assert float(row["auc_contemporaneous"]) > 0.7
        assert abs(float(row["shuffled_auc"]) - 0.5) < 0.05
        assert float(row["export_bytes"]) > 100_000
        assert float(row["p50_ms"]) > 0
    assert "suspicious" not in whole.lower() + table.lower()

    assert _sweep(trained, "--json") == 0
    assert len(used_mb) == 2
    again = capfd.readouterr()
    assert "2 trials, 2 of them measured before" in again.err
    document = json.loads(again.out)
    assert document["folder"] == str(folder)
    assert render_markdown(SweepReport.model_validate({k: v for k, v in document.items() if k != "folder"})) == whole


def test_the_sweep_measures_what_the_evaluator_measures(trained: Trained) -> None:
    from ctr.pipeline.sweep.scoring import metrics, score

    files = sorted(map(str, trained.artifact("ImpressionTransform", "transformed_examples").glob("Split-eval/*")))
    sets = score(restored_model(trained), files, trained.config.ingest.history_length)
    ours = {name: metrics(pairs) for name, pairs in sets.items()}
    evaluation = trained.result.report.evaluation
    assert set(ours) == set(NEGATIVE_SETS)
    for name in NEGATIVE_SETS:
        whole, new = evaluation.of(name), evaluation.of(name, "item:new")
        assert whole is not None
        assert new is not None
        assert ours[name].pairs == whole.pairs, name
        measured = {metric: value.value for metric, value in whole.metrics["model"].items()}
        # Unknown items of one category tie. How a logit is rounded depends on the batch that it is in, and the
        # Evaluator's batches on its speed: so some of the ties break, and two evaluations of one model differ by 2e-5.
        assert ours[name].auc == pytest.approx(measured["auc"], abs=1e-4)
        assert ours[name].auc_new == pytest.approx(new.metrics["model"]["auc"].value, abs=1e-4)
        assert ours[name].gauc == pytest.approx(measured["gauc"], abs=1e-4)
        assert ours[name].log_loss == pytest.approx(measured["log_loss"], abs=1e-5)
