"""The compiled package, run step by step with the command lines that a cluster would run."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from compiled_run import Command, ForkingRunner, RunOutcome, run_package, subprocess_runner
from metadata_service import metadata_service

from ctr.components.provenance import gather
from ctr.components.run_report.report import read_report
from ctr.pipeline.output.history import History
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import node_runs
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

pytestmark = pytest.mark.slow

SETTINGS = (
    "kubeflow.image=ctr-pipeline:test",
    "data=''",
    "beam_pipeline_args=[]",
    "statistics.sample_rate=1",
    "ingest.history_length=10",
    "ingest.targets_per_user=4",
    "ingest.user_partitions=2",
    "training.batch_size=64",
    "transform.min_item_count=2",
    "evaluation.baseline_training_impressions=1000",
    "evaluation.bounds.auc.min_margin=null",
    "evaluation.bounds.auc.confidence=null",
    "metadata.kind=grpc",
    "metadata.grpc.host=127.0.0.1",
)
PARAMETERS = {"model": "dnn", "epochs": 1, "min_auc": 0.2}
BEFORE_THE_GATE = (
    *("ImpressionGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate"),
    *("ImpressionTransform", "Trainer", "Baselines"),
)
NODES = {*BEFORE_THE_GATE, "LastApproval", "LatestBlessedModel", "Evaluator", "SkewCheck", "Pusher", "RunReport"}


@dataclass(frozen=True)
class Runs:
    """Three runs of one package.

    Attributes:
      config: what it was compiled from.
      first: the first step in a fresh process, the others in ones that have imported TensorFlow and nothing else;
        there is no blessed model yet.
      second: as the first one, as fast as can be.
      third: of another model, with a bound that cannot be reached, and the first one's model to compare with.
      pushed: names in the served folder after each of them.
    """

    config: PipelineConfig
    first: RunOutcome
    second: RunOutcome
    third: RunOutcome
    pushed: tuple[list[str], ...]

    def states(self, run_id: str) -> dict[str, str]:
        nodes = node_runs(Layout(self.config.output).metadata_db, self.config.pipeline_name, run_id)
        return {node.node: node.state for node in nodes}


@pytest.fixture(scope="module")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ctr.generator.behavior_log import generate
    from ctr.generator.generator_config import GeneratorConfig

    folder = tmp_path_factory.mktemp("kubeflow-log")
    generate(GeneratorConfig(users=80, seed=11, start=dt.date(2024, 5, 1)), folder / "2024-05-09.csv")
    return folder / "{YYYY}-{MM}-{DD}.csv"


@pytest.fixture(scope="module")
def runs(small_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    from ctr.pipeline.runners.kubeflow.package import PackageWriter

    folder = tmp_path_factory.mktemp("kubeflow")
    layout = Layout(str(folder / "output"))
    Path(layout.metadata_db).parent.mkdir(parents=True)
    outcomes, pushed = [], []
    with (
        metadata_service(Path(layout.metadata_db)) as port,
        contextlib.closing(ForkingRunner(tensorflow_alone=True)) as anew,
        contextlib.closing(ForkingRunner()) as forking,
    ):

        def fresh(command: Command) -> int:
            return (subprocess_runner if "ImpressionGen" in command.argv else anew)(command)

        config = load_preset("kubeflow", [*SETTINGS, f"metadata.grpc.port={port}", f"output={layout.output}"])
        package = PackageWriter().run(config)
        # The log is no part of the package: a person names it when starting a run.
        parameters = {**PARAMETERS, "data": str(small_log)}
        for run_id, runner, parallel, changed in (
            ("first", fresh, 2, {}),
            ("second", forking, 1, {}),
            ("third", forking, 1, {"min_auc": 0.98, "activation": "relu"}),
        ):
            outcome = run_package(package, run_id, parameters | changed, folder, runner, parallel)
            print(f"{run_id} run: {outcome.seconds:.0f} s, exit codes {outcome.codes}")
            outcomes.append(outcome)
            served = Path(layout.model_base(config.served_model_name))
            pushed.append(sorted(path.name for path in served.iterdir()) if served.exists() else [])
    first, second, third = outcomes
    return Runs(config, first, second, third, tuple(pushed))


def _said(outcome: RunOutcome) -> str:
    return "\n".join(f"{task}: {log[-2000:]}" for task, log in outcome.logs.items() if outcome.codes[task])


def test_every_step_of_a_first_run_ends_well(runs: Runs) -> None:
    assert set(runs.first.codes.values()) == {0}, _said(runs.first)
    assert runs.states("first") == dict.fromkeys(NODES, "COMPLETE")
    assert runs.first.logs["verdict"].startswith("BLESSED: version ")


def test_what_each_step_took_and_ran_is_written_down(runs: Runs) -> None:
    run = History(Layout(runs.config.output)).run("first")
    assert set(run.steps) == NODES
    for step in run.steps.values():
        # Each in a process of its own, with TensorFlow in it.
        assert 100e6 < (step.usage.peak_memory or 0) < 20e9, step
        assert (step.usage.cpu_seconds or 0) > 0, step
        assert step.provenance == gather(), step.node


def test_parameters_reach_the_steps(runs: Runs) -> None:
    [report] = [r for r in node_runs(Layout(runs.config.output).metadata_db, "ctr", "first") if r.node == "RunReport"]
    config = read_report(report.outputs["report"]).config
    assert config["model"]["name"] == "dnn"
    assert config["training"]["epochs"] == 1
    assert config["evaluation"]["bounds"]["auc"]["min"] == 0.2
    assert config["data"].endswith("/{YYYY}-{MM}-{DD}.csv")


def test_the_last_step_gets_the_report(runs: Runs) -> None:
    outputs = runs.first.outputs["run-report"]
    assert outputs["report"].startswith("# dnn, preset kubeflow: BLESSED, version")
    assert outputs["blessed"] == "true"
    assert outputs["reason"] == f"version {runs.pushed[0][0]} pushed"
    assert outputs["page"].startswith("<!DOCTYPE html>")
    shown = json.loads(outputs["executor output"])["artifacts"]
    assert 0 < shown["metrics"]["artifacts"][0]["metadata"]["AUC, contemporaneous negatives"] < 1
    assert shown["roc"]["artifacts"][0]["metadata"]["confidenceMetrics"][-1]["recall"] == 1


def test_an_identical_run_takes_all_from_the_cache_and_pushes_nothing(runs: Runs) -> None:
    assert set(runs.second.codes.values()) == {0}, _said(runs.second)
    states = runs.states("second")
    # Resolvers always look again.
    assert {node for node, state in states.items() if state != "CACHED"} == {"LastApproval", "LatestBlessedModel"}
    assert states.keys() == NODES
    what = f"version {runs.pushed[0][0]} was pushed by an earlier run"
    assert runs.second.outputs["run-report"]["reason"] == what
    assert runs.second.outputs["run-report"]["report"].startswith(f"# dnn, preset kubeflow: BLESSED, {what}\n")
    assert runs.second.logs["verdict"] == f"BLESSED: {what}\n"


def test_another_model_is_compared_with_the_blessed_one_and_is_not_blessed(runs: Runs) -> None:
    assert {task for task, code in runs.third.codes.items() if code} == {"verdict"}, _said(runs.third)
    assert runs.third.codes["verdict"] == 3
    states = runs.states("third")
    assert {node for node, state in states.items() if state == "CACHED"} == {*BEFORE_THE_GATE} - {"Trainer"}
    assert states.keys() == NODES
    assert runs.third.outputs["run-report"]["blessed"] == "false"
    assert "NOT BLESSED: nothing pushed: " in runs.third.logs["verdict"]
    assert "0.980" in runs.third.logs["verdict"]
    assert "latest blessed model" in runs.third.outputs["run-report"]["report"]


def test_only_the_blessed_model_was_pushed(runs: Runs) -> None:
    first, second, third = runs.pushed
    assert len(first) == 1
    assert first == second == third
    version = Path(Layout(runs.config.output).model_base("ctr")) / first[0]
    assert (version / "saved_model.pb").exists()
