"""Runs of the whole DAG: what they report, what they repeat, what stops them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from trained_run import Trained

from ctr.components.blessing import check_blessed
from ctr.components.provenance import Provenance, gather
from ctr.components.pusher.model_card import MODEL_CARD
from ctr.components.run_report.render import render
from ctr.components.run_report.report import NEW_ITEM, Afterwards, Report, StepCost
from ctr.components.schema.impression_schema import Ranges
from ctr.components.scoring.baselines import CATEGORY_RECENCY, COLDNESS, LOGISTIC_REGRESSION, POPULARITY, SEEN_BEFORE
from ctr.components.scoring.evaluation import MODEL
from ctr.components.scoring.reading import interval, read_evaluation
from ctr.components.settings import IngestConfig
from ctr.components.trainer.run import AUC_WITHIN_TAG
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS, REVISIT, SPLITS
from ctr.pipeline.commands import cli
from ctr.pipeline.output.eval_impressions import eval_impressions
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


def auc_of(report: Report, negative_set: str) -> float:
    whole = report.evaluation.of(negative_set)
    assert whole is not None
    auc = whole.metrics[MODEL]["auc"].value
    assert auc is not None
    return auc


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
        new = report.evaluation.of(name, NEW_ITEM)
        assert new is not None
        assert new.pairs == result.pairs_new
        assert result.auc_new[SEEN_BEFORE] == 0.5 * (name != REVISIT)
        assert (0 if name == REVISIT else 0.3) < auc_of(report, name) < 1
    assert {(s.split, s.label) for s in report.baselines.unknown} == {
        (split, label) for split in SPLITS for label in ("positive", "negative")
    }
    assert report.config == trained.config.model_dump(mode="json")


def test_the_text_shows_what_decides(trained: Trained) -> None:
    steps = tuple(StepCost(step=step, **usage.model_dump()) for step, usage in trained.result.usage.items())
    text = render(trained.result.report, Afterwards(steps=steps))
    assert max(len(line) for line in text.splitlines() if str(trained.output) not in line) <= 100
    assert text.startswith("din, preset demo: BLESSED, version")
    sets = " ".join(NEGATIVE_SETS).replace("_", " ").split()
    for shown in (*sets, "Trainer", "logistic regression", f"{trained.rows:,} rows read"):
        assert shown in text


def test_the_model_has_learnt_what_the_log_teaches(trained: Trained) -> None:
    report = trained.result.report
    assert auc_of(report, CONTEMPORANEOUS) > (report.baselines.sets[CONTEMPORANEOUS].auc[POPULARITY] or 1) + 0.1


def test_every_component_ran_and_took_time(trained: Trained) -> None:
    assert set(trained.result.usage) == set(NODES)
    assert not trained.result.cached
    training = trained.result.usage["Trainer"]
    assert training.seconds > 1
    assert training.cpu_seconds is not None
    assert training.cpu_seconds > 1
    assert training.peak_memory is not None
    # With TensorFlow in it, no process is smaller.
    assert 200e6 < training.peak_memory < 20e9


def test_the_pushed_version_has_what_a_label_needs(trained: Trained) -> None:
    blessing = check_blessed(str(trained.version_dir), "ctr")
    assert blessing.verdict == trained.result.report.evaluation.verdict
    assert blessing.auc is not None
    assert blessing.auc.value == auc_of(trained.result.report, CONTEMPORANEOUS)
    assert {"saved_model.pb", "variables/variables.index"} < {*blessing.files}
    assert len(eval_impressions(str(trained.output), "ctr", 7)) == 7


def test_the_pushed_version_has_a_card_with_the_numbers_of_its_run(trained: Trained) -> None:
    card = (trained.version_dir / MODEL_CARD).read_text()
    report, evaluation = trained.result.report, read_evaluation(str(trained.artifact("Evaluator", "evaluation")))
    judged = evaluation.of(CONTEMPORANEOUS)
    assert judged is not None
    assert card.startswith("# ctr: DIN\n")
    assert f"| AUC | {interval(judged.metrics[MODEL]['auc'])} |" in card
    assert f"| log loss | {interval(judged.metrics[MODEL]['log_loss'])} |" in card
    assert f"{judged.pairs:,} pairs of {judged.impressions:,} impressions" in card
    assert "**Blessed.**" in card
    assert f"{report.rows_read:,} read, {report.rows_kept:,} kept" in card
    assert f"sha256:{hashlib.sha256(Path(trained.config.data).read_bytes()).hexdigest()}" in card
    assert "| `training.epochs` | 2 |" in card
    assert "| `sampler.name` | streaming_frequency |" in card
    assert gather().code in card
    assert "`model.caser" not in card


def test_what_the_sampler_keeps_is_not_in_the_export(trained: Trained) -> None:
    import tensorflow as tf

    exported = [name for name, _ in tf.train.list_variables(str(trained.version_dir / "variables" / "variables"))]
    assert any(name.startswith("weights/") for name in exported)
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


def test_the_training_is_followed_within_its_epochs_and_its_steps(trained: Trained) -> None:
    from tensorboard.backend.event_processing import event_accumulator

    report, log = trained.result.report, Path(trained.result.log).read_text()
    assert [len(epoch.auc_within) for epoch in report.epochs] == [1] * len(report.epochs)
    assert f"Epoch 1, after 1/2 of it: validation AUC {report.epochs[0].auc_within[0]:.4f}" in log
    assert report.profile is not None
    assert (report.profile.steps, report.profile.batch_size) == (2, report.config["training"]["batch_size"])
    assert report.profile.words in log
    assert " ".join(report.profile.words.split()[:6]) in " ".join(render(report).split())
    folder = trained.artifact("Trainer", "model_run")
    assert list(folder.glob("plugins/profile/*/*.xplane.pb"))
    events = event_accumulator.EventAccumulator(str(folder), {event_accumulator.TENSORS: 0})
    events.Reload()
    steps = [event.step for event in events.Tensors(AUC_WITHIN_TAG)]
    assert steps == list(range(1, 2 * len(report.epochs) + 1))


def test_another_runner_takes_the_data_from_the_cache(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    import tensorflow as tf

    config = trained.config.with_overrides(
        {
            "runner": "local",
            "training.epochs": 1,
            "training.profile_steps": 0,
            "model.name": "dnn",
            "evaluation.compare_with_blessed": True,
            # A model of a size of its own, which all steps after the Tuner have to know.
            "tuner.space": {"model.embedding_dim": [4, 6], "training.learning_rate": {"low": 1e-4, "high": 1e-2}},
            "tuner.trials": 2,
        }
    )
    result = LocalRunner().run(config)
    assert result.cached == DATA_NODES | {"Baselines"}
    assert result.report.config["training"]["epochs"] == 1
    whole = result.report.evaluation.of(CONTEMPORANEOUS)
    assert whole is not None
    assert whole.differences["blessed"]["auc"].low is not None
    shown = [line.split("]")[1].split() for line in capfd.readouterr().err.splitlines() if line.startswith("[")]
    assert sorted(line[0] for line in shown) == sorted([*NODES, "Tuner"])
    assert {line[0] for line in shown if line[1] == "cached"} == result.cached

    tuning = result.report.tuning
    assert tuning is not None
    assert [set(trial.values) for trial in tuning.trials] == [{"model.embedding_dim", "training.learning_rate"}] * 2
    assert tuning.best.auc == max(trial.auc or 0 for trial in tuning.trials)
    exported = dict(tf.train.list_variables(f"{result.report.pushed_to}/variables/variables"))
    # The largest table is that of the items.
    _, width = max(shape for shape in exported.values() if len(shape) == 2)
    assert tuning.best.values["model.embedding_dim"] == width
    card = Path(f"{result.report.pushed_to}/{MODEL_CARD}").read_text()
    assert f"| `model.embedding_dim` | {tuning.best.values['model.embedding_dim']} |" in card
    assert f"| `training.learning_rate` | {tuning.best.values['training.learning_rate']} |" in card


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


def test_the_pushed_version_leads_back_to_its_run(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    version = str(trained.result.report.pushed_version)
    assert cli.main(["lineage", version, "--output", trained.config.output, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["run"]["run_id"] == trained.result.run_id
    assert found["pushed_to"] == str(trained.version_dir)
    assert found["data"]["digest"] == f"sha256:{hashlib.sha256(Path(trained.config.data).read_bytes()).hexdigest()}"
    assert found["config"] == trained.config.model_dump(mode="json")
    assert set(found["steps"]) == set(NODES)
    assert found["steps"]["Trainer"]["artifacts"]["model"]["uri"] == str(trained.artifact("Trainer", "model"))
    assert Provenance.model_validate(found["provenance"]) == gather()
    # A resolver runs no code of ours.
    assert {name for name, step in found["steps"].items() if step["code_sha256"] is None} == RESOLVERS


def test_runs_are_listed_and_compared(trained: Trained, capfd: pytest.CaptureFixture[str]) -> None:
    """After the tests above: another model on the same data, and the same run again."""
    assert cli.main(["runs", "--output", trained.config.output, "--json"]) == 0
    runs = json.loads(capfd.readouterr().out)["runs"]
    of_shared = next(run for run in runs if run["run_id"] == trained.result.run_id)
    assert (of_shared["model"], of_shared["preset"], of_shared["verdict"]) == ("din", "demo", "blessed")
    assert of_shared["version"] == trained.result.report.pushed_version
    assert of_shared["usage"]["Trainer"] == trained.result.usage["Trainer"].model_dump(mode="json")
    assert 0.3 < of_shared["auc"]["value"] < 1
    other = next(run for run in runs if run["model"] == "dnn")
    again = next(run for run in runs if run["pushed_earlier"])
    assert other["cached"]
    assert again["auc"] == of_shared["auc"]

    assert cli.main(["compare", of_shared["run_id"], other["run_id"], "--output", trained.config.output, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {"model.name": ["din", "dnn"], "training.epochs": [2, 1]}.items() <= found["config"].items()
    assert (found["data"], found["packages"], found["same_impressions"]) == ({}, {}, True)
    assert set(found["code"]) == {"Trainer", "Tuner"}
    assert found["metrics"]["AUC, contemporaneous"]["b"] == other["auc"]


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
    assert Report.model_validate(document["report"]).evaluation == trained.result.report.evaluation
    assert os.path.exists(document["log"])
    page = Path(document["page"]).read_text(encoding="utf-8")
    assert f"{document['run_id']}</code>" in page
    assert cli.main(["report", "--output", str(trained.output), "--run", document["run_id"]]) == 0
    assert capfd.readouterr().out == f"{document['page']}\n"
    assert Path(document["page"]).read_text(encoding="utf-8") == page


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

    auc = auc_of(trained.result.report, CONTEMPORANEOUS)
    table = " ".join(capfd.readouterr().out.split())
    assert "NOT BLESSED, nothing pushed" in table
    assert f"{auc:.4f}" in table
    assert ">= 0.9800 MISSED" in table


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
