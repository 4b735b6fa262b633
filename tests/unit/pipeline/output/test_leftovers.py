from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.components.locks import held
from ctr.pipeline.commands import cli
from ctr.pipeline.commands.command_line import FAILED, OK
from ctr.pipeline.output.connection import connection
from ctr.pipeline.output.executions import NODE_CONTEXT, RUN_CONTEXT, Canceled
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.leftovers import clear, clear_all, living, readable
from ctr.pipeline.settings.metadata import MetadataConfig
from ctr.serving.version_folders import incoming_folder, lock_file

_STATE = mlmd.Execution


class _Output:
    """An output folder as TFX leaves it, with as much of ML Metadata as is read."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(str(folder))
        self.store = MetadataStore(connection(MetadataConfig(), self.layout))

    def execution(self, run_id: str, state: int, node: str = "Trainer", files: Sequence[str] = ("half",)) -> int:
        type_id = self.store.put_execution_type(mlmd.ExecutionType(name=node))
        contexts = [
            mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
            for kind, name in ((RUN_CONTEXT, run_id), (NODE_CONTEXT, f"ctr.{node}"))
        ]
        made = mlmd.Execution(type_id=type_id, last_known_state=state)
        number = self.store.put_execution(made, [], contexts, reuse_context_if_already_exist=True)[0]
        folder = self.folder(number, node)
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text("x" * 1000)
        if state == _STATE.COMPLETE:
            model = self.store.put_artifact_type(mlmd.ArtifactType(name="Model"))
            self.store.put_artifacts([mlmd.Artifact(type_id=model, uri=str(folder), state=mlmd.Artifact.LIVE)])
        return number

    def folder(self, number: int, node: str = "Trainer") -> Path:
        return Path(self.layout.artifacts, node, "model", str(number))

    def state(self, number: int) -> int:
        return self.store.get_executions_by_id([number])[0].last_known_state

    def died(self, run_id: str) -> None:
        with pytest.raises(RuntimeError), living(self.layout, run_id):
            raise RuntimeError("killed")


@pytest.fixture
def output(tmp_path: Path) -> _Output:
    return _Output(tmp_path)


def test_what_a_dead_run_left_is_cleared_and_what_it_finished_is_kept(output: _Output) -> None:
    output.died("dead")
    done = output.execution("dead", _STATE.COMPLETE)
    cached = output.execution("dead", _STATE.CACHED)
    half = output.execution("dead", _STATE.RUNNING)
    canceled = output.execution("dead", _STATE.CANCELED)
    kept = Path(output.layout.artifacts, "Trainer", "checkpoint", "3f2a")
    kept.mkdir(parents=True)

    cleared = clear(output.layout)

    assert [output.state(n) for n in (done, half, canceled)] == [_STATE.COMPLETE, _STATE.FAILED, _STATE.CANCELED]
    assert [output.folder(n).exists() for n in (done, cached, half, canceled)] == [True, True, False, False]
    assert kept.exists()
    assert str(cleared) == "1 execution and 2 folders (2.0 kB)"
    assert os.listdir(output.layout.runs) == []
    assert not clear(output.layout)


def test_a_living_run_keeps_what_is_its_own(output: _Output) -> None:
    with living(output.layout, "first"), living(output.layout, "second"):
        numbers = [output.execution(run, _STATE.RUNNING) for run in ("first", "second")]
        assert not clear(output.layout)
        assert not clear_all(output.layout)
        assert all(output.folder(n).exists() and output.state(n) == _STATE.RUNNING for n in numbers)
    assert os.listdir(output.layout.runs) == []


def test_a_run_without_a_lock_may_be_a_step_on_a_cluster(output: _Output) -> None:
    number = output.execution("elsewhere", _STATE.RUNNING)
    assert not clear(output.layout)
    found = clear_all(output.layout)
    assert not found
    assert found.left_alone == [f"execution {number}: under way, and no lock says that its run has ended"]
    assert output.folder(number).exists()


def test_another_machines_run_is_left_alone(output: _Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ctr.components.locks._machine", lambda: ("kernel", "not-" + socket.gethostname()))
        output.died("other")
    number = output.execution("other", _STATE.RUNNING)
    found = clear(output.layout)
    assert not found
    assert found.left_alone == ["run other: started on another machine, it may be under way"]
    assert output.folder(number).exists()


def test_what_is_in_use_is_kept_whatever_its_execution_says(output: _Output) -> None:
    output.died("dead")
    number = output.execution("dead", _STATE.COMPLETE)
    execution = output.store.get_executions_by_id([number])[0]
    execution.last_known_state = _STATE.RUNNING
    output.store.put_executions([execution])
    clear(output.layout)
    clear_all(output.layout)
    assert output.folder(number).exists()


def test_a_killed_push_is_cleared_and_a_living_one_is_not(output: _Output) -> None:
    base = output.layout.model_base("ctr")
    dead, alive, unknown = (Path(incoming_folder(base, version)) for version in (1, 2, 3))
    pushed = Path(base, "1700000000")
    for folder in (dead, alive, unknown, pushed):
        (folder / "model").mkdir(parents=True)
    with held(lock_file(str(dead))):
        pass
    with held(lock_file(str(alive))):
        found = clear(output.layout)
    assert [folder.exists() for folder in (dead, alive, unknown, pushed)] == [False, True, True, True]
    assert found.left_alone == [f"{unknown}: without a lock of this machine, it may be a push under way"]


def test_clean_lists_first_and_removes_what_nobody_uses(output: _Output, capsys: pytest.CaptureFixture[str]) -> None:
    done = output.execution("old", _STATE.COMPLETE)
    failed = output.execution("old", _STATE.FAILED)
    unknown = output.folder(99)
    unknown.mkdir()
    log = Path(output.layout.logs, "old.log")
    log.parent.mkdir()
    log.write_text("kept")

    assert cli.main(["clean", "--output", output.layout.output, "--dry-run"]) == OK
    listed = capsys.readouterr()
    assert output.folder(failed).exists()
    assert listed.out.splitlines() == [
        f"    1.0 kB  artifacts/Trainer/model/{failed}  (execution {failed} did not succeed)",
        "   0 bytes  artifacts/Trainer/model/99  (execution 99 is not known to ML Metadata)",
    ]
    assert listed.err == "to be removed: 2 folders (1.0 kB)\n"

    assert cli.main(["clean", "--output", output.layout.output]) == OK
    assert capsys.readouterr().err == "removed: 2 folders (1.0 kB)\n"
    assert [path.exists() for path in (output.folder(done), output.folder(failed), unknown, log)] == [1, 0, 0, 1]
    assert cli.main(["clean", "--output", output.layout.output]) == OK
    assert capsys.readouterr().err == "removed: nothing\n"


def test_clean_without_metadata_removes_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = tmp_path / "artifacts" / "Trainer" / "model" / "1"
    artifact.mkdir(parents=True)
    assert cli.main(["clean", "--output", str(tmp_path)]) == OK
    assert artifact.exists()
    assert "metadata.sqlite says what is in use" in capsys.readouterr().err


def test_clean_of_no_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clean", "--output", str(tmp_path / "none")]) == FAILED
    assert "no such folder" in capsys.readouterr().err


def test_a_step_that_was_told_to_end_is_canceled_and_its_neighbour_is_not(output: _Output) -> None:
    own = output.execution("run", _STATE.RUNNING, node="Trainer")
    done = output.execution("run", _STATE.COMPLETE, node="ImpressionGen")
    neighbour = output.execution("run", _STATE.RUNNING, node="Baselines")
    other = output.execution("another", _STATE.RUNNING, node="Trainer")
    Canceled(metadata=MetadataConfig(), output=output.layout.output, run_id="run", node="Trainer").mark()
    states = [output.state(number) for number in (own, done, neighbour, other)]
    assert states == [_STATE.CANCELED, _STATE.COMPLETE, _STATE.RUNNING, _STATE.RUNNING]


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e15, "2000.0 TB")])
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text
