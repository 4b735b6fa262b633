"""One step in this process: what it shares with others, and what stops it."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig
from ctr.models.errors import ConfigError
from ctr.pipeline.commands import cli
from ctr.pipeline.output.connection import MetadataError, connection
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import node_runs
from ctr.pipeline.runners.kubeflow.step import StepFailed, StepRunner
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

pytestmark = pytest.mark.slow

NODE = "ImpressionGen"


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    log = tmp_path / "log.csv"
    generate(GeneratorConfig(users=20), log)
    small = ["beam_pipeline_args=[]", "ingest.user_partitions=1", "metadata.kind=sqlite"]
    return load_preset("kubeflow", [*small, f"data={log}", f"output={tmp_path / 'output'}"])


def _states(config: PipelineConfig, run_id: str) -> dict[str, str]:
    return {run.node: run.state for run in node_runs(Layout(config.output).metadata_db, "ctr", run_id)}


def test_a_step_is_taken_from_the_cache_of_an_earlier_run(config: PipelineConfig) -> None:
    first = StepRunner(NODE, "one").run(config)
    second = StepRunner(NODE, "two").run(config)
    assert (first.cached, second.cached) == (False, True)
    assert first.outputs == second.outputs
    assert Path(first.outputs["catalogue"], "summary.json").exists()
    assert (_states(config, "one"), _states(config, "two")) == ({NODE: "COMPLETE"}, {NODE: "CACHED"})


def test_a_step_whose_artifact_was_removed_is_not_taken_from_the_cache(config: PipelineConfig) -> None:
    first = StepRunner(NODE, "one").run(config)
    shutil.rmtree(first.outputs["catalogue"])
    second = StepRunner(NODE, "two").run(config)
    assert not second.cached
    assert Path(second.outputs["catalogue"], "summary.json").exists()


def test_a_step_that_is_run_again_in_its_run_is_not_repeated(config: PipelineConfig) -> None:
    first = StepRunner(NODE, "one").run(config)
    assert StepRunner(NODE, "one").run(config) == first
    assert _states(config, "one") == {NODE: "COMPLETE"}


def test_a_step_that_failed_can_be_run_again_in_its_run(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctr.components.impression_gen.executor import Executor

    do = Executor.Do

    def fails(self: Any, *arguments: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Executor, "Do", fails)
    with pytest.raises(StepFailed, match=f"{NODE} failed: OSError: the disk is gone"):
        StepRunner(NODE, "one").run(config)
    assert _states(config, "one") == {NODE: "FAILED"}
    monkeypatch.setattr(Executor, "Do", do)
    assert not StepRunner(NODE, "one").run(config).cached
    assert _states(config, "one") == {NODE: "COMPLETE"}


def test_a_step_whose_inputs_are_missing_fails(config: PipelineConfig) -> None:
    with pytest.raises(StepFailed, match=r"StatisticsGen did not run: an input could not be resolved"):
        StepRunner("StatisticsGen", "one").run(config)


@pytest.mark.parametrize("run_id", ["", "{{$.pipeline_job_uuid}}"])
def test_a_run_id_that_was_not_filled_in_is_refused(config: PipelineConfig, run_id: str) -> None:
    with pytest.raises(ConfigError, match=r"was not filled in; steps need Kubeflow Pipelines 2\.5\.0"):
        StepRunner(NODE, run_id).run(config)


def test_the_log_is_looked_for_by_the_step_that_reads_it(config: PipelineConfig) -> None:
    gone = config.with_overrides({"data": f"{config.data}.csv"})
    with pytest.raises(StepFailed, match="an input could not be resolved"):
        StepRunner("SchemaGen", "one").run(gone)
    with pytest.raises(ConfigError, match=r"log\.csv\.csv does not exist"):
        StepRunner(NODE, "one").run(gone)


def _step(config: PipelineConfig, *more: str) -> int:
    return cli.main(["step", f"--node={NODE}", "--run-id=one", f"--config={config.changes_json()}", *more])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--param=epochs=0"], "training.epochs: must be at least 1"),
        (["--param=model=gpt"], "model.name"),
        (["--param=min_auc=high"], "parameter min_auc: 'high' is no number"),
        (["--param=span=monday"], "span: give a number, a day such as 2017-12-03, or latest"),
        (["--node=Trainr"], "node Trainr: there is none; there are ImpressionGen, "),
        (["--config={"], "the configuration is not JSON"),
        (["--config=[]"], "the configuration is not a JSON object"),
    ],
)
def test_what_is_wrong_is_2_and_says_what(
    config: PipelineConfig, more: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _step(config, *more) == 2
    assert says in capfd.readouterr().err
    assert not Path(Layout(config.output).artifacts).exists()


def test_metadata_that_cannot_be_reached_is_said_in_words(
    config: PipelineConfig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    grpc = config.with_overrides(
        {"metadata.kind": "grpc", "metadata.grpc.host": "127.0.0.1", "metadata.grpc.port": port}
    )
    assert _step(grpc) == 1
    assert f"could not connect to the metadata service at 127.0.0.1:{port}" in capfd.readouterr().err

    mysql = config.with_overrides(
        {"metadata.kind": "mysql", "metadata.mysql.host": "127.0.0.1", "metadata.mysql.port": port}
    )
    monkeypatch.delenv("MLMD_MYSQL_PASSWORD", raising=False)
    assert _step(mysql) == 2
    assert "the environment variable MLMD_MYSQL_PASSWORD is not set" in capfd.readouterr().err
    monkeypatch.setenv("MLMD_MYSQL_PASSWORD", "never-shown")
    assert _step(mysql) == 1
    shown = capfd.readouterr().err
    assert f"could not connect to MySQL at 127.0.0.1:{port}/ctr_metadata" in shown
    assert "never-shown" not in shown


def test_the_password_comes_from_the_environment_alone(config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "from-the-environment")
    mysql = config.with_overrides(
        {
            "metadata.kind": "mysql",
            "metadata.mysql": {"host": "db", "user": "ctr", "password_env": "OTHER", "ssl_ca": "/ca.pem"},
        }
    )
    made = connection(mysql.metadata, Layout(mysql.output))
    assert (made.mysql.host, made.mysql.user, made.mysql.password) == ("db", "ctr", "from-the-environment")
    assert made.mysql.ssl_options.verify_server_cert
    assert "from-the-environment" not in mysql.to_json() + mysql.changes_json() + str(mysql.metadata)


def test_sqlite_needs_a_folder() -> None:
    config = load_preset("demo").with_overrides({"output": "gs://bucket/ctr"})
    with pytest.raises(MetadataError, match="cannot lie at gs://bucket/ctr; choose mysql or grpc"):
        connection(config.metadata, Layout(config.output))


def test_a_run_on_one_machine_needs_sqlite(config: PipelineConfig, capsys: pytest.CaptureFixture[str]) -> None:
    generate(GeneratorConfig(users=30), Path(config.data))
    arguments = ["run", "--data", config.data, "--output", config.output, "--preset", "demo"]
    grpc = ["--set", "metadata.kind=grpc", "--set", "metadata.grpc.host=h"]
    assert cli.main([*arguments, *grpc]) == 2
    assert "runs on one machine keep it in SQLite under their output, not in the metadata service at h:8080" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("blessed", "code", "says"), [("true", 0, "BLESSED: version 1"), ("False", 3, "NOT BLESSED: version 1")]
)
def test_the_verdict_is_the_exit_code(blessed: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verdict", f"--blessed={blessed}", "--reason=version 1"]) == code
    assert capsys.readouterr().out == f"{says}\n"


def test_spans_are_chosen(tmp_path: Path) -> None:
    from tfx.proto import range_config_pb2

    from ctr.components.impression_gen.component import ImpressionGen

    (tmp_path / "3.csv").touch()
    ingest = load_preset("demo").ingest
    chosen = ImpressionGen(str(tmp_path / "{SPAN}.csv"), ingest, span=3).exec_properties["range_config"]
    proto = range_config_pb2.RangeConfig()
    from google.protobuf import json_format

    json_format.ParseDict(json.loads(chosen), proto)
    assert (proto.static_range.start_span_number, proto.static_range.end_span_number) == (3, 3)
    assert ImpressionGen(str(tmp_path / "{SPAN}.csv"), ingest).exec_properties.get("range_config") is None
