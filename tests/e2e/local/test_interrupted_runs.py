"""Signals in each step of a run, in real processes: forked from one that has imported TFX, to save the time."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forks import Forks
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.pipeline.output.connection import connection
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.settings.metadata import MetadataConfig
from ctr.pipeline.settings.pipeline_config import load_preset

pytestmark = pytest.mark.slow

_SETTINGS = (
    "training.epochs=1",
    "model.name=dnn",
    "evaluation.bounds.auc.min=0.2",
    "evaluation.bounds.auc.max_drop=0.9",
    "evaluation.bounds.auc.min_margin=null",
    "evaluation.bounds.auc.confidence=null",
)
_PUSHED = "evaluation.bounds.auc.min=0.22"
IN_TIME = 20
"""Seconds on a machine that does much else; a pod has 30."""


@dataclass
class _Ended:
    code: int
    err: str
    seconds: float


class _Runs:
    def __init__(self, forks: Forks, folder: Path, log: Path) -> None:
        self.forks = forks
        self.folder = folder
        self.log = log
        self.layout = Layout(str(folder / "output"))

    def run(self, *changes: str, **ending: Any) -> _Ended:
        settings = [part for value in (*_SETTINGS, *changes) for part in ("--set", value)]
        arguments = ["run", "--data", str(self.log), "--preset", "demo", "--output", self.layout.output, *settings]
        return self.command(arguments, **ending)

    def command(
        self, arguments: list[str], step: str = "", says: str = "", number: int = 0, slow_push: bool = False
    ) -> _Ended:
        """Runs a command to its end, or sends it a signal when a step's executor has started, or it says something."""
        out, err = self.folder / "out", self.folder / "err"
        out.write_text("")
        err.write_text("")
        logs = set(self._logs())
        process = self.forks.start(arguments, out, err, slow_push=slow_push)
        if step or says:
            launched = "Running launcher for" if arguments[0] == "step" else f"node {step} is running"
            awaited = re.compile(re.escape(says) if says else rf"{launched}.*Going to run a new execution \d", re.S)
            end = time.monotonic() + 120
            while not any(awaited.search(file.read_text()) for file in [err, *(set(self._logs()) - logs)]):
                if time.monotonic() > end:
                    os.kill(process, signal.SIGKILL)
                    pytest.fail(f"{awaited.pattern} did not come:\n{err.read_text()}")
                time.sleep(0.05)
            while slow_push and not list(Path(self.layout.serving).glob("*/.*.incoming/model")):
                time.sleep(0.05)
            os.kill(process, number)
        start = time.monotonic()
        code = self.forks.wait()
        return _Ended(code, err.read_text(), time.monotonic() - start)

    def _logs(self) -> list[Path]:
        return list(Path(self.layout.logs).glob("*.log"))

    def states(self) -> dict[str, str]:
        """Node type -> the state of its newest execution."""
        return {e.type.rsplit(".", 1)[-1]: mlmd.Execution.State.Name(e.last_known_state) for e in self._executions()}

    def all_states(self) -> set[str]:
        """Of all executions ever."""
        return {mlmd.Execution.State.Name(e.last_known_state) for e in self._executions()}

    def _executions(self) -> list[mlmd.Execution]:
        store = MetadataStore(connection(MetadataConfig(), self.layout))
        return sorted(store.get_executions(), key=lambda execution: execution.id)


@pytest.fixture(scope="module")
def runs(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> _Runs:
    """An output folder with one run that has come to its end."""
    from ctr.generator.behavior_log import generate
    from ctr.generator.generator_config import GeneratorConfig

    folder = tmp_path_factory.mktemp("endings")
    generate(GeneratorConfig(users=150, seed=3), folder / "log.csv")
    runs = _Runs(forks, folder, folder / "log.csv")
    first = runs.run()
    assert first.code == 0, first.err
    return runs


@pytest.mark.parametrize(
    ("step", "change", "name"),
    [
        ("ImpressionGen", "ingest.seed=5", "SIGTERM"),
        ("StatisticsGen", "statistics.sample_rate=0.9", "SIGINT"),
        ("ImpressionTransform", "transform.min_item_count=3", "SIGTERM"),
        ("Trainer", "training.seed=9", "SIGINT"),
        ("Evaluator", "evaluation.bounds.auc.min=0.21", "SIGINT"),
        ("Pusher", _PUSHED, "SIGTERM"),
    ],
)
def test_a_signal_ends_a_run_in_time_and_marks_it(runs: _Runs, step: str, change: str, name: str) -> None:
    number = signal.Signals[name]
    ended = runs.run(change, step=step, number=number, slow_push=step == "Pusher")
    assert ended.code == 128 + number
    assert ended.seconds < IN_TIME
    *_, last = ended.err.splitlines()
    assert re.fullmatch(
        rf"interrupted during {step} after [\d.]+ s; what was finished is kept, run the same command to go on", last
    )
    assert not re.search("Traceback|failed|error", ended.err)
    assert runs.states()[step] == "CANCELED"
    assert not runs.all_states() & {"RUNNING", "FAILED"}


def test_the_next_run_goes_on_and_clears_what_a_killed_one_left(runs: _Runs) -> None:
    killed = runs.run(_PUSHED, step="Pusher", number=signal.SIGKILL, slow_push=True)
    assert killed.code == -signal.SIGKILL
    assert runs.states()["Pusher"] == "RUNNING"
    serving, artifacts = Path(runs.layout.serving), Path(runs.layout.artifacts)
    assert list(serving.glob("*/.*.incoming"))

    second = runs.run(_PUSHED)

    assert second.code == 0, second.err
    assert re.search(r"^cleared, what earlier runs left unfinished: 1 execution and \d+ folders", second.err, re.M)
    assert runs.states()["Pusher"] == "COMPLETE"
    assert runs.all_states() & {"RUNNING", "FAILED"} == {"FAILED"}
    assert not list(serving.glob("*/.*"))
    assert not list(artifacts.glob("*/*/*/.incoming"))
    assert os.listdir(runs.layout.runs) == []
    # Nothing is left for this one.
    clean = runs.command(["clean", "--output", runs.layout.output])
    assert (clean.code, clean.err) == (0, "removed: nothing\n")


def test_a_sweep_ends_between_two_batches(runs: _Runs) -> None:
    settings = [part for value in (*_SETTINGS, "training.epochs=50") for part in ("--set", value)]
    output = ["--preset", "demo", "--output", runs.layout.output]
    arguments = ["sweep", "--data", str(runs.log), *output, *settings, "--models", "dnn"]
    ended = runs.command(arguments, says=" trials, 0 of them measured before", number=signal.SIGTERM)
    assert ended.code == 143
    assert ended.seconds < IN_TIME
    *_, last = ended.err.splitlines()
    assert last == "interrupted: stopped by SIGTERM before the end"


def test_a_step_on_a_cluster_ends_likewise_and_its_next_try_goes_on(runs: _Runs) -> None:
    config = load_preset("demo", list(_SETTINGS)).with_overrides(
        {"data": str(runs.log), "output": str(runs.folder / "cluster")}
    )
    arguments = ["step", "--node", "ImpressionGen", "--run-id", "1", "--config", config.to_json()]
    ended = runs.command(arguments, step="ImpressionGen", number=signal.SIGTERM)
    assert ended.code == 143
    assert ended.seconds < IN_TIME
    *_, last = ended.err.splitlines()
    assert re.fullmatch(r"interrupted during ImpressionGen after [\d.]+ s; the next try of the step goes on", last)
    runs.layout = Layout(config.output)
    assert runs.states() == {"ImpressionGen": "CANCELED"}
    again = runs.command(arguments)
    assert again.code == 0, again.err
    assert runs.states() == {"ImpressionGen": "COMPLETE"}
