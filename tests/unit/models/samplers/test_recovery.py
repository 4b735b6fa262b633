"""Each sampler with its correction finds what the whole softmax finds, and the common mistakes do not.

The stated tolerances: on a catalogue of 100 items, the top one 16 % of all positives, with 8 negatives a row, the
order of the trained logits correlates with that of the true log probabilities by more than 0.985, and they differ by
less than 0.12 nats on average; with 128 negatives a row the mean gradient differs from the whole softmax's by less than
12 % of its length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from recovery import CONTEXTS, ITEMS, World, error, full_gradient, gradient, order_kept, train

from ctr.models.samplers.sampler_config import LossConfig

SAMPLERS: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "in_batch": {"name": "in_batch", "negatives": 8},
    "streaming_frequency": {"name": "streaming_frequency", "negatives": 8, "frequency": {"buckets": 4096}},
    "mixed": {"name": "mixed", "negatives": 8, "alpha": 0.5},
    "mixed, streaming": {"name": "mixed", "negatives": 8, "frequencies": "streaming", "frequency": {"buckets": 4096}},
    "hard": {"name": "hard", "negatives": 8, "hard": {"pool": 16, "share": 0.5, "curriculum_steps": 100}},
}
ORDER, ERROR, GRADIENT = 0.985, 0.12, 0.12
SOFTMAX = LossConfig(name="sampled_softmax")
CERTAIN = LossConfig(name="sampled_softmax", positive="certain")
PUBLIC_CATALOGUE = 4_162_024


@pytest.fixture(scope="module")
def world() -> World:
    # Small batches: in a large one of so small a catalogue every item is in every batch, and no gap tells anything.
    return World(steps=2500, batch=64, uniform=8)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_order_of_the_whole_softmax(name: str, world: World) -> None:
    logits = train(SAMPLERS[name], SOFTMAX, world)
    assert order_kept(logits) > ORDER
    assert error(logits) < ERROR


@pytest.mark.parametrize("name", ["in_batch", "mixed", "hard"])
def test_the_order_with_a_certain_positive(name: str, world: World) -> None:
    logits = train(SAMPLERS[name], CERTAIN, world)
    assert order_kept(logits) > ORDER
    assert error(logits) < ERROR


def test_few_uniform_negatives_and_a_certain_positive_give_the_order_alone(world: World) -> None:
    logits = train(SAMPLERS["random"], CERTAIN, world)
    assert order_kept(logits) > ORDER
    assert error(logits) > 0.5


def wrong_sign(log_q: tf.Tensor) -> tf.Tensor:
    return -log_q


def no_correction(log_q: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(log_q)


def clipped(log_q: tf.Tensor) -> tf.Tensor:
    """At 1e-6, with the probabilities that a catalogue of the public file's size has."""
    return tf.math.log(tf.maximum(tf.exp(log_q) / 8 * ITEMS / PUBLIC_CATALOGUE, 1e-6))


@pytest.mark.parametrize("mistake", [wrong_sign, no_correction, clipped])
@pytest.mark.parametrize("name", ["in_batch", "hard"])
def test_the_usual_mistakes_do_not_pass(name: str, mistake: Any, world: World) -> None:
    logits = train(SAMPLERS[name], SOFTMAX, world, tamper=mistake)
    assert order_kept(logits) < 0.8
    assert error(logits) > 4 * ERROR


MANY: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "in_batch": {"name": "in_batch", "negatives": 128},
    "mixed": {"name": "mixed", "negatives": 128, "alpha": 0.5},
    "hard": {"name": "hard", "negatives": 128, "hard": {"pool": 256, "curriculum_steps": 0}},
}


@pytest.mark.parametrize("name", MANY)
def test_the_gradient_of_the_whole_softmax(name: str) -> None:
    world = World(steps=60, batch=512, uniform=128)
    at = np.random.default_rng(3).normal(0, 1, (CONTEXTS, ITEMS))
    whole = full_gradient(at, world)
    sampled = gradient(MANY[name], CERTAIN, at, world)
    assert np.linalg.norm(sampled - whole) < GRADIENT * np.linalg.norm(whole)
    if name != "random":  # whose Q is one constant, here near 1
        uncorrected = gradient(MANY[name], LossConfig(name="sampled_softmax", correction=False), at, world)
        assert np.linalg.norm(uncorrected - whole) > 4 * GRADIENT * np.linalg.norm(whole)
