from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.trainer.calibration import fit_calibration
from ctr.models.model_config import ModelConfig
from ctr.models.registry import build_model


def scores(scale: float, offset: float, pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits x whose labels have the probability sigmoid(scale * x + offset)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.3, 1.5, pairs)
    labels = rng.random(pairs) < 1 / (1 + np.exp(-scale * logits - offset))
    return logits, labels.astype(np.float32)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.logaddexp(0, np.where(labels > 0, -logits, logits)).mean())


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.2, 3), offset=st.floats(-2, 2))
def test_scale_and_offset_are_found(scale: float, offset: float) -> None:
    logits, labels = scores(scale, offset, 100_000)
    rate = (labels == 0).sum() / labels.sum()
    found = fit_calibration(logits, labels, rate, with_scale=True)
    assert found.scale == pytest.approx(scale, rel=0.08, abs=0.03)
    assert found.offset == pytest.approx(offset, abs=0.08)


def test_the_offset_alone() -> None:
    logits, labels = scores(1.0, -1.3, 100_000)
    found = fit_calibration(logits, labels, (labels == 0).sum() / labels.sum(), with_scale=False)
    assert found.scale == pytest.approx(1.0)
    assert found.offset == pytest.approx(-1.3, abs=0.03)


def test_the_probability_is_right_at_the_base_rate_of_evaluation() -> None:
    """Trained and validated with 4 negatives a positive, judged with 1: the mean probability is 1/2, not 1/5."""
    rng = np.random.default_rng(1)
    labels = np.tile([1, 0, 0, 0, 0], 20_000)
    logits = rng.normal(np.where(labels, 1.0, -0.5), 1.0)
    found = fit_calibration(logits, labels, 1.0, with_scale=True)
    one = np.arange(len(labels)) % 5 < 2
    judged, truth = found.scale * logits[one] + found.offset, labels[one]
    assert (1 / (1 + np.exp(-judged))).mean() == pytest.approx(0.5, abs=0.01)
    assert log_loss(judged, truth) < log_loss(logits[one], truth)
    # Gaussians of one width: the log odds are known.
    assert found.scale == pytest.approx(1.5, abs=0.05)
    assert found.offset == pytest.approx(-0.375, abs=0.03)


@pytest.mark.parametrize("scale", [-2.0, -0.2, 0.0])
@pytest.mark.parametrize("negatives_a_positive", [1.0, 4.0])
def test_the_order_is_kept_and_the_mean_is_right_even_if_the_labels_speak_against_it(
    scale: float, negatives_a_positive: float
) -> None:
    logits, labels = scores(scale, -0.7, 2000, seed=3)
    logits += 40
    found = fit_calibration(logits, labels, negatives_a_positive, with_scale=True)
    assert 0 < found.scale < 0.1

    # At the rate that is asked for, a positive and so many negatives weigh alike.
    probability = 1 / (1 + np.exp(-(found.scale * logits + found.offset)))
    of_positives, of_negatives = probability[labels > 0].mean(), probability[labels == 0].mean()
    mean = (of_positives + negatives_a_positive * of_negatives) / (1 + negatives_a_positive)
    assert mean == pytest.approx(1 / (1 + negatives_a_positive), abs=1e-6)


def test_separable_scores_and_equal_scores_stay_finite() -> None:
    for logits in (np.array([5.0, 6.0, -5.0, -6.0]), np.full(4, 2.0)):
        found = fit_calibration(logits, np.array([1, 1, 0, 0]), 1.0, with_scale=True)
        assert np.isfinite(found).all()
        assert found.scale > 0


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        fit_calibration(np.ones(3), np.ones(3), 1.0, with_scale=True)
    with pytest.raises(ValueError, match="not finite"):
        fit_calibration(np.array([1.0, np.nan]), np.array([1, 0]), 1.0, with_scale=True)


def test_a_model_takes_it_into_its_last_layer() -> None:
    model = build_model(ModelConfig(name="dnn"), 10, 10, history_length=4)
    ids = ("history_item_id", "history_category_id", "history_item_index", "history_category_index")
    inputs = {name: tf.constant([[1, 2, 0, 0]], tf.int64) for name in (*ids, "history_behavior", "history_age")}
    for name in ("candidate_item_id", "candidate_category_id", "candidate_item_index", "candidate_category_index"):
        inputs[name] = tf.constant([[1, 2, 3]], tf.int64)
    before = model(inputs).logits.numpy()
    model.rescale_logits(2.5, -0.75)
    np.testing.assert_allclose(model(inputs).logits.numpy(), 2.5 * before - 0.75, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        model.rescale_logits(0.0, 1.0)
