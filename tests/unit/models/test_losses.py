from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ctr.models.losses import pointwise_cross_entropy, sampled_softmax, training_loss
from ctr.models.samplers.base import Sampled
from ctr.models.samplers.sampler_config import LossConfig

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (3, 4)).astype(np.float32)
LOG_Q = RNG.normal(-2, 1, (3, 4)).astype(np.float32)
MASK = np.array([[True, True, False, True], [True, True, True, True], [False, False, False, False]])
CANDIDATES = Sampled({}, tf.constant(np.eye(4)[[0, 0, 0]], tf.float32), tf.constant(LOG_Q), tf.constant(MASK))


def test_value_and_padding() -> None:
    logits = np.array([[0.3, -2.0, 7.0], [1.5, 0.0, np.inf]], "float32")
    labels = np.array([[1, 0, 0], [0, 1, 0]], "float32")
    real = np.array([[True, True, True], [True, True, False]])
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    loss, pairs = pointwise_cross_entropy(tf.constant(logits), tf.constant(labels), tf.constant(real))
    assert float(pairs) == 5
    np.testing.assert_allclose(float(loss), each[real].sum(), rtol=1e-5)


def oracle(corrected: np.ndarray) -> float:
    total = 0.0
    for row, mask in zip(corrected.astype(np.float64), MASK, strict=True):
        if mask[0]:
            total += np.log(np.exp(row[mask]).sum()) - row[0]
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("positive", ["drawn", "certain"])
def test_softmax_over_the_corrected_logits(temperature: float, positive: str) -> None:
    config = LossConfig(name="sampled_softmax", temperature=temperature, positive=positive)
    loss, count = training_loss(config, tf.constant(LOGITS), CANDIDATES)
    log_q = LOG_Q.copy()
    if positive == "certain":
        log_q[:, 0] = 0
    assert float(count) == 2
    np.testing.assert_allclose(float(loss), oracle(LOGITS / temperature - log_q), rtol=1e-5)
    uncorrected, _ = training_loss(config.model_copy(update={"correction": False}), tf.constant(LOGITS), CANDIDATES)
    np.testing.assert_allclose(float(uncorrected), oracle(LOGITS / temperature), rtol=1e-5)


def test_a_certain_positive_weighs_a_row_by_the_probability_of_an_error() -> None:
    """The form of arXiv 2507.09331: (1 - P) times the gradient of the negatives' logsumexp minus the positive."""
    logits = tf.Variable(LOGITS[:2])
    candidates = Sampled({}, CANDIDATES.labels[:2], tf.constant(LOG_Q[:2]), CANDIDATES.mask[:2])
    with tf.GradientTape(persistent=True) as tape:
        ours, _ = training_loss(LossConfig(name="sampled_softmax", positive="certain"), logits, candidates)
        negatives = tf.where(MASK[:2, 1:], logits[:, 1:] - LOG_Q[:2, 1:], -1e9)
        probability = tf.sigmoid(logits[:, 0] - tf.reduce_logsumexp(negatives, axis=1))
        weight = tf.stop_gradient(1 - probability)
        theirs = tf.reduce_sum(weight * (tf.reduce_logsumexp(negatives, axis=1) - logits[:, 0]))
    np.testing.assert_allclose(tape.gradient(ours, logits), tape.gradient(theirs, logits), atol=1e-6)


def test_masked_columns_have_no_mass_however_large_their_logit() -> None:
    logits = tf.Variable(np.where(MASK, LOGITS, 1e30).astype(np.float32))
    with tf.GradientTape() as tape:
        loss, _ = sampled_softmax(tf.convert_to_tensor(logits), tf.constant(MASK))
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[~MASK] == 0).all()
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-6)


def test_the_mask_is_finite_in_half_precision() -> None:
    logits = tf.constant(LOGITS, tf.float16)
    loss, _ = sampled_softmax(logits, tf.constant(MASK))
    assert np.isfinite(float(loss))
    np.testing.assert_allclose(float(loss), oracle(LOGITS), rtol=1e-2)


def test_a_softmax_without_log_q_is_refused() -> None:
    with pytest.raises(ValueError, match="log Q"):
        training_loss(LossConfig(name="sampled_softmax"), tf.constant(LOGITS), CANDIDATES._replace(log_q=None))
