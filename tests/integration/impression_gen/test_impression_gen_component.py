"""ImpressionGen under a TFX runner, with spans and the cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ingest_runs import Ingested, as_csv, random_rows

from ctr.components.dataset import PUBLIC_LOG
from ctr.components.examples.log_content import LogContent
from ctr.components.examples.summary import IngestSummary
from ctr.components.settings import IngestConfig
from ctr.models.impression import SPLITS

pytestmark = pytest.mark.slow


def run(folder: Path, data: str, ingest: IngestConfig) -> list[tuple[str, str]]:
    """Runs the component alone; (execution, state) of all runs so far."""
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2
    from tfx import v1 as tfx
    from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner

    from ctr.components.direct_beam import keep_beam_here
    from ctr.components.impression_gen.component import ImpressionGen

    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(folder / "metadata.db"))
    keep_beam_here()
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
    assert [a.uri.split("/")[-2] for a in store.get_artifacts_by_type("ctr.ImpressionQuarantine")] == ["quarantine"] * 3
    summaries = [IngestSummary.read(a.uri) for a in store.get_artifacts_by_type("ctr.ImpressionCatalogue")]
    assert all(summary.rows_read == 504 for summary in summaries)
    assert "num_files:1" in examples[0].custom_properties["input_fingerprint"].string_value
    # By content: the second run read the bytes of the first.
    hashes = [hashlib.sha256((tmp_path / f"day-{day}/log.csv").read_bytes()).hexdigest() for day in (2, 2, 3)]
    assert [a.custom_properties["content_digest"].string_value for a in examples] == [f"sha256:{h}" for h in hashes]
    contents = [LogContent.read(a.uri) for a in store.get_artifacts_by_type("ctr.ImpressionCatalogue")]
    assert [(c.path, c.span, c.version) for c in contents] == [
        (str(tmp_path / f"day-{day}"), day, None) for day in (2, 2, 3)
    ]
    assert [c.size for c in contents] == [os.stat(tmp_path / f"day-{day}/log.csv").st_size for day in (2, 2, 3)]

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
    from ctr.components.impression_gen.component import ImpressionGen

    with pytest.raises(ValueError, match=r"data: name a behaviour log \(\.csv, \.csv\.gz, \.csv\.zip, \.csv\.zst\)"):
        ImpressionGen(data="", ingest=IngestConfig())
    with pytest.raises(ValueError, match=r"data: the folder .* holds no \.csv, .* or \.csv\.zst file"):
        ImpressionGen(data=str(tmp_path), ingest=IngestConfig())
    with pytest.raises(ValueError, match=r"data: .*log\.csv does not exist"):
        ImpressionGen(data=str(tmp_path / "log.csv"), ingest=IngestConfig())
    with pytest.raises(ValueError, match=r"data: .* has no span with a log"):
        ImpressionGen(data=str(tmp_path / "day-{SPAN}"), ingest=IngestConfig())
    with pytest.raises(ValueError, match=r"span: .* has no \{SPAN\}"):
        ImpressionGen(data=str(tmp_path), ingest=IngestConfig(), span=3)


def test_a_name_that_would_be_a_pattern_is_read_and_cached(tmp_path: Path) -> None:
    write_log(tmp_path / "in[1]" / "log[1].csv", 1)
    (tmp_path / "in[1]" / "log1.csv").write_text("another log\n")
    (tmp_path / "in[1]" / "._log[1].csv").write_text("hidden\n")
    data = str(tmp_path / "in[1]" / "log[1].csv")
    assert [state for _, state in run(tmp_path, data, IngestConfig())] == ["COMPLETE"]
    assert [state for _, state in run(tmp_path, data, IngestConfig())] == ["COMPLETE", "CACHED"]
    write_log(tmp_path / "in[1]" / "log[1].csv", 2)
    assert run(tmp_path, data, IngestConfig())[-1][1] == "COMPLETE"


def test_a_description_finds_the_logs_and_is_part_of_the_key(tmp_path: Path) -> None:
    write_log(tmp_path / "log" / "day-3" / "events-1.txt", 1)
    (tmp_path / "log" / "day-3" / "log.csv").write_text("not of this description\n")
    described = PUBLIC_LOG.model_copy(update={"files": "events-*"})
    data, ingest = str(tmp_path / "log" / "day-{SPAN}"), IngestConfig(dataset=described)
    assert [state for _, state in run(tmp_path, data, ingest)] == ["COMPLETE"]
    assert run(tmp_path, data, ingest)[-1][1] == "CACHED"
    # Of the same meaning for these rows, but of another description.
    other = IngestConfig(dataset=described.model_copy(update={"quote": '"'}))
    assert run(tmp_path, data, other)[-1][1] == "COMPLETE"
