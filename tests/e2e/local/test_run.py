"""Runs of the whole DAG: what they report, what they repeat, what stops them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from trained_run import Trained

from ctr.components.run_report.render import render
from ctr.components.run_report.report import Report
from ctr.components.schema.impression_schema import Ranges
from ctr.components.scoring.baselines import CATEGORY_RECENCY, COLDNESS, LOGISTIC_REGRESSION, POPULARITY, SEEN_BEFORE
from ctr.components.settings import IngestConfig
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS, REVISIT, SPLITS
from ctr.pipeline.commands import cli
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.runners.local import LocalRunner, RunFailed
from ctr.serving.server import ModelServer

pytestmark = pytest.mark.slow

NODES = [
    "ImpressionGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "LastApproval",
    "AnomalyGate",
    "ImpressionTransform",
    "Trainer",
    "Baselines",
    "LatestBlessedModel",
    "Evaluator",
    "SkewCheck",
    "Pusher",
    "RunReport",
]
RESOLVERS = {"LastApproval", "LatestBlessedModel"}
DATA_NODES = frozenset(NODES[:7]) - RESOLVERS


def test_the_rows_of_the_log_add_up(trained: Trained) -> None:
    report = trained.result.report
    assert report.rows_read == trained.rows
    assert report.rows_read == report.rows_kept + sum(report.quarantined.values())
    for reason in ("negative_timestamp", "outside_window", "duplicate", "wrong_field_count", "unknown_behavior"):
        assert report.quarantined[reason] == 3


def test_the_report_is_complete(trained: Trained) -> None:
    report = trained.result.report
    assert set(report.impressions) == set(SPLITS)
    assert min(report.impressions.values()) > 0
    assert min(report.vocabulary.values()) > 0
    assert set(report.baselines.sets) == set(NEGATIVE_SETS)
    assert sum(s.impressions for s in report.baselines.sets.values()) == report.impressions["eval"]
    for name, result in report.baselines.sets.items():
        assert set(result.auc) == {SEEN_BEFORE, POPULARITY, COLDNESS, CATEGORY_RECENCY, LOGISTIC_REGRESSION}
        assert result.pairs == result.impressions * 2
        assert result.positives == result.impressions
        assert 0 < result.seen_positives < result.positives
        # By construction: none of a user's own log, or all of the history.
        assert result.seen_negatives == (result.pairs - result.positives) * (name == REVISIT)
        assert report.verdict.metrics[f"negative_set={name}"]["pairs_new"] == result.pairs_new
        assert result.auc_new[SEEN_BEFORE] == 0.5 * (name != REVISIT)
        assert (0 if name == REVISIT else 0.3) < (report.verdict.metrics[f"negative_set={name}"]["auc"] or 0) < 1
    assert {(s.split, s.label) for s in report.baselines.unknown} == {
        (split, label) for split in SPLITS for label in ("positive", "negative")
    }
    assert report.config == trained.config.model_dump(mode="json")


def test_the_table_shows_every_number(trained: Trained) -> None:
    table = render(trained.result.report, trained.result.times)
    assert max(len(line) for line in table.splitlines() if str(trained.output) not in line) <= 100
    assert table.startswith("din, preset demo: BLESSED, version")
    for node in NODES:
        assert node in table
    for text in (*trained.result.report.quarantined, *NEGATIVE_SETS, "logistic regression", f"{trained.rows:,}"):
        assert text in table


def test_the_model_has_learnt_what_the_log_teaches(trained: Trained) -> None:
    report = trained.result.report
    auc = report.verdict.metrics[f"negative_set={CONTEMPORANEOUS}"]["auc"]
    assert auc is not None
    assert auc > (report.baselines.sets[CONTEMPORANEOUS].auc[POPULARITY] or 1) + 0.1


def test_every_component_ran_and_took_time(trained: Trained) -> None:
    assert set(trained.result.times) == set(NODES)
    assert not trained.result.cached
    assert trained.result.times["Trainer"] > 1


def test_what_the_sampler_keeps_is_not_in_the_export(trained: Trained) -> None:
    import tensorflow as tf

    exported = [name for name, _ in tf.train.list_variables(str(trained.version_dir / "variables" / "variables"))]
    assert any(name.startswith("model/") for name in exported)
    assert not any(word in name for word in ("sampler", "gap", "last_step", "own_keys") for name in exported)


def test_the_noise_and_the_epochs_are_in_the_log(trained: Trained) -> None:
    text = Path(trained.result.log).read_text()
    assert "node Trainer is finished." in text
    assert "Prism" not in text, "Beam fetched a program, or wanted to"
    assert "Progress of Evaluator: loading 1 model(s)" in text
    epochs = trained.result.report.config["training"]["epochs"]
    lines = re.findall(
        r"components\.trainer\.fit: Epoch (\d+) of \d+: training loss 0\.\d+, validation loss 0\.\d+", text
    )
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    assert 1 <= len(lines) <= epochs


def test_another_runner_takes_the_data_from_the_cache(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    config = trained.config.with_overrides(
        {"runner": "local", "training.epochs": 1, "model.name": "dnn", "evaluation.compare_with_blessed": True}
    )
    result = LocalRunner().run(config)
    assert result.cached == DATA_NODES | {"Baselines"}
    assert result.report.config["training"]["epochs"] == 1
    assert set(result.report.verdict.blessed_metrics) == set(result.report.verdict.metrics)
    shown = [line.split("]")[1].split() for line in capfd.readouterr().err.splitlines() if line.startswith("[")]
    assert sorted(line[0] for line in shown) == sorted(NODES)
    assert {line[0] for line in shown if line[1] == "cached"} == result.cached


def test_an_identical_run_trains_evaluates_and_pushes_nothing(
    trained: Trained, capfd: pytest.CaptureFixture[str]
) -> None:
    versions = sorted(trained.serving.iterdir())
    assert cli.main(trained.arguments()) == 0
    shown = capfd.readouterr()
    steps = [line.split("]")[1].split() for line in shown.err.splitlines() if line.startswith("[")]
    # Resolvers always look.
    assert {step for step, took, *_ in steps if took != "cached"} == RESOLVERS
    assert {step for step, *_ in steps} == set(NODES)
    version = trained.result.report.pushed_version
    assert shown.out.startswith(f"din, preset demo: BLESSED, version {version} was pushed by an earlier run\n")
    assert f"An earlier run pushed it to {trained.version_dir}" in " ".join(shown.out.split())
    assert sorted(trained.serving.iterdir()) == versions
    newest = max(int(path.name) for path in versions)
    assert (f"another model's: {newest}" in shown.err) == (newest != version)


def test_a_run_answers_programs(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*trained.arguments(), "--json"]) == 0
    shown = capfd.readouterr()
    first = f"DIN: {trained.config.data} -> {trained.config.output}\nLoading TensorFlow and TFX ...\n"
    assert shown.err.startswith(first)
    (document,) = json.loads(shown.out)["runs"]
    assert document["blessed"]
    assert document["pushed_earlier"]
    assert document["pushed_version"] == trained.result.report.pushed_version
    assert set(document["seconds"]) == set(NODES)
    assert set(document["cached"]) == set(NODES) - RESOLVERS
    assert Report.model_validate(document["report"]).verdict.metrics == trained.result.report.verdict.metrics
    assert os.path.exists(document["log"])


def test_a_folder_that_was_moved_is_served_and_asked(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    def asked(output: Path) -> str:
        with ModelServer(Path(Layout(str(output)).model_base("ctr")), "ctr") as server:
            server.wait_until_ready(60)
            assert cli.main(["predict", "--output", str(output), "--port", str(server.port)]) == 0
        return capfd.readouterr().out

    here = asked(trained.output)
    moved = trained.output.with_name("moved")
    os.rename(trained.output, moved)
    try:
        assert asked(moved) == here
    finally:
        os.rename(moved, trained.output)
    assert "<- chosen" in here


def test_a_bound_that_is_missed_blocks_the_push(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.serving.rglob("*")}
    latest = max(int(path.name) for path in trained.serving.iterdir())
    with ModelServer(trained.serving, "ctr", poll_seconds=0.1) as server:
        server.wait_until_ready(60)
        assert cli.main(trained.arguments("--set", "evaluation.bounds.auc.min=0.98")) == 3
        assert server.version == latest
    assert {path: path.stat().st_mtime_ns for path in trained.serving.rglob("*")} == before

    auc = trained.result.report.verdict.metrics[f"negative_set={CONTEMPORANEOUS}"]["auc"]
    assert auc is not None
    table = " ".join(capfd.readouterr().out.split())
    assert "NOT BLESSED, nothing pushed" in table
    assert f"is {auc:.4f}; the lower bound is 0.9800, missed by {0.98 - auc:.4f}" in table


def test_data_that_do_not_match_the_schema_stop_the_run(
    log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if ingest stored what its settings do not say.
    of_other_settings = Ranges.of(IngestConfig(history_length=7))
    monkeypatch.setattr(Ranges, "of", lambda _: of_other_settings)
    few = tmp_path / "few.csv"
    few.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:8_000]))
    output = tmp_path / "output"
    code = cli.main(["run", "--data", str(few), "--preset", "demo", "--output", str(output)])
    shown = capfd.readouterr()
    assert code == 1
    assert "AnomalyGate failed" in shown.err
    assert "feature history_item_id" in shown.err
    assert "0 to 7 values" in shown.err
    assert "Traceback" not in shown.err
    assert str(output / "logs") in shown.err
    assert "Traceback" in "".join(file.read_text() for file in (output / "logs").iterdir())
    assert not (output / "serving").exists()
    assert sorted(os.listdir(output / "artifacts")) == [
        "AnomalyGate",
        "ExampleValidator",
        "ImpressionGen",
        "SchemaGen",
        "StatisticsGen",
    ]


def test_a_failing_component_is_named(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    config = trained.config.with_overrides({"data": str(empty), "output": str(tmp_path / "output")})
    with pytest.raises(RunFailed) as failed:
        LocalRunner().run(config)
    text, _, log = str(failed.value).rpartition("\nThe whole log: ")
    assert text.startswith("ImpressionGen failed: ")
    assert Path(log).is_file()
    assert "failed after" in capfd.readouterr().err
