"""The report from real artifacts: ingest's summary, a transform graph, TFMA's output, a push."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import json_format
from tfx import types
from tfx.types import standard_artifacts
from tfx_bsl.public import tfxio

from ctr.components import artifacts
from ctr.components.direct_beam import keep_beam_here
from ctr.components.evaluator.judge import evaluator_config
from ctr.components.evaluator.scoring import custom_extractors
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.summary import IngestSummary
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from ctr.components.run_report.component import RunReport
from ctr.components.run_report.render import render
from ctr.components.run_report.report import Report, read_report
from ctr.components.scoring.baselines import FILE_NAME, BaselineResults, SetResult
from ctr.components.scoring.blessing import read_verdict
from ctr.components.scoring.verdict import VERDICT_FILE
from ctr.components.transform.preprocessing import VOCABULARY_FILES, preprocessing_fn
from ctr.models.impression import NEGATIVE_SETS, SPLITS
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset


def artifact(cls: type[types.Artifact], folder: Path) -> types.Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    result = cls()
    result.uri = str(folder)
    return result


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> types.Artifact:
    result = artifact(artifacts.ImpressionCatalogue, tmp_path_factory.mktemp("catalogue"))
    ids = np.arange(1, 6)
    Catalogue(ids, ids * 10, ids[::-1], ids * 10, ids[::-1]).write(result.uri)
    IngestSummary(
        files=["log.csv"],
        rows_read=110,
        rows_kept=100,
        quarantined={"duplicate": 7, "outside_window": 3},
        users=9,
        validation_start=70,
        eval_start=80,
        events={"train": 70, "validation": 10, "eval": 20},
        behaviors={split: {"pv": 10} for split in SPLITS},
        hours={split: {} for split in SPLITS},
        impressions={"train": 60, "validation": 9, "eval": 60},
        eval_impressions=dict.fromkeys(NEGATIVE_SETS, 20),
        dropped={split: {"short_history": 1} for split in SPLITS},
        items_with_several_categories=2,
    ).write(result.uri)
    return result


@pytest.fixture(scope="module")
def transform_graph(tmp_path_factory: pytest.TempPathFactory) -> types.Artifact:
    folder = tmp_path_factory.mktemp("transform")
    files = {name: folder / f"{name}.txt" for name in (ITEM_VOCABULARY, CATEGORY_VOCABULARY)}
    files[ITEM_VOCABULARY].write_text("5\n4\n3\n")
    files[CATEGORY_VOCABULARY].write_text("50\n40\n")
    ids = [f"{kind}_{id_}_id" for kind in ("history", "candidate") for id_ in ("item", "category")]
    metadata = tft.DatasetMetadata.from_feature_spec({name: tf.io.VarLenFeature(tf.int64) for name in ids})
    function = functools.partial(
        preprocessing_fn, custom_config={VOCABULARY_FILES: {name: str(path) for name, path in files.items()}}
    )
    result = artifact(standard_artifacts.TransformGraph, folder / "graph")
    keep_beam_here()
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "temp")):
        data = pipeline | beam.Create([{name: [1] for name in ids}])
        fn = (data, metadata) | tft_beam.AnalyzeDataset(function)
        _ = fn | tft_beam.WriteTransformFn(result.uri)
    return result


class ItemOfAThousand(tf.Module):
    """Probability = candidate_item_id / 1000."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        items = tf.io.parse_example(examples, {"candidate_item_id": tf.io.RaggedFeature(tf.int64)})
        probability = tf.cast(items["candidate_item_id"].to_tensor(), tf.float32) / 1000
        return {"probability": probability, "logit": tf.math.log(probability / (1 - probability))}


def evaluate(folder: Path, config: PipelineConfig) -> tuple[types.Artifact, types.Artifact]:
    """TFMA on data in which every positive scores 0.8, a third of the negatives 0.9."""
    model = ItemOfAThousand()
    tf.saved_model.save(model, str(folder / "model"), signatures={"serving_default": model.serve})
    data = folder / "scored.gz"
    with tf.io.TFRecordWriter(str(data), options="GZIP") as writer:
        for i in range(20 * len(NEGATIVE_SETS)):
            example = tf.train.Example()
            feature = example.features.feature
            feature["user_id"].int64_list.value.append(i % 9)
            feature["negative_set"].bytes_list.value.append(NEGATIVE_SETS[i % len(NEGATIVE_SETS)].encode())
            feature["label"].int64_list.value.extend([1, 0])
            feature["candidate_item_id"].int64_list.value.extend(
                [800, 900 if i // len(NEGATIVE_SETS) % 3 == 0 else 100]
            )
            writer.write(example.SerializeToString())
    eval_config = tfma.utils.update_eval_config_with_defaults(
        json_format.Parse(evaluator_config(config.evaluation), tfma.EvalConfig()), has_baseline=False, rubber_stamp=True
    )
    shared_model = tfma.default_eval_shared_model(str(folder / "model"), eval_config=eval_config)
    evaluation = artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
    source = tfxio.TFExampleRecord(
        str(data), raw_record_column_name=tfma.ARROW_INPUT_COLUMN, telemetry_descriptors=["test"]
    )
    keep_beam_here()
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | source.BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=shared_model,
                eval_config=eval_config,
                extractors=custom_extractors(shared_model, eval_config, None),
                output_path=evaluation.uri,
            )
        )
    blessing = artifact(standard_artifacts.ModelBlessing, folder / "blessing")
    ok = tfma.load_validation_result(evaluation.uri).validation_ok
    (folder / "blessing" / ("BLESSED" if ok else "NOT_BLESSED")).touch()
    verdict = read_verdict(evaluation.uri, blessing.uri)
    Path(evaluation.uri, VERDICT_FILE).write_text(verdict.model_dump_json())
    return evaluation, blessing


def report_of(
    folder: Path,
    config: PipelineConfig,
    catalogue: types.Artifact,
    transform_graph: types.Artifact,
    version: int | None,
) -> tuple[Report, types.Artifact]:
    baselines = artifact(artifacts.BaselineReport, folder / "baselines")
    result = SetResult(
        impressions=20,
        pairs=40,
        positives=20,
        seen_positives=0,
        seen_negatives=0,
        pairs_new=40,
        auc={"category_recency": 0.6},
        auc_new={"category_recency": 0.6},
    )
    (folder / "baselines" / FILE_NAME).write_text(
        BaselineResults(
            sets=dict.fromkeys(NEGATIVE_SETS, result),
            unknown=(),
            fitted_impressions=60,
            seed=1,
        ).model_dump_json()
    )
    evaluation, blessing = evaluate(folder, config)
    pushed = artifact(standard_artifacts.PushedModel, folder / "pushed")
    pushed.set_int_custom_property("pushed", int(version is not None))
    if version is not None:
        pushed.set_string_custom_property("pushed_version", str(version))
        pushed.set_string_custom_property("pushed_destination", f"serving/ctr/{version}")
    inputs = {
        "catalogue": catalogue,
        "transform_graph": transform_graph,
        "baselines": baselines,
        "evaluation": evaluation,
        "blessing": blessing,
        "pushed_model": pushed,
    }
    node = RunReport(settings=config.to_json(), **{name: types.Channel(type=type(a)) for name, a in inputs.items()})
    output = artifact(artifacts.RunReport, folder / "report")
    node.executor_spec.executor_class().Do(
        {name: [a] for name, a in inputs.items()}, {"report": [output]}, node.exec_properties
    )
    return read_report(output.uri), output


def test_a_blessed_run_is_reported_whole(
    tmp_path: Path, catalogue: types.Artifact, transform_graph: types.Artifact
) -> None:
    config = load_preset("demo", ["evaluation.bounds.auc.min=0.6"])
    report, output = report_of(tmp_path, config, catalogue, transform_graph, version=1_700_000_000)

    assert PipelineConfig.model_validate(report.config) == config
    assert json.loads(output.get_string_custom_property("config_json")) == report.config
    assert (report.rows_read, report.rows_kept, report.users) == (110, 100, 9)
    assert report.quarantined == {"duplicate": 7, "outside_window": 3}
    assert report.impressions == {"train": 60, "validation": 9, "eval": 60}
    assert report.vocabulary == {"items": 3, "categories": 2}
    assert report.blessed
    assert output.get_int_custom_property("blessed") == 1
    assert (report.pushed_version, report.pushed_to) == (1_700_000_000, "serving/ctr/1700000000")
    assert output.get_string_custom_property("pushed_version") == "1700000000"
    # 7 of the 20 impressions of a set have a negative above every positive.
    assert report.verdict.metrics["negative_set=contemporaneous"]["auc"] == pytest.approx(13 / 20)
    assert "din: AUC 0.6500 0.6500 0.6500" in " ".join(render(report).split())
    assert "| din: AUC | 0.6500 | 0.6500 | 0.6500 |" in (tmp_path / "report" / "report.md").read_text()


def test_a_refused_run_says_which_bound_failed(
    tmp_path: Path, catalogue: types.Artifact, transform_graph: types.Artifact
) -> None:
    config = load_preset("demo", ["evaluation.bounds.auc.min=0.98"])
    report, output = report_of(tmp_path, config, catalogue, transform_graph, version=None)

    assert not report.blessed
    assert report.pushed_version is None
    assert output.get_int_custom_property("blessed") == 0
    assert "is 0.6500; the lower bound is 0.9800, missed by 0.3300" in render(report)
    assert "missed by 0.3300" in (tmp_path / "report" / "report.md").read_text()
