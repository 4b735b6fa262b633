from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hand_made_store import State, Store
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import NoSuchRun, adopt_moved_artifacts, latest_output, node_runs


@pytest.fixture
def history(tmp_path: Path) -> Store:
    history = Store(tmp_path / "metadata.sqlite")
    history.add("one", "ImpressionGen", State.COMPLETE, "/artifacts/1")
    history.add("one", "Trainer", State.FAILED)
    history.add("two", "ImpressionGen", State.CACHED, "/artifacts/1")
    history.add("two", "Trainer", State.COMPLETE, "/artifacts/4")
    return history


def test_the_nodes_of_one_run_in_order(history: Store, tmp_path: Path) -> None:
    nodes = node_runs(str(tmp_path / "metadata.sqlite"), "ctr", "one")
    assert [(n.node, n.state, n.succeeded) for n in nodes] == [
        ("ImpressionGen", "COMPLETE", True),
        ("Trainer", "FAILED", False),
    ]
    assert nodes[0].outputs == {"examples": "/artifacts/1"}
    assert all(0 <= n.usage.seconds < 60 for n in nodes)


def test_a_cached_node_succeeded(history: Store, tmp_path: Path) -> None:
    [ingest, _] = node_runs(str(tmp_path / "metadata.sqlite"), "ctr", "two")
    assert (ingest.state, ingest.succeeded) == ("CACHED", True)


def test_the_latest_output_is_that_of_the_last_success(history: Store, tmp_path: Path) -> None:
    db = str(tmp_path / "metadata.sqlite")
    history.add("three", "Trainer", State.FAILED, "/artifacts/9")
    assert latest_output(db, "ctr", "Trainer", "examples") == "/artifacts/4"


def test_what_is_not_there_is_said(history: Store, tmp_path: Path) -> None:
    db = str(tmp_path / "metadata.sqlite")
    with pytest.raises(NoSuchRun, match="no run 'nope'"):
        node_runs(db, "ctr", "nope")
    with pytest.raises(NoSuchRun, match="Pusher of pipeline 'ctr'"):
        latest_output(db, "ctr", "Pusher", "examples")
    with pytest.raises(NoSuchRun, match="--output"):
        latest_output(str(tmp_path / "missing.sqlite"), "ctr", "Pusher", "examples")


def test_reading_leaves_the_file_as_it_was(history: Store, tmp_path: Path) -> None:
    file = tmp_path / "metadata.sqlite"
    before = file.read_bytes()
    node_runs(str(file), "ctr", "one")
    assert file.read_bytes() == before


# --- a folder that was moved ---------------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path: Path) -> Layout:
    """An output folder of two runs, moved after them; the first one's artifact was removed by hand."""
    old = Layout(str(tmp_path / "old"))
    Path(old.metadata_db).parent.mkdir(parents=True)
    history = Store(Path(old.metadata_db))
    for execution, node in ((1, "ImpressionGen"), (2, "ImpressionGen"), (3, "Trainer")):
        history.add("one", node, State.COMPLETE, f"{old.artifacts}/{node}/examples/{execution}")
        if execution > 1:
            Path(old.artifacts, node, "examples", str(execution)).mkdir(parents=True)
    history.add("one", "Imported", State.COMPLETE, str(tmp_path / "elsewhere" / "a" / "b" / "7"))
    del history
    new = Layout(str(tmp_path / "new"))
    os.rename(old.output, new.output)
    return new


def test_what_lies_in_a_moved_folder_is_found_there(moved: Layout) -> None:
    found = latest_output(moved.metadata_db, "ctr", "ImpressionGen", "examples")
    assert found == f"{moved.artifacts}/ImpressionGen/examples/2"
    outputs = [run.outputs["examples"] for run in node_runs(moved.metadata_db, "ctr", "one")]
    # What does not lie here keeps its address.
    assert outputs[0] == f"{Path(moved.output).parent}/old/artifacts/ImpressionGen/examples/1"
    assert outputs[2] == f"{moved.artifacts}/Trainer/examples/3"
    assert outputs[3].endswith("/elsewhere/a/b/7")


def test_a_copy_takes_its_own_artifacts_and_not_those_of_the_original(moved: Layout, tmp_path: Path) -> None:
    shutil.copytree(moved.output, tmp_path / "old")
    found = latest_output(moved.metadata_db, "ctr", "ImpressionGen", "examples")
    assert found == f"{moved.artifacts}/ImpressionGen/examples/2"


def test_a_run_makes_the_metadata_name_what_lies_here(moved: Layout, tmp_path: Path) -> None:
    assert adopt_moved_artifacts(moved.metadata_db) == (2, str(tmp_path / "old"))
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = moved.metadata_db
    assert sorted(artifact.uri for artifact in MetadataStore(connection).get_artifacts()) == sorted(
        [
            f"{moved.artifacts}/ImpressionGen/examples/2",
            f"{moved.artifacts}/Trainer/examples/3",
            f"{tmp_path}/old/artifacts/ImpressionGen/examples/1",
            f"{tmp_path}/elsewhere/a/b/7",
        ]
    )
    assert adopt_moved_artifacts(moved.metadata_db) == (0, "")


def test_a_folder_without_a_run_has_nothing_to_adopt(tmp_path: Path) -> None:
    assert adopt_moved_artifacts(Layout(str(tmp_path)).metadata_db) == (0, "")
    assert not list(tmp_path.iterdir())
