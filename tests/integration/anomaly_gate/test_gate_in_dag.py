"""StatisticsGen, SchemaGen, ExampleValidator and the gate, with a step that waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx import v1 as tfx
from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
from tfx.types import artifact_utils

from ctr.components.anomaly_gate.component import AnomalyGate
from ctr.components.anomaly_gate.findings import AnomaliesFoundError
from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.summary import summarise
from ctr.components.examples.window import KEYS
from ctr.components.schema.component import SchemaGen
from ctr.components.schema.impression_schema import Ranges
from ctr.components.settings import IngestConfig, StatisticsConfig
from ctr.models.impression import SPLITS

IMPRESSION: dict[str, list[Any]] = {
    "user_id": [7],
    "timestamp": [1511600000],
    "negative_set": [b"mixed"],
    "target_behavior": [1],
    "history_item_id": [5],
    "history_category_id": [50],
    "history_behavior": [1],
    "history_age": [100],
    "candidate_item_id": [3, 4],
    "candidate_category_id": [30, 40],
    "label": [1, 0],
}


def write(folder: Path, rows: list[dict[str, list[Any]]]) -> None:
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "data.gz"), options="GZIP") as writer:
        for row in rows:
            example = tf.train.Example()
            for name, value in row.items():
                feature = example.features.feature[name]
                (feature.bytes_list if name == "negative_set" else feature.int64_list).value.extend(value)
            writer.write(example.SerializeToString())


def dag(folder: Path) -> tfx.dsl.Pipeline:
    examples = tfx.dsl.Importer(
        source_uri=str(folder / "data"),
        artifact_type=tfx.types.standard_artifacts.Examples,
        properties={"split_names": artifact_utils.encode_split_names(list(SPLITS))},
        custom_properties=dict(zip(KEYS, IngestConfig().window, strict=True)),
    )
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["result"])
    schema = SchemaGen(examples=examples.outputs["result"], settings=Ranges.of(IngestConfig()).model_dump_json())
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    catalogue = tfx.dsl.Importer(source_uri=str(folder / "catalogue"), artifact_type=ImpressionCatalogue).with_id(
        "Events"
    )
    summarise(["log.csv"], {}, (1, 2)).write(str(folder / "catalogue"))
    gate = AnomalyGate(
        zone="UTC",
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        catalogue=catalogue.outputs["result"],
        settings=StatisticsConfig().model_dump_json(),
    )
    after = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"]).with_id("Waits")
    after.add_upstream_node(gate)
    return tfx.dsl.Pipeline(
        pipeline_name="gate",
        pipeline_root=str(folder / "root"),
        components=[examples, statistics, schema, validator, catalogue, gate, after],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        ),
    )


@pytest.mark.slow
def test_good_data_pass_and_the_next_step_runs(tmp_path: Path) -> None:
    for split in SPLITS:
        write(tmp_path / "data" / f"Split-{split}", [IMPRESSION] * 20)
    keep_beam_here()
    BeamDagRunner().run(dag(tmp_path))
    (approved,) = (tmp_path / "root" / "AnomalyGate").rglob("APPROVED")
    assert approved.read_text().split() == list(SPLITS)
    assert list((tmp_path / "root" / "Waits").rglob("schema.pbtxt"))


@pytest.mark.slow
def test_bad_data_stop_the_run_before_the_next_step(tmp_path: Path) -> None:
    write(tmp_path / "data" / "Split-train", [IMPRESSION] * 20)
    write(tmp_path / "data" / "Split-validation", [])
    write(tmp_path / "data" / "Split-eval", [IMPRESSION, IMPRESSION | {"history_behavior": [9]}])
    with pytest.raises(AnomaliesFoundError) as error:
        tfx.orchestration.LocalDagRunner().run(dag(tmp_path))
    message = str(error.value)
    assert "split eval, feature history_behavior: Unexpectedly large value: 9. Expected: INT, 1 to 4, " in message
    assert "split validation, the whole of it: it has no impressions. Expected: at least 1 impression" in message
    assert "split train" not in message
    assert not list((tmp_path / "root").rglob("APPROVED"))
    assert not (tmp_path / "root" / "Waits").exists()
