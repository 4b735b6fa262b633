from __future__ import annotations

from pathlib import Path

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from report_sample import make_report

from ctr.pipeline.commands import cli
from ctr.pipeline.output.layout import Layout

COMPLETE, CACHED, FAILED = mlmd.Execution.COMPLETE, mlmd.Execution.CACHED, mlmd.Execution.FAILED


class Runs:
    """Runs in an output folder, as TFX's launcher records them."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        Path(layout.metadata_db).parent.mkdir(parents=True)
        connection = mlmd.ConnectionConfig()
        connection.sqlite.filename_uri = layout.metadata_db
        connection.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(connection)
        self.run_type = self.store.put_context_type(mlmd.ContextType(name="pipeline_run"))
        self.node_type = self.store.put_context_type(mlmd.ContextType(name="node"))
        self.execution_type = self.store.put_execution_type(mlmd.ExecutionType(name="any"))
        self.artifact_type = self.store.put_artifact_type(mlmd.ArtifactType(name="any"))
        self.nodes: dict[str, mlmd.Context] = {}

    def add(self, run_id: str, states: dict[str, int], version: int) -> None:
        run = mlmd.Context(type_id=self.run_type, name=run_id)
        [run.id] = self.store.put_contexts([run])
        for node, state in states.items():
            if node not in self.nodes:
                self.nodes[node] = mlmd.Context(type_id=self.node_type, name=f"shop.{node}")
                [self.nodes[node].id] = self.store.put_contexts([self.nodes[node]])
            folder = Path(self.layout.artifacts, node, "report", str(version))
            folder.mkdir(parents=True)
            if node == "RunReport":
                (folder / "report.json").write_text(make_report(pushed_version=version).model_dump_json())
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = "report"
            outputs = [(mlmd.Artifact(type_id=self.artifact_type, uri=str(folder)), event)]
            execution = mlmd.Execution(type_id=self.execution_type, last_known_state=state)
            self.store.put_execution(execution, outputs, [run, self.nodes[node]])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    runs = Runs(Layout(str(tmp_path / "output")))
    runs.add("one", {"Pusher": COMPLETE, "RunReport": COMPLETE}, 101)
    runs.add("two", {"Pusher": CACHED, "RunReport": CACHED}, 102)
    runs.add("three", {"Pusher": COMPLETE, "RunReport": FAILED}, 103)
    return tmp_path / "output"


def test_the_newest_report_is_written_with_what_is_known_afterwards(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "--output", str(output)]) == 0
    path = output / "reports" / "two.html"
    assert capsys.readouterr().out == f"{path}\n"
    page = path.read_text(encoding="utf-8")
    assert "version 102 was pushed by an earlier run" in page
    assert "from the cache" in page
    assert "<code>two</code>" in page
    assert f"{output}/artifacts/RunReport/report/102</code>" in page


def test_a_run_is_chosen_and_an_address_given(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--output", str(output), "--run", "one", "--open-path"]) == 0
    assert capsys.readouterr().out == f"file://{output}/reports/one.html\n"
    assert "version 101 pushed" in (output / "reports" / "one.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "three"], "run 'three' has not come to its report"),
        (["--output", "nothing"], "has a pipeline run with this --output?"),
    ],
)
def test_what_is_not_there_is_said(
    arguments: list[str], said: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "--output", str(output), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_report_of_another_version_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (output / "artifacts" / "RunReport" / "report" / "101" / "report.json").write_text('{"rows_read": 1}')
    assert cli.main(["report", "--output", str(output), "--run", "one"]) == 1
    assert "report.json: written by another version of this package" in capsys.readouterr().err
