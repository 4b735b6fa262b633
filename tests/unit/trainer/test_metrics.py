from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from ctr.components.trainer.metrics import auc_of_histogram, score_histogram


def test_auc_of_summed_histograms_equals_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 5)) < 0.3).astype("float32")
    logits = (rng.normal(size=labels.shape) + labels).astype("float32")
    real = rng.random(labels.shape) < 0.8
    parts = [
        score_histogram(*(tf.constant(x[rows]) for x in (logits, labels, real))).numpy()
        for rows in (slice(0, 150), slice(150, 400))
    ]
    assert abs(auc_of_histogram(sum(parts)) - roc_auc_score(labels[real], logits[real])) < 1e-3


def test_ties_count_half_and_one_class_is_undefined() -> None:
    labels = tf.constant([[1.0, 0.0]])
    tied = score_histogram(tf.zeros([1, 2]), labels, tf.constant([[True, True]])).numpy()
    assert auc_of_histogram(tied) == 0.5
    alone = score_histogram(tf.zeros([1, 2]), labels, tf.constant([[True, False]])).numpy()
    assert math.isnan(auc_of_histogram(alone))
