"""The Evaluator's executor over small SavedModels, with a real Beam runner, read back as its readers do."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from evaluation_data import Pairs, ScoreFromItemId, save_model, write_impressions
from sklearn.metrics import log_loss, roc_auc_score
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Channel, artifact_utils, standard_artifacts

from ctr.components.artifacts import BaselineReport
from ctr.components.evaluator import scoring
from ctr.components.evaluator.component import Evaluator
from ctr.components.evaluator.settings import EvaluatorSettings
from ctr.components.examples.impressions import BATCH_SIZE
from ctr.components.scoring.auc import auc, grouped_auc
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, EVALUATION_FILE, MODEL, BoundResult, Evaluation
from ctr.components.scoring.scored_shards import ScoredShard, joined, list_scored
from ctr.components.settings import EvaluationConfig
from ctr.models.errors import DataError
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset
from ctr.serving.signatures import AS_LOGGED_SIGNATURE, DEFAULT_SIGNATURE


def artifact(cls: type[types.Artifact], folder: Path, id_: int = 0) -> types.Artifact:
    result = cls()
    result.uri, result.id = str(folder), id_
    return result


def model_artifact(folder: Path, model_dir: str, id_: int) -> types.Artifact:
    """A SavedModel where the Trainer leaves its own."""
    folder.mkdir()
    (folder / "Format-Serving").symlink_to(model_dir)
    return artifact(standard_artifacts.Model, folder, id_)


class Step(Evaluator):
    """One run of the Evaluator's own executor, as its node would; ``blessing`` and ``evaluation`` are its outputs."""

    def __init__(
        self, folder: Path, model_dir: str, evaluation: EvaluationConfig, blessed_dir: str | None = None
    ) -> None:
        channels = {
            "examples": standard_artifacts.Examples,
            "baselines": BaselineReport,
            "model": standard_artifacts.Model,
            "baseline_model": standard_artifacts.Model,
        }
        super().__init__(
            **{name: Channel(type=kind) for name, kind in channels.items()},
            settings=EvaluatorSettings.of(evaluation, CONTEMPORANEOUS),
        )
        examples = artifact(standard_artifacts.Examples, folder / "examples")
        examples.split_names = artifact_utils.encode_split_names(["eval"])
        inputs = {
            "examples": [examples],
            "baselines": [artifact(BaselineReport, folder / "baselines")],
            "model": [model_artifact(folder / "model", model_dir, 7)],
        }
        if blessed_dir is not None:
            inputs["baseline_model"] = [model_artifact(folder / "blessed", blessed_dir, 5)]
        self.evaluation_artifact = artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
        self.blessing_artifact = artifact(standard_artifacts.ModelBlessing, folder / "blessing")
        made = {"evaluation": [self.evaluation_artifact], "blessing": [self.blessing_artifact]}
        context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder), unique_id="1")
        self.executor_spec.executor_class(context).Do(inputs, made, self.exec_properties)
        self.found = Evaluation.model_validate_json((folder / "evaluation" / EVALUATION_FILE).read_text())


def gate(others: dict[str, Any] | None = None, *, compare: bool = True, **auc: float | None) -> EvaluationConfig:
    """Bounds of values, unless others are given: 40 users tell little with confidence."""
    bounds = {"auc": {"max_drop": None, "min_margin": None, **auc}, **(others or {})}
    return EvaluationConfig.model_validate({"bounds": bounds, "compare_with_blessed": compare, "resamples": 100})


def value(found: Evaluation, metric: str, scorer: str = MODEL, negative_set: str = CONTEMPORANEOUS) -> float | None:
    of = found.of(negative_set)
    assert of is not None
    return of.metrics[scorer][metric].value


def missed(found: Evaluation) -> dict[tuple[str, str], BoundResult]:
    return {(bound.metric, bound.kind): bound for bound in found.verdict.missed}


def properties(of: types.Artifact) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("value")) for name, value in of.mlmd_artifact.custom_properties.items()
    }


@pytest.fixture(scope="module")
def pairs_and_blessed(tmp_path_factory: pytest.TempPathFactory, model_dir: str) -> tuple[Pairs, Step, Path]:
    """A first model that meets its bounds."""
    folder = tmp_path_factory.mktemp("first")
    pairs = write_impressions(folder, 200, seed=1)
    return pairs, Step(folder, model_dir, gate({"auc@uniform/item:new": {"min": 0.1}}, min=0.5)), folder


def test_metrics_of_every_set_equal_the_oracle(pairs_and_blessed: tuple[Pairs, Step, Path]) -> None:
    pairs, step, _ = pairs_and_blessed
    verdict = step.found.verdict
    assert (verdict.blessed, verdict.missed, verdict.comparison) == (True, (), "first")
    wholes = [each for each in step.found.slices if not each.slice]
    assert {each.negative_set for each in wholes} == {"overall", *NEGATIVE_SETS}
    for each in wholes:
        rows = pairs.negative_set == each.negative_set
        if each.negative_set == "overall":
            rows[:] = True
        user, label, score, new = pairs.user[rows], pairs.label[rows], pairs.score[rows], pairs.new[rows]
        expected = grouped_auc(user, label, score)
        metrics = {name: found.value for name, found in each.metrics[MODEL].items()}
        assert metrics["auc"] == pytest.approx(auc(label, score), abs=1e-9)
        assert metrics["auc_new"] == pytest.approx(roc_auc_score(label[new], score[new]), abs=1e-9)
        assert metrics["gauc"] == pytest.approx(expected.value, abs=1e-9)
        assert metrics["log_loss"] == pytest.approx(log_loss(label, score.astype(np.float64)), abs=1e-6)
        assert metrics["calibration"] == pytest.approx(score.sum() / label.sum(), rel=1e-6)
        assert (each.users, each.impressions) == (len(set(user)), rows.sum() / 3)
        assert (each.pairs, each.positives) == (rows.sum(), label.sum())


def test_the_scored_impressions_lie_in_the_evaluation(pairs_and_blessed: tuple[Pairs, Step, Path]) -> None:
    pairs, step, folder = pairs_and_blessed
    shards = [ScoredShard.read(path).scored for path in list_scored(step.evaluation_artifact.uri)]
    assert len(shards) == 2
    # Impressions took turns.
    for number, shard in enumerate(shards):
        np.testing.assert_allclose(shard.scores[MODEL], pairs.score.reshape(-1, 3)[number::2].ravel(), rtol=1e-6)
    assert sorted(path.name for path in (folder / "evaluation").iterdir()) == [
        "eval_config.json",
        "evaluation.json",
        "metrics-00000-of-00001.tfrecord",
        "plots-00000-of-00001.tfrecord",
        "scored",
        "validations.tfrecord",
    ]


def test_a_model_is_marked_as_tfxs_evaluator_marks_it(
    tmp_path: Path, model_dir: str, pairs_and_blessed: tuple[Pairs, Step, Path]
) -> None:
    _, step, folder = pairs_and_blessed
    first = step.blessing_artifact
    assert [path.name for path in Path(first.uri).iterdir()] == [constants.BLESSED_FILE_NAME]
    assert properties(first) == {
        constants.ARTIFACT_PROPERTY_BLESSED_KEY: constants.BLESSED_VALUE,
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY: str(folder / "model"),
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY: 7,
        "comparison": "first",
    }
    assert step.evaluation_artifact.get_string_custom_property("comparison") == "first"

    write_impressions(tmp_path, 200, seed=1)
    second = Step(tmp_path, model_dir, gate(min=0.98), model_dir).blessing_artifact
    assert [path.name for path in Path(second.uri).iterdir()] == [constants.NOT_BLESSED_FILE_NAME]
    assert properties(second) == {
        constants.ARTIFACT_PROPERTY_BLESSED_KEY: constants.NOT_BLESSED_VALUE,
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY: str(tmp_path / "model"),
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY: 7,
        constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY: str(tmp_path / "blessed"),
        constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY: 5,
        "comparison": "compared",
    }


# --- TFMA -------------------------------------------------------------------------------------------------------------


def test_tfma_loads_the_same_numbers(pairs_and_blessed: tuple[Pairs, Step, Path]) -> None:
    _, step, folder = pairs_and_blessed
    loaded = tfma.load_eval_result(step.evaluation_artifact.uri)
    assert len(loaded.slicing_metrics) == len(step.found.slices)
    assert loaded.model_location == str(folder / "model" / "Format-Serving")
    for each in step.found.slices:
        key: list[tuple[str, ...]] = [] if each.negative_set == "overall" else [("negative_set", each.negative_set)]
        key += [tuple(each.slice.split(":"))] if each.slice else []
        metrics = loaded.get_metrics_for_slice(tuple(key))
        assert metrics["example_count"] == {"doubleValue": each.impressions}
        for name, found in each.metrics[MODEL].items():
            if found.low is not None:
                assert metrics[name]["boundedValue"] == {
                    "value": found.value,
                    "lowerBound": found.low,
                    "upperBound": found.high,
                }
            else:
                assert metrics[name]["doubleValue"] == ("NaN" if found.value is None else found.value)
    assert tfma.load_validation_result(step.evaluation_artifact.uri).validation_ok
    # What its views show.
    view = tfma.view.render_slicing_metrics(loaded, slicing_column="negative_set", event_handlers={})
    assert {row["slice"] for row in view.data} == {f"negative_set:{name}" for name in NEGATIVE_SETS}
    [spec] = loaded.config.metrics_specs
    assert {metric.class_name for metric in spec.metrics} == set(step.found.slices[0].metrics[MODEL])
    assert [limit.slicing_specs[0].feature_values for limit in spec.per_slice_thresholds["auc"].thresholds] == [
        {"negative_set": CONTEMPORANEOUS},
        {"negative_set": CONTEMPORANEOUS},
        {"negative_set": "uniform", "item": "new"},
    ]


@pytest.mark.parametrize("negative_set", ["overall", CONTEMPORANEOUS])
def test_tfma_plots_the_curves(pairs_and_blessed: tuple[Pairs, Step, Path], negative_set: str) -> None:
    _, step, _ = pairs_and_blessed
    loaded = tfma.load_eval_result(step.evaluation_artifact.uri)
    spec = None if negative_set == "overall" else tfma.SlicingSpec(feature_values={"negative_set": negative_set})
    plot = tfma.view.render_plot(loaded, slicing_spec=spec)
    curves = step.found.curves[negative_set]
    scored = joined([ScoredShard.read(path).scored for path in list_scored(step.evaluation_artifact.uri)])
    of_set = np.repeat(scored.negative_set == NEGATIVE_SETS.index(CONTEMPORANEOUS), 3)
    rows = of_set if spec else np.full(of_set.shape, True)
    positive, score = scored.labels[rows] == 1, scored.scores[MODEL][rows]
    matrices = plot.data["confusionMatrixAtThresholds"]["matrices"]
    assert len(matrices) == len(curves.roc[MODEL].true_positive_rate)
    for matrix in matrices:
        # Protocol buffers leave out zeros.
        found = {name: matrix.get(name, 0) for name in ("truePositives", "falsePositives", "threshold")}
        above = score > float(found["threshold"])
        assert found["truePositives"] == (above & positive).sum()
        assert found["falsePositives"] == (above & ~positive).sum()
    buckets = plot.data["calibrationHistogramBuckets"]["buckets"]
    assert len(buckets) == len(curves.reliability[MODEL])
    for bucket, each in zip(buckets, curves.reliability[MODEL], strict=True):
        assert bucket["numWeightedExamples"] == each.pairs
        assert bucket.get("totalWeightedLabel", 0) == pytest.approx(each.observed * each.pairs)
        assert bucket["totalWeightedRefinedPrediction"] == pytest.approx(each.predicted * each.pairs)
        assert bucket.get("lowerThresholdInclusive", 0) <= each.predicted <= bucket["upperThresholdExclusive"]


def test_tfma_loads_both_models_and_what_was_missed(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path, 200, seed=1)
    others = {"log_loss": {"max": 0.01}, "auc/item:new": {"max_drop": 0.01, "confidence": None}}
    step = Step(tmp_path, inverted_model(tmp_path / "worse"), gate(others, min=0.1), model_dir)
    uri = step.evaluation_artifact.uri
    for name, scorer in (("candidate", MODEL), ("baseline", BLESSED)):
        metrics = tfma.load_eval_result(uri, model_name=name).get_metrics_for_slice(
            (("negative_set", CONTEMPORANEOUS),)
        )
        assert metrics["auc"]["boundedValue"]["value"] == value(step.found, "auc", scorer)
        assert len(tfma.load_eval_result(uri, model_name=name).plots) == 1 + len(NEGATIVE_SETS)
    # Without a name it is the candidate, with the differences.
    whole = step.found.of(CONTEMPORANEOUS)
    assert whole is not None
    difference = tfma.load_eval_result(uri).get_metrics_for_slice((("negative_set", CONTEMPORANEOUS),))["auc_diff"]
    assert difference["boundedValue"]["value"] == whole.differences[BLESSED]["auc"].value

    result = tfma.load_validation_result(uri)
    assert not result.validation_ok
    failures = {
        (failure.metric_key.name, *(key.bytes_value for key in where.slice_key.single_slice_keys)): failure
        for where in result.metric_validations_per_slice
        for failure in where.failures
    }
    bounds = missed(step.found)
    assert failures.keys() == {("log_loss", b"contemporaneous"), ("auc", b"contemporaneous", b"new")}
    loss = failures["log_loss", b"contemporaneous"]
    assert loss.metric_value.double_value.value == value(step.found, "log_loss")
    assert loss.metric_threshold.value_threshold.upper_bound.value == 0.01
    assert loss.message == bounds["log_loss", "max"].words
    drop = failures["auc", b"contemporaneous", b"new"]
    assert drop.metric_key.is_diff
    assert drop.metric_threshold.change_threshold.absolute.value == -0.01
    assert len(result.validation_details.slicing_details) == 2


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_bound_out_of_reach_blocks(tmp_path: Path, model_dir: str) -> None:
    pairs = write_impressions(tmp_path, 200, seed=1)
    step = Step(tmp_path, model_dir, gate(min=0.98))
    rows = pairs.negative_set == CONTEMPORANEOUS
    expected = auc(pairs.label[rows], pairs.score[rows])
    [bound] = step.found.verdict.missed
    assert not step.found.verdict.blessed
    assert (bound.metric, bound.negative_set, bound.slice, bound.kind) == ("auc", CONTEMPORANEOUS, "", "min")
    assert bound.short_by == pytest.approx(0.98 - expected, abs=1e-9)


def test_an_auc_near_1_is_refused_as_too_good(tmp_path: Path, model_dir: str) -> None:
    """A planted leak: every positive scores above every negative."""
    write_impressions(tmp_path, 60, seed=1, negatives_below=500, positives_from=500)
    step = Step(tmp_path, model_dir, gate(min=0.5))
    [bound] = step.found.verdict.missed
    assert (bound.kind, bound.bound, bound.short_by) == ("max", 0.99, pytest.approx(0.01))
    assert "swapped columns" in bound.words


def test_a_set_of_one_class_is_refused(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path, 200, seed=1, only_positives=(CONTEMPORANEOUS,))
    step = Step(tmp_path, model_dir, gate(min=0.5))
    assert {bound.kind for bound in step.found.verdict.missed} == {"min", "max"}
    assert value(step.found, "auc") is None
    assert value(step.found, "auc", negative_set="uniform") == pytest.approx(0.73, abs=0.1)
    metrics = tfma.load_eval_result(step.evaluation_artifact.uri).get_metrics_for_slice(
        (("negative_set", CONTEMPORANEOUS),)
    )
    assert metrics["auc"] == {"doubleValue": "NaN"}


def test_a_metric_from_outside_is_computed_and_bounded(tmp_path: Path, model_dir: str, plugins: Path) -> None:
    """As docs/gate.md shows it: in the metrics and the verdict."""
    config = load_preset("demo", ["evaluation.bounds.brier@uniform.max=0.05"], ["my_shop.brier"])
    pairs = write_impressions(tmp_path, 200, seed=1)
    found = Step(tmp_path, model_dir, config.evaluation).found
    rows = pairs.negative_set == "uniform"
    expected = float(((pairs.score[rows] - pairs.label[rows]) ** 2).mean())
    assert value(found, "brier", negative_set="uniform") == pytest.approx(expected, abs=1e-6)
    assert missed(found)["brier", "max"].short_by == pytest.approx(expected - 0.05, abs=1e-6)


# --- comparison -------------------------------------------------------------------------------------------------------


def inverted_model(folder: Path) -> str:
    """Ranks the other way round: AUC 1 - x."""
    return save_model(folder, divisor=-1000.0, offset=1.0)


def test_a_worse_model_than_the_blessed_one_is_refused(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path, 200, seed=1)
    step = Step(tmp_path, inverted_model(tmp_path / "worse"), gate(min=0.1, max_drop=0.01), model_dir)
    [bound] = step.found.verdict.missed
    change = value(step.found, "auc") - value(step.found, "auc", BLESSED)  # type: ignore[operator]
    assert change < -0.3
    assert (bound.kind, bound.against, bound.state) == ("max_drop", BLESSED, "missed")
    assert bound.measured is not None
    assert bound.measured.value == pytest.approx(change)
    assert step.found.verdict.comparison == "compared"


def test_a_model_that_is_served_with_a_constant_is_scored_as_logged_beside_it(tmp_path: Path) -> None:
    write_impressions(tmp_path, 200, seed=1)
    served, logged = ScoreFromItemId(-1000.0, 1.0), ScoreFromItemId(1000.0, 0.0)
    model = str(tmp_path / "of_two_signatures")
    signatures = {DEFAULT_SIGNATURE: served.serve, AS_LOGGED_SIGNATURE: logged.serve}
    tf.saved_model.save(served, model, signatures=signatures)
    step = Step(tmp_path, model, gate(min=0.1, min_margin=None))
    by = {scorer: value(step.found, "auc", scorer) for scorer in (MODEL, AS_LOGGED)}
    assert by[AS_LOGGED] == pytest.approx(1 - by[MODEL])  # type: ignore[operator]
    assert value(step.found, "log_loss", AS_LOGGED) is not None
    # The gate judges what is served.
    judged = step.found.verdict.bounds[0].measured
    assert judged is not None
    assert judged.value == by[MODEL]


def test_without_comparison_the_same_model_passes_and_that_is_on_record(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path, 200, seed=1)
    config = gate(compare=False, min=0.1, max_drop=0.01)
    step = Step(tmp_path, inverted_model(tmp_path / "worse"), config, str(tmp_path / "gone"))
    assert step.found.verdict.blessed
    assert step.found.verdict.comparison == "switched_off"
    assert [bound.state for bound in step.found.verdict.bounds if bound.kind == "max_drop"] == ["not_compared"]
    for each in (step.blessing_artifact, step.evaluation_artifact):
        assert each.get_string_custom_property("comparison") == "switched_off"


class OtherOutputs(tf.Module):
    """What a blessed model of another version may give."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def score(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": tf.zeros([tf.size(examples), 2])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def one_score(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": tf.zeros([tf.size(examples), 1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def no_numbers(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": tf.fill([tf.size(examples), 3], math.nan)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def another_feature(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"price": tf.io.FixedLenFeature([1], tf.int64)}
        return {"probability": tf.cast(tf.io.parse_example(examples, spec)["price"], tf.float32)}


@pytest.fixture(scope="session")
def other_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    module = OtherOutputs()
    for name in ("score", "one_score", "no_numbers", "another_feature"):
        tf.saved_model.save(module, str(folder / name), signatures={"serving_default": getattr(module, name)})
    tf.saved_model.save(module, str(folder / "no_signature"), signatures={"rank": module.score})
    (folder / "broken").mkdir()
    (folder / "broken" / "saved_model.pb").write_bytes(b"no model")
    return folder


@pytest.mark.parametrize(
    ("blessed", "why"),
    [
        ("gone", "is not there"),
        ("broken", "fails: "),
        ("no_signature", r"has no signature serving_default; it has \['rank'\]"),
        ("score", r"signature serving_default has no output probability; it has \['score'\]"),
        ("one_score", r"probability is \(100, 1\) for candidates \(100, 3\)"),
        ("no_numbers", "300 of 300 scores are no probabilities"),
        ("another_feature", "fails: .*price"),
    ],
)
def test_what_cannot_score_these_impressions(
    tmp_path: Path, model_dir: str, other_models: Path, blessed: str, why: str
) -> None:
    """As blessed model it blocks, with the reason, as candidate it stops the step."""
    write_impressions(tmp_path, 200, seed=1)
    examples, columns = (sorted((tmp_path / name).rglob("data*"))[0] for name in ("examples", "baselines"))
    paths = str(examples), str(columns), str(tmp_path / "scored")
    step = scoring.ScoreShard({MODEL: model_dir, BLESSED: str(other_models / blessed)}, str(tmp_path))
    step.setup()
    assert list(step.process(paths)) == [100]
    shard = ScoredShard.read(paths[2])
    assert BLESSED not in shard.scored.scores

    def as_candidate() -> None:
        candidate = scoring.ScoreShard({MODEL: str(other_models / blessed)}, str(tmp_path))
        candidate.setup()
        list(candidate.process(paths))

    with pytest.raises(scoring.ModelError, match=why) as caught:
        as_candidate()
    assert shard.not_scored == {BLESSED: str(caught.value)}


def test_a_blessed_model_that_cannot_score_blocks_and_says_the_way_through(
    tmp_path: Path, model_dir: str, other_models: Path
) -> None:
    write_impressions(tmp_path, 200, seed=1)
    step = Step(tmp_path, model_dir, gate(min=0.1, max_drop=0.01), str(other_models / "one_score"))
    verdict = step.found.verdict
    assert (verdict.blessed, verdict.comparison, verdict.missed) == (False, "incompatible", ())
    assert "evaluation.compare_with_blessed=false" in verdict.comparison_words
    assert "probability is (100, 1) for candidates (100, 3)" in verdict.comparison_words
    assert step.blessing_artifact.get_string_custom_property("comparison") == "incompatible"
    assert step.blessing_artifact.get_int_custom_property("blessed") == 0
    assert not tfma.load_validation_result(step.evaluation_artifact.uri).validation_ok
    assert BLESSED not in step.found.slices[0].metrics


# --- scoring ----------------------------------------------------------------------------------------------------------


def test_impressions_are_scored_in_full_batches(
    tmp_path: Path, model_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_impressions(tmp_path, 2 * BATCH_SIZE + 20, seed=1)
    batches = []
    score = scoring.ExportedModel.probabilities

    def noted(self: Any, serialized: tf.Tensor, real: np.ndarray) -> np.ndarray:
        batches.append(len(serialized))
        return score(self, serialized, real)

    monkeypatch.setattr(scoring.ExportedModel, "probabilities", noted)
    Step(tmp_path, model_dir, gate(min=0.1))
    assert batches == [BATCH_SIZE, 10, BATCH_SIZE, 10]


def test_columns_of_other_impressions_are_refused(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path, 200, seed=1)
    examples, columns = (sorted((tmp_path / name).rglob("data*")) for name in ("examples", "baselines"))
    step = scoring.ScoreShard({MODEL: model_dir}, str(tmp_path))
    step.setup()

    def refused(shard: ScoredShard) -> str:
        shard.write(str(tmp_path / "other"), str(tmp_path))
        with pytest.raises(DataError, match="the columns that Baselines wrote are not of this shard") as caught:
            list(step.process((str(examples[0]), str(tmp_path / "other"), str(tmp_path / "target"))))
        assert str(caught.value).startswith(str(examples[0]))
        return str(caught.value)

    shard = ScoredShard.read(str(columns[0]))
    scored = shard.scored
    late = shard.timestamps + np.eye(1, 100, 99, dtype=np.int64)[0]
    more = ScoredShard(joined([scored, scored]), np.tile(shard.timestamps, 2))
    assert "the users of its impressions 0 to 100 are others" in refused(ScoredShard.read(str(columns[1])))
    assert "the timestamps of its impressions" in refused(dataclasses.replace(shard, timestamps=late))
    swapped = dataclasses.replace(shard, scored=dataclasses.replace(scored, labels=1 - scored.labels))
    assert "the labels of its impressions" in refused(swapped)
    assert "it has 100 impressions, the columns 200" in refused(more)
    assert not (tmp_path / "target").exists()

    Path(columns[1]).unlink()
    with pytest.raises(DataError, match=rf"{columns[1].name} is not there: Baselines wrote no columns of "):
        Step(tmp_path, model_dir, gate(min=0.1))
