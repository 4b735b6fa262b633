"""The report from real artifacts: ingest's summary and quarantine, a transform graph, epochs, a push."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from report_sample import DRIFT, MISSED, SKEW, evaluation, make_report
from tensorboard.backend.event_processing import event_accumulator
from tfx import types
from tfx.types import standard_artifacts

from ctr.components import artifacts
from ctr.components.artifacts import EPOCHS_FILE
from ctr.components.direct_beam import keep_beam_here
from ctr.components.drift import DRIFT_FILE
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.summary import IngestSummary
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from ctr.components.quarantine import DUPLICATE, HEADER, record, shard_name
from ctr.components.run_report.component import RunReport
from ctr.components.run_report.page import render_page
from ctr.components.run_report.render import render_markdown
from ctr.components.run_report.report import Report, read_report
from ctr.components.run_report.tensorboard import scalars, write_scalars
from ctr.components.scoring.baselines import FILE_NAME, BaselineResults, SetResult
from ctr.components.scoring.evaluation import EVALUATION_FILE, Evaluation
from ctr.components.skew import SKEW_FILE
from ctr.components.step_profile import PROFILE_FILE, StepProfile
from ctr.components.trainer.fit import Epoch
from ctr.components.transform.preprocessing import preprocessing_fn
from ctr.models.impression import NEGATIVE_SETS, SPLITS
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

PROFILE = StepProfile(steps=5, batch_size=256, device="CPU", input_wait=0.1, forward=2, backward=4, update=1)


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
    function = functools.partial(preprocessing_fn, vocabulary_files={name: str(path) for name, path in files.items()})
    result = artifact(standard_artifacts.TransformGraph, folder / "graph")
    keep_beam_here()
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "temp")):
        data = pipeline | beam.Create([{name: [1] for name in ids}])
        fn = (data, metadata) | tft_beam.AnalyzeDataset(function)
        _ = fn | tft_beam.WriteTransformFn(result.uri)
    return result


def report_of(
    folder: Path,
    config: PipelineConfig,
    catalogue: types.Artifact,
    transform_graph: types.Artifact,
    found: Evaluation,
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
    evaluation = artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
    (folder / "evaluation" / EVALUATION_FILE).write_text(found.model_dump_json())
    quarantined = artifact(artifacts.ImpressionQuarantine, folder / "quarantine")
    rows = [record(line, DUPLICATE, "first at 1", "1,2,3,pv,4") for line in range(2, 9)]
    (folder / "quarantine" / shard_name(0, 0)).write_text(HEADER + "".join(f"log.csv\t{row}" for row in rows))
    approval = artifact(artifacts.DataApproval, folder / "approval")
    comparisons = [each.model_dump() for each in DRIFT]
    (folder / "approval" / DRIFT_FILE).write_text(json.dumps({"compared_with": None, "comparisons": comparisons}))
    model_run = artifact(standard_artifacts.ModelRun, folder / "model_run")
    epochs = [dataclasses.asdict(Epoch(number, 0.6, 0.5, 0.7 + number / 100, 2.5, 4000)) for number in (1, 2)]
    epochs[1]["auc_within"] = [0.71]
    (folder / "model_run" / EPOCHS_FILE).write_text(json.dumps(epochs))
    (folder / "model_run" / PROFILE_FILE).write_text(PROFILE.model_dump_json())
    pushed = artifact(standard_artifacts.PushedModel, folder / "pushed")
    pushed.set_int_custom_property("pushed", int(version is not None))
    if version is not None:
        pushed.set_string_custom_property("pushed_version", str(version))
        pushed.set_string_custom_property("pushed_destination", f"serving/ctr/{version}")
    skew = artifact(artifacts.SkewReport, folder / "skew")
    (folder / "skew" / SKEW_FILE).write_text(SKEW.model_dump_json())
    inputs = {
        "catalogue": catalogue,
        "quarantined": quarantined,
        "approval": approval,
        "transform_graph": transform_graph,
        "model_run": model_run,
        "baselines": baselines,
        "evaluation": evaluation,
        "pushed_model": pushed,
        "skew": skew,
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
    config = load_preset("demo")
    found = evaluation()
    report, output = report_of(tmp_path, config, catalogue, transform_graph, found, version=1_700_000_000)

    assert PipelineConfig.model_validate(report.config) == config
    assert json.loads(output.get_string_custom_property("config_json")) == report.config
    assert (report.rows_read, report.rows_kept, report.users) == (110, 100, 9)
    assert report.quarantined == {"duplicate": 7, "outside_window": 3}
    assert [(row.line, row.text) for row in report.quarantined_rows] == [(n, "1,2,3,pv,4") for n in range(2, 7)]
    assert report.impressions == {"train": 60, "validation": 9, "eval": 60}
    assert report.vocabulary == {"items": 3, "categories": 2}
    assert [epoch.validation_auc for epoch in report.epochs] == [0.71, 0.72]
    assert [epoch.auc_within for epoch in report.epochs] == [(), (0.71,)]
    assert report.profile == PROFILE
    assert report.drift == DRIFT
    assert report.skew == SKEW
    assert report.evaluation == found
    assert report.blessed
    assert output.get_int_custom_property("blessed") == 1
    assert (report.pushed_version, report.pushed_to) == (1_700_000_000, "serving/ctr/1700000000")
    assert output.get_string_custom_property("pushed_version") == "1700000000"
    folder = Path(output.uri)
    assert (folder / "report.md").read_text(encoding="utf-8") == render_markdown(report)
    assert (folder / "report.html").read_text(encoding="utf-8") == render_page(report)


def test_a_refused_run_is_marked_so(tmp_path: Path, catalogue: types.Artifact, transform_graph: types.Artifact) -> None:
    found = evaluation(refused=MISSED, slices=False)
    report, output = report_of(tmp_path, load_preset("demo"), catalogue, transform_graph, found, version=None)

    assert not report.blessed
    assert report.pushed_version is None
    assert output.get_int_custom_property("blessed") == 0
    assert f"- {MISSED[0].words}" in (tmp_path / "report" / "report.md").read_text()


def test_tensorboard_shows_the_evaluation(tmp_path: Path) -> None:
    write_scalars(make_report(), str(tmp_path))

    events = event_accumulator.EventAccumulator(str(tmp_path), {event_accumulator.TENSORS: 0})
    events.Reload()
    shown = {tag: float(tf.make_ndarray(events.Tensors(tag)[0].tensor_proto)) for tag in events.Tags()["tensors"]}
    assert shown == pytest.approx(dict(scalars(make_report())), rel=1e-6)
    assert shown["auc/contemporaneous"] == pytest.approx(0.8912)
    assert shown["auc/contemporaneous low"] == pytest.approx(0.8883)
    assert shown["auc/contemporaneous/item-new"] == pytest.approx(0.8427)
    assert shown["auc/contemporaneous less logistic_regression"] == pytest.approx(0.0242)
