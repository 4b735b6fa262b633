"""Real TFMA runs over a small SavedModel, read back as a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from evaluation_data import save_model, write_impressions
from google.protobuf import json_format
from sklearn.metrics import log_loss, roc_auc_score
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import Channel, artifact_utils, standard_artifacts

from ctr.components.evaluator import scoring
from ctr.components.evaluator.component import Evaluator
from ctr.components.evaluator.judge import evaluator_config
from ctr.components.examples.impressions import BATCH_SIZE
from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT
from ctr.components.progress import Counter
from ctr.components.scoring.auc import auc, grouped_auc
from ctr.components.scoring.blessing import read_verdict
from ctr.components.scoring.verdict import Verdict
from ctr.components.settings import EvaluationConfig
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset

GATE = f"negative_set={CONTEMPORANEOUS}"


def examples_artifact(data: Path) -> types.Artifact:
    """The impressions as ImpressionGen leaves them."""
    folder = data.parent / "examples" / "Split-eval"
    folder.mkdir(parents=True, exist_ok=True)
    data.rename(folder / "data_tfrecord-00000-of-00001.gz")
    examples = artifact(standard_artifacts.Examples, folder.parent)
    examples.split_names = artifact_utils.encode_split_names(["eval"])
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, EXAMPLES_FILE_FORMAT)
    return examples


def artifact(cls: type[types.Artifact], folder: Path) -> types.Artifact:
    result = cls()
    result.uri = str(folder)
    return result


def evaluate(
    folder: Path, data: Path, model_dir: str, evaluation: EvaluationConfig, blessed_dir: str | None = None
) -> Verdict:
    """Runs the Evaluator's own executor, as its node would."""
    node = Evaluator(
        examples=Channel(type=standard_artifacts.Examples),
        model=Channel(type=standard_artifacts.Model),
        baseline_model=None,
        eval_config=evaluator_config(evaluation),
    )
    inputs = {"examples": [examples_artifact(data)]}
    for key, path in (("model", model_dir), ("baseline_model", blessed_dir)):
        if path is not None:
            served = folder / key / "Format-Serving"
            served.parent.mkdir()
            served.symlink_to(path)
            inputs[key] = [artifact(standard_artifacts.Model, served.parent)]
    outputs = {
        "evaluation": [artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")],
        "blessing": [artifact(standard_artifacts.ModelBlessing, folder / "blessing")],
    }
    context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder), unique_id="1")
    node.executor_spec.executor_class(context).Do(inputs, outputs, node.exec_properties)
    return read_verdict(str(folder / "evaluation"), str(folder / "blessing"))


def gate(others: dict[str, Any] | None = None, *, compare: bool = True, **auc: float | None) -> EvaluationConfig:
    return EvaluationConfig.model_validate({"bounds": {"auc": auc, **(others or {})}, "compare_with_blessed": compare})


def test_metrics_of_every_slice_equal_the_oracle(tmp_path: Path, model_dir: str) -> None:
    pairs = write_impressions(tmp_path / "data.gz", 200, seed=1)
    verdict = evaluate(tmp_path, tmp_path / "data.gz", model_dir, gate(min=0.5))

    assert verdict.blessed
    assert verdict.failures == ()
    assert verdict.blessed_metrics == {}
    assert set(verdict.metrics) == {"overall", *(f"negative_set={name}" for name in NEGATIVE_SETS)}
    for name, metrics in verdict.metrics.items():
        rows = np.full(pairs.label.shape, True) if name == "overall" else pairs.negative_set == name.split("=")[1]
        user, label, score, new = pairs.user[rows], pairs.label[rows], pairs.score[rows], pairs.new[rows]
        expected = grouped_auc(user, label, score)
        assert metrics["auc"] == pytest.approx(auc(label, score), abs=1e-9)
        assert metrics["auc_new"] == pytest.approx(roc_auc_score(label[new], score[new]), abs=1e-9)
        assert metrics["pairs_new"] == new.sum()
        assert 0 < new.sum() < rows.sum()
        assert metrics["gauc"] == pytest.approx(expected.value, abs=1e-9)
        assert metrics["gauc_users"] == expected.groups
        assert metrics["gauc_users_skipped"] == expected.skipped
        assert metrics["log_loss"] == pytest.approx(log_loss(label, score.astype(np.float64)), abs=1e-6)
        assert metrics["calibration"] == pytest.approx(score.sum() / label.sum(), rel=1e-6)
        assert metrics["pairs"] == rows.sum()
        assert metrics["example_count"] == rows.sum() / 3


def test_a_bound_out_of_reach_is_named_and_is_the_verdict_of_its_own_run(tmp_path: Path, model_dir: str) -> None:
    pairs = write_impressions(tmp_path / "data.gz", 200, seed=1)
    verdict = evaluate(tmp_path, tmp_path / "data.gz", model_dir, gate(min=0.98))

    assert not verdict.blessed
    (failure,) = verdict.failures
    rows = pairs.negative_set == CONTEMPORANEOUS
    value = auc(pairs.label[rows], pairs.score[rows])
    assert (failure.metric, failure.slice, failure.kind) == ("auc", GATE, "lower_bound")
    assert failure.bound == pytest.approx(0.98)
    assert failure.value == pytest.approx(value, abs=1e-9)
    assert failure.short_by == pytest.approx(0.98 - value, abs=1e-9)
    assert f"missed by {failure.short_by:.4f}" in str(failure)

    # The blessing of another run is noticed.
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError, match="neither BLESSED nor NOT_BLESSED"):
        read_verdict(str(tmp_path / "evaluation"), str(other))
    (other / "BLESSED").touch()
    with pytest.raises(ValueError, match="says BLESSED, but"):
        read_verdict(str(tmp_path / "evaluation"), str(other))


def test_an_auc_near_1_is_refused_as_too_good(tmp_path: Path, model_dir: str) -> None:
    """A planted leak: every positive scores above every negative."""
    data = tmp_path / "data.gz"
    write_impressions(data, 60, seed=1, negatives_below=500, positives_from=500)
    verdict = evaluate(tmp_path, data, model_dir, gate(min=0.5))

    assert not verdict.blessed
    (failure,) = verdict.failures
    assert (failure.metric, failure.slice, failure.kind) == ("auc", GATE, "upper_bound")
    assert (failure.bound, failure.value) == (pytest.approx(0.99), 1.0)
    assert failure.short_by == pytest.approx(0.01)
    for part in ("is 1.0000; the upper bound is 0.9900, exceeded by 0.0100", "swapped columns", "evaluation.bounds"):
        assert part in str(failure)


def test_without_an_upper_bound_any_auc_passes(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 60, seed=1, negatives_below=500, positives_from=500)
    verdict = evaluate(tmp_path, data, model_dir, gate(min=0.5, max=None))
    assert verdict.blessed
    assert verdict.metrics[GATE]["auc"] == 1.0


def test_impressions_are_scored_in_full_batches_however_they_arrive(model_dir: str) -> None:
    """Single ones and a crowd: the scores are the model's own, and what is said of progress counts all."""
    config = json_format.Parse(evaluator_config(gate(min=0.5)), tfma.EvalConfig())
    model = tfma.default_eval_shared_model(model_dir, eval_config=config)
    scored: list[int] = []

    class Noted(Counter):
        def add(self, amount: int) -> None:
            scored.append(amount)

    class Watched(scoring.ScoreImpressions):
        def setup(self) -> None:
            super().setup()
            self._progress = Noted("", "", "")

    step = Watched([model], {"": config.model_specs[0]})
    step.setup()
    step.start_bundle()
    records = [impression(item, user=1 + item % 3) for item in range(1, 301)]
    extracts = []
    for batch in (records[:1], records[1:3], records, records, records[:20]):
        extracts += list(step.process({tfma.ARROW_RECORD_BATCH_KEY: arrow(batch)}))
    extracts += [value.value for value in step.finish_bundle()]
    assert scored == [BATCH_SIZE, 623 - BATCH_SIZE]
    predicted = np.concatenate([extract[tfma.PREDICTIONS_KEY]["probability"] for extract in extracts])
    items = [*range(1, 2), *range(2, 4), *range(1, 301), *range(1, 301), *range(1, 21)]
    np.testing.assert_allclose(predicted.reshape(-1, 2)[:, 0], np.array(items, np.float32) / 1000, rtol=1e-6)
    assert sum(int(extract[tfma.FEATURES_KEY]["impressions"][0]) for extract in extracts) == 623


def test_labels_that_do_not_fit_the_candidates_are_named(model_dir: str) -> None:
    config = json_format.Parse(evaluator_config(gate(min=0.5)), tfma.EvalConfig())
    step = scoring.ScoreImpressions(
        [tfma.default_eval_shared_model(model_dir, eval_config=config)], {"": config.model_specs[0]}
    )
    step.setup()
    step.start_bundle()
    broken = tf.train.Example.FromString(impression(5, user=1))
    broken.features.feature["label"].int64_list.value.append(0)
    assert not list(step.process({tfma.ARROW_RECORD_BATCH_KEY: arrow([broken.SerializeToString()])}))
    with pytest.raises(ValueError, match="label: 3 values for 2 candidates"):
        list(step.finish_bundle())


def impression(item: int, user: int) -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    feature["user_id"].int64_list.value.append(user)
    feature["negative_set"].bytes_list.value.append(b"uniform")
    feature["candidate_item_id"].int64_list.value.extend([item, 999])
    feature["label"].int64_list.value.extend([1, 0])
    return bytes(example.SerializeToString())


def arrow(records: list[bytes]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([[record] for record in records])], [tfma.ARROW_INPUT_COLUMN])


def test_a_gate_slice_of_one_class_is_refused_and_skipped_in_gauc(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    pairs = write_impressions(data, 200, seed=1, only_positives=(CONTEMPORANEOUS,))
    verdict = evaluate(tmp_path, data, model_dir, gate(min=0.5))

    assert not verdict.blessed
    (failure,) = verdict.failures
    assert failure.value is None
    assert "one class only" in str(failure)
    assert verdict.metrics[GATE]["auc"] is None
    assert verdict.metrics[GATE]["gauc"] is None
    assert verdict.metrics[GATE]["gauc_users"] == 0
    assert verdict.metrics[GATE]["gauc_users_skipped"] == len(set(pairs.user[pairs.negative_set == CONTEMPORANEOUS]))
    assert verdict.metrics["negative_set=uniform"]["auc"] == pytest.approx(0.73, abs=0.1)


def test_a_gate_slice_without_impressions_is_refused(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 60, seed=1, sets=("uniform",))
    verdict = evaluate(tmp_path, data, model_dir, gate(min=0.5))

    assert not verdict.blessed
    (failure,) = verdict.failures
    assert (failure.kind, failure.slice) == ("missing_slice", GATE)
    assert str(failure).startswith(f"{GATE} has no evaluation impressions")


def inverted_model(folder: Path) -> str:
    """Ranks the other way round: AUC 1 - x."""
    return save_model(folder, divisor=-1000.0, offset=1.0)


def test_a_worse_model_than_the_blessed_one_is_refused(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1)
    worse = inverted_model(tmp_path / "worse")
    config = gate({"log_loss": {"max_drop": 0.01}}, min=0.1, max_drop=0.01)
    verdict = evaluate(tmp_path, data, worse, config, model_dir)

    assert not verdict.blessed
    changes = {
        name: verdict.metrics[GATE][name] - verdict.blessed_metrics[GATE][name]  # type: ignore[operator]
        for name in ("auc", "log_loss")
    }
    assert changes["auc"] < -0.3
    # A drop of what is better when lower is a rise.
    assert changes["log_loss"] > 0.01
    failures = {failure.metric: failure for failure in verdict.failures}
    assert failures.keys() == changes.keys()
    for name, failure in failures.items():
        assert failure.kind == "max_drop"
        assert failure.value == pytest.approx(changes[name])
        assert "against the latest blessed model" in str(failure)
    assert failures["auc"].bound == pytest.approx(-0.01)
    assert failures["log_loss"].short_by == pytest.approx(changes["log_loss"] - 0.01)


def test_a_fall_of_what_is_better_when_lower_is_no_drop(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1)
    worse = inverted_model(tmp_path / "worse")
    verdict = evaluate(tmp_path, data, model_dir, gate({"log_loss": {"max_drop": 0.01}}, min=0.1, max_drop=1), worse)

    assert verdict.blessed
    assert verdict.metrics[GATE]["log_loss"] < verdict.blessed_metrics[GATE]["log_loss"]  # type: ignore[operator]


def test_without_comparison_the_same_model_passes(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1)
    worse = inverted_model(tmp_path / "worse")
    verdict = evaluate(tmp_path, data, worse, gate(compare=False, min=0.1), model_dir)
    assert verdict.blessed
    assert set(verdict.blessed_metrics) == set(verdict.metrics)


def test_any_metric_on_any_slice_can_be_bounded(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1)
    others = {
        "auc@overall": {"min": 0.99},
        "auc@uniform": {"max": 0.2},
        "log_loss": {"max": 0.01},
        "calibration": {"min": 0.1, "max": 10},
        "pairs": {"min": 1_000_000},
    }
    verdict = evaluate(tmp_path, data, model_dir, gate(others, min=0.1))

    missed = {(f.metric, f.slice, f.kind): str(f) for f in verdict.failures}
    assert set(missed) == {
        ("auc", "overall", "lower_bound"),
        ("auc", "negative_set=uniform", "upper_bound"),
        ("log_loss", GATE, "upper_bound"),
        ("pairs", GATE, "lower_bound"),
    }
    # What is too good is so by the metric's own direction.
    assert {key[0] for key, text in missed.items() if "gives the label away" in text} == {"auc"}


def test_a_metric_from_outside_is_computed_and_bounded(tmp_path: Path, model_dir: str, plugins: Path) -> None:
    """As docs/operating.md shows it: in the metrics, the verdict and the report."""
    config = load_preset("demo", ["evaluation.bounds.brier@uniform.max=0.05"], ["my_shop.brier"])
    data = tmp_path / "data.gz"
    pairs = write_impressions(data, 200, seed=1)
    verdict = evaluate(tmp_path, data, model_dir, config.evaluation)

    rows = pairs.negative_set == "uniform"
    expected = float(((pairs.score[rows] - pairs.label[rows]) ** 2).mean())
    assert verdict.metrics["negative_set=uniform"]["brier"] == pytest.approx(expected, abs=1e-6)
    [failure] = [failure for failure in verdict.failures if failure.metric == "brier"]
    assert str(failure).startswith(f"brier on negative_set=uniform is {expected:.4f}; the upper bound is 0.0500")
    assert "gives the label away" not in str(failure)


def test_the_served_model_gives_the_probabilities_that_the_oracle_uses(model_dir: str) -> None:
    example = tf.train.Example()
    example.features.feature["candidate_item_id"].int64_list.value.extend([250, 750])
    serve = tf.saved_model.load(model_dir).signatures["serving_default"]
    outputs = serve(examples=tf.constant([example.SerializeToString()]))
    np.testing.assert_allclose(outputs["probability"].numpy(), [[0.25, 0.75]])
