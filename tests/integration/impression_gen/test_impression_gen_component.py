"""ImpressionGen under a TFX runner, with spans and the cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest_runs import Ingested, as_csv, random_rows

from components.config import IngestConfig
from components.impression_gen.summary import IngestSummary
from models.impression import SPLITS

pytestmark = pytest.mark.slow


def run(folder: Path, data: str, ingest: IngestConfig) -> list[tuple[str, str]]:
    """Runs the component alone; (execution, state) of all runs so far."""
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2
    from tfx import v1 as tfx
    from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner

    from components.impression_gen.component import ImpressionGen

    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(folder / "metadata.db"))
    BeamDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="ingest",
            pipeline_root=str(folder / "root"),
            components=[ImpressionGen(data=data, ingest=ingest)],
            enable_cache=True,
            metadata_connection_config=connection,
        )
    )
    store = metadata_store.MetadataStore(connection)
    names = metadata_store_pb2.Execution.State.Name
    return [(execution.type, names(execution.last_known_state)) for execution in store.get_executions()]


def write_log(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_csv(random_rows(seed=seed, rows=500, users=20, items=100, categories=5, seconds=5000)))


def test_span_artifacts_and_cache(tmp_path: Path) -> None:
    from ml_metadata import metadata_store
    from tfx.components.util import examples_utils
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils

    write_log(tmp_path / "day-1/log.csv", 1)
    write_log(tmp_path / "day-2/log.csv", 2)
    os.utime(tmp_path / "day-2/log.csv", (1, 1))
    data = str(tmp_path / "day-{SPAN}")
    assert [state for _, state in run(tmp_path, data, IngestConfig())] == ["COMPLETE"]
    assert [state for _, state in run(tmp_path, data, IngestConfig())] == ["COMPLETE", "CACHED"]
    assert run(tmp_path, data, IngestConfig(seed=1))[-1][1] == "COMPLETE"
    write_log(tmp_path / "day-3/log.csv", 3)
    assert run(tmp_path, data, IngestConfig())[-1][1] == "COMPLETE"

    store = metadata_store.MetadataStore(sqlite_metadata_connection_config(str(tmp_path / "metadata.db")))
    examples = store.get_artifacts_by_type("Examples")
    assert [artifact.custom_properties["span"].int_value for artifact in examples] == [2, 2, 3]
    assert [a.uri.split("/")[-2] for a in store.get_artifacts_by_type("components.ImpressionQuarantine")] == [
        "quarantine"
    ] * 3
    summaries = [IngestSummary.read(a.uri) for a in store.get_artifacts_by_type("components.ImpressionCatalogue")]
    assert all(summary.rows_read == 510 for summary in summaries)
    assert "num_files:1" in examples[0].custom_properties["input_fingerprint"].string_value

    artifact = artifact_utils.deserialize_artifact(
        store.get_artifact_types_by_id([examples[0].type_id])[0], examples[0]
    )
    assert artifact_utils.decode_split_names(artifact.split_names) == list(SPLITS)
    assert examples_utils.get_payload_format(artifact) == example_gen_pb2.FORMAT_TF_EXAMPLE
    assert examples_utils.get_file_format(artifact) == "tfrecords_gzip"
    # <root>/ImpressionGen/examples/<id>: each output has its own root.
    written = len(Ingested(_gathered(tmp_path, artifact.uri)).impressions("train"))
    assert written == summaries[0].impressions["train"] > 0


def _gathered(tmp_path: Path, examples_uri: str) -> Path:
    folder = tmp_path / "gathered"
    folder.mkdir()
    (folder / "examples").symlink_to(examples_uri)
    return folder


def test_missing_data_is_refused_before_anything_runs(tmp_path: Path) -> None:
    from components.impression_gen.component import ImpressionGen

    with pytest.raises(ValueError, match=r"data: name a behaviour log \(\.csv, \.csv\.gz, \.csv\.zip\)"):
        ImpressionGen(data="", ingest=IngestConfig())
    for data in (tmp_path, tmp_path / "log.csv", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"data: .* matches no \.csv"):
            ImpressionGen(data=str(data), ingest=IngestConfig())


@pytest.mark.parametrize(
    ("data", "base", "pattern"),
    [
        ("/logs/UserBehavior.csv.zip", "/logs", "UserBehavior.csv.zip"),
        ("UserBehavior.csv", ".", "UserBehavior.csv"),
        ("/log.csv", "/", "log.csv"),
        ("logs", "logs", "*.csv*"),
        ("gs://bucket/logs/", "gs://bucket/logs", "*.csv*"),
        ("/logs/{YYYY}-{MM}-{DD}/log.csv.gz", "/logs", "{YYYY}-{MM}-{DD}/log.csv.gz"),
        ("logs/span-{SPAN}", "logs", "span-{SPAN}/*.csv*"),
    ],
)
def test_input_of(data: str, base: str, pattern: str) -> None:
    from components.impression_gen.component import input_of

    assert input_of(data) == (base, pattern)
