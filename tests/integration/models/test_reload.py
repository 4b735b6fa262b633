"""Every model and every activation score the same after save and reload in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from declared_impressions import declared

from ctr.components.skew_check.check import with_exported_weights
from ctr.models.contract import Ranker
from ctr.models.impression import FEATURES, INDEX_OF, MODEL_INPUTS
from ctr.models.model_config import ModelConfig
from ctr.models.registry import ACTIVATIONS, MODELS, build_model

LENGTHS = (0, 1, 4, 6)
# Dice has all that an activation can lose: slopes and statistics.
CASES = [*((name, "dice") for name in MODELS), *(("dnn", name) for name in ACTIVATIONS if name != "dice")]


def _inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    real = np.arange(6)[None, :] < np.array(LENGTHS)[:, None]
    size_of = {"history": real.shape, "candidate": (4, 3), "context_input": (4, 1)}
    inputs = {}
    for name, feature in FEATURES.items():
        if feature.group in size_of:
            # Of a declared feature the code alone, at most 4 of all.
            given = INDEX_OF[name] if feature.encoding else name
            inputs[given] = rng.integers(1, 5, size_of[feature.group]) * (real if feature.group == "history" else 1)
    ids = [name for name in INDEX_OF if name in inputs]
    return inputs | {INDEX_OF[name]: np.where(inputs[name] > 0, inputs[name] + 1, 0) for name in ids}


class Scorer(tf.Module):
    def __init__(self, model: Ranker) -> None:
        super().__init__()
        # As the export does: of Keras' variables themselves two sets would be written.
        self.weights = [weight.value for weight in model.weights]
        self.score = tf.function(
            lambda inputs: model(inputs, training=False).logits,
            input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in MODEL_INPUTS}],
            autograph=False,
        )


@pytest.fixture(autouse=True)
def _with_declared_features() -> Iterator[None]:
    with declared():
        yield


@pytest.mark.slow
def test_scores_survive_in_a_fresh_process(tmp_path: Path) -> None:
    arrays = _inputs()
    inputs = {name: tf.constant(value, tf.int64) for name, value in arrays.items()}
    expected = {}
    for name, activation in CASES:
        # Six units may all start dead, and a model that gives one number says nothing about its weights.
        keras.utils.set_random_seed(1)
        model = build_model(
            ModelConfig(name=name, activation=activation, embedding_dim=4, hidden_units=(6,)), 10, 10, 6
        )
        # Moves Dice's statistics and slopes off what a model that has lost them would start with.
        model(inputs, training=True)
        for weight in model.trainable_variables:
            weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.1))
        key = f"{name}-{activation}"
        tf.saved_model.save(Scorer(model), str(tmp_path / key))
        expected[key] = model(inputs).logits.numpy()
        # So the check of skew calls it.
        keras.utils.set_random_seed(2)
        again = build_model(model.config, 10, 10, 6)
        assert with_exported_weights(again, str(tmp_path / key)), key
        np.testing.assert_array_equal(again(inputs).logits, expected[key], err_msg=key)
    np.savez(tmp_path / "inputs.npz", **{name: value.astype("int64") for name, value in arrays.items()})
    script = Path(__file__).with_name("reload_process.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    scores = json.loads(done.stdout.splitlines()[-1])
    assert set(scores) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(scores[key], value, atol=1e-6, err_msg=key)
        assert np.ptp(value) > 1e-4, key
