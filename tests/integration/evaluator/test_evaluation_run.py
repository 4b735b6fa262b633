"""Real TFMA runs over a small SavedModel, read back as a verdict."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from evaluation_data import save_model, write_impressions
from sklearn.metrics import log_loss
from tfx_bsl.public import tfxio

from components.config import EvaluationConfig
from components.evaluator.auc import auc, grouped_auc
from components.evaluator.blessing import read_verdict
from components.evaluator.config import evaluator_config
from components.evaluator.verdict import Verdict
from models.impression import CONTEMPORANEOUS, NEGATIVE_SETS

GATE = f"negative_set={CONTEMPORANEOUS}"


def evaluate(
    folder: Path, data: Path, model_dir: str, evaluation: EvaluationConfig, blessed_dir: str | None = None
) -> Verdict:
    """What TFX's Evaluator does, without its artifacts."""
    config = tfma.utils.update_eval_config_with_defaults(
        evaluator_config(evaluation), has_baseline=blessed_dir is not None, rubber_stamp=True
    )
    models = [
        tfma.default_eval_shared_model(path, model_name=spec.name, eval_config=config)
        for spec, path in zip(config.model_specs, filter(None, (model_dir, blessed_dir)), strict=True)
    ]
    source = tfxio.TFExampleRecord(
        str(data), raw_record_column_name=tfma.ARROW_INPUT_COLUMN, telemetry_descriptors=["test"]
    )
    output = folder / "evaluation"
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | source.BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=models if len(models) > 1 else models[0],
                eval_config=config,
                output_path=str(output),
            )
        )
    blessing = folder / "blessing"
    blessing.mkdir()
    ok = tfma.load_validation_result(str(output)).validation_ok
    (blessing / ("BLESSED" if ok else "NOT_BLESSED")).touch()
    return read_verdict(str(output), str(blessing))


def test_metrics_of_every_slice_equal_the_oracle(tmp_path: Path, model_dir: str) -> None:
    pairs = write_impressions(tmp_path / "data.gz", 200, seed=1)
    verdict = evaluate(tmp_path, tmp_path / "data.gz", model_dir, EvaluationConfig(min_auc=0.5))

    assert verdict.blessed
    assert verdict.failures == ()
    assert verdict.blessed_metrics == {}
    assert set(verdict.metrics) == {"overall", *(f"negative_set={name}" for name in NEGATIVE_SETS)}
    for name, metrics in verdict.metrics.items():
        rows = np.full(pairs.label.shape, True) if name == "overall" else pairs.negative_set == name.split("=")[1]
        user, label, score = pairs.user[rows], pairs.label[rows], pairs.score[rows]
        expected = grouped_auc(user, label, score)
        assert metrics["auc"] == pytest.approx(auc(label, score), abs=1e-9)
        assert metrics["gauc"] == pytest.approx(expected.value, abs=1e-9)
        assert metrics["gauc_users"] == expected.groups
        assert metrics["gauc_users_skipped"] == expected.skipped
        assert metrics["log_loss"] == pytest.approx(log_loss(label, score.astype(np.float64)), abs=1e-6)
        assert metrics["calibration"] == pytest.approx(score.sum() / label.sum(), rel=1e-6)
        assert metrics["pairs"] == rows.sum()
        assert metrics["example_count"] == rows.sum() / 3


def test_a_bound_out_of_reach_is_named_with_what_is_missing(tmp_path: Path, model_dir: str) -> None:
    pairs = write_impressions(tmp_path / "data.gz", 200, seed=1)
    verdict = evaluate(tmp_path, tmp_path / "data.gz", model_dir, EvaluationConfig(min_auc=0.999))

    assert not verdict.blessed
    (failure,) = verdict.failures
    rows = pairs.negative_set == CONTEMPORANEOUS
    value = auc(pairs.label[rows], pairs.score[rows])
    assert (failure.metric, failure.slice, failure.kind) == ("auc", GATE, "lower_bound")
    assert failure.bound == pytest.approx(0.999)
    assert failure.value == pytest.approx(value, abs=1e-9)
    assert failure.short_by == pytest.approx(0.999 - value, abs=1e-9)
    assert f"missed by {failure.short_by:.4f}" in str(failure)


def test_a_gate_slice_of_one_class_is_refused_and_skipped_in_gauc(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1, only_positives=(CONTEMPORANEOUS,))
    verdict = evaluate(tmp_path, data, model_dir, EvaluationConfig(min_auc=0.5))

    assert not verdict.blessed
    (failure,) = verdict.failures
    assert failure.value is None
    assert "one class only" in str(failure)
    assert verdict.metrics[GATE]["auc"] is None
    assert verdict.metrics[GATE]["gauc"] is None
    assert verdict.metrics[GATE]["gauc_users"] == 0
    assert verdict.metrics[GATE]["gauc_users_skipped"] == 17
    assert verdict.metrics["negative_set=uniform"]["auc"] == pytest.approx(0.73, abs=0.1)


def test_a_gate_slice_without_impressions_is_refused(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 60, seed=1, sets=("uniform",))
    verdict = evaluate(tmp_path, data, model_dir, EvaluationConfig(min_auc=0.5))

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
    verdict = evaluate(tmp_path, data, worse, EvaluationConfig(min_auc=0.1, max_auc_drop=0.01), model_dir)

    assert not verdict.blessed
    (failure,) = verdict.failures
    change = verdict.metrics[GATE]["auc"] - verdict.blessed_metrics[GATE]["auc"]  # type: ignore[operator]
    assert failure.kind == "max_drop"
    assert failure.bound == pytest.approx(-0.01)
    assert failure.value == pytest.approx(change)
    assert change < -0.3
    assert "against the latest blessed model" in str(failure)


def test_without_comparison_the_same_model_passes(tmp_path: Path, model_dir: str) -> None:
    data = tmp_path / "data.gz"
    write_impressions(data, 200, seed=1)
    worse = inverted_model(tmp_path / "worse")
    verdict = evaluate(tmp_path, data, worse, EvaluationConfig(min_auc=0.1, compare_with_blessed=False), model_dir)
    assert verdict.blessed
    assert set(verdict.blessed_metrics) == set(verdict.metrics)


def test_a_blessing_of_another_run_is_noticed(tmp_path: Path, model_dir: str) -> None:
    write_impressions(tmp_path / "data.gz", 60, seed=1)
    evaluate(tmp_path, tmp_path / "data.gz", model_dir, EvaluationConfig(min_auc=0.999))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError, match="neither BLESSED nor NOT_BLESSED"):
        read_verdict(str(tmp_path / "evaluation"), str(other))
    (other / "BLESSED").touch()
    with pytest.raises(ValueError, match="says BLESSED, but"):
        read_verdict(str(tmp_path / "evaluation"), str(other))


def test_the_served_model_gives_the_probabilities_that_the_oracle_uses(model_dir: str) -> None:
    example = tf.train.Example()
    example.features.feature["candidate_item_id"].int64_list.value.extend([250, 750])
    serve = tf.saved_model.load(model_dir).signatures["serving_default"]
    outputs = serve(examples=tf.constant([example.SerializeToString()]))
    np.testing.assert_allclose(outputs["probability"].numpy(), [[0.25, 0.75]])
