"""The streaming estimate on streams whose probabilities are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.models.samplers.frequency import StreamingFrequencies
from ctr.models.samplers.registry import FrequencyConfig

BATCH = 32


class Stream:
    """An estimator and its clock."""

    def __init__(self, **config: Any) -> None:
        self.estimate = StreamingFrequencies(FrequencyConfig.model_validate(config), BATCH)
        self.step = tf.Variable(0, dtype=tf.int64)
        self._observe = tf.function(self._observe_eagerly)

    def _observe_eagerly(self, items: tf.Tensor) -> None:
        self.step.assign_add(1)
        self.estimate.observe(items, self.step)

    def see(self, batches: np.ndarray) -> None:
        for batch in batches:
            self._observe(tf.constant(batch, tf.int64))

    def share(self, items: np.ndarray) -> np.ndarray:
        return self.estimate.share(tf.constant(items, tf.int64), tf.identity(self.step)).numpy()


def zipf(items: int) -> np.ndarray:
    weight = 1 / np.arange(1, items + 1)
    return weight / weight.sum()


def drawn(p: np.ndarray, steps: int, seed: int, first: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(p), size=(steps, BATCH), p=p) + first


def test_zipf_stream() -> None:
    """After 4,000 batches of 32 the shares of items seen some hundred times are right within 10 % on average."""
    p = zipf(500)
    stream = Stream(buckets=2**14, hashes=2, rate=0.01)
    stream.see(drawn(p, 4000, seed=0))
    estimate = stream.share(np.arange(1, 501))
    often = p > 2e-3
    relative = estimate / p - 1
    assert np.abs(relative[often]).mean() < 0.1
    # Noise, not bias.
    assert abs(relative[often].mean()) < 0.04
    assert np.corrcoef(np.log(estimate), np.log(p))[0, 1] > 0.97


def test_a_change_is_followed_in_about_one_over_rate_appearances() -> None:
    rate, often, seldom = 0.05, 0.02, 0.002
    stream = Stream(buckets=2**14, rate=rate)

    def of(share: float, steps: int, seed: int) -> np.ndarray:
        batches = np.random.default_rng(seed).integers(1000, 10_000, (steps, BATCH))
        batches[np.random.default_rng(seed + 1).random(batches.shape) < share] = 7
        return batches

    stream.see(of(seldom, 3000, seed=1))
    assert stream.share(np.array([7]))[0] == pytest.approx(seldom, rel=0.5)
    per_batch = 1 - (1 - often) ** BATCH
    stream.see(of(often, round(0.25 / rate / per_batch), seed=2))
    early = stream.share(np.array([7]))[0]
    assert early < 0.5 * often
    stream.see(of(often, round(4 / rate / per_batch), seed=3))
    assert stream.share(np.array([7]))[0] == pytest.approx(often, rel=0.4)


def test_collisions_make_one_hash_overestimate_more_than_several() -> None:
    p = zipf(2000)
    batches = drawn(p, 1500, seed=4)
    bias = {}
    for hashes in (1, 4):
        stream = Stream(buckets=1024, hashes=hashes, rate=0.02)
        stream.see(batches)
        seen = np.unique(batches)
        bias[hashes] = np.log(stream.share(seen) / p[seen - 1]).mean()
    assert bias[1] > 0.5
    assert bias[4] < 0.75 * bias[1]


def test_a_resumed_stream_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    batches = drawn(zipf(50), 200, seed=5)
    whole, first, second = (Stream(buckets=64, hashes=2) for _ in range(3))
    whole.see(batches)
    first.see(batches[:120])
    path = tf.train.Checkpoint(estimate=first.estimate, step=first.step).write(str(tmp_path / "state"))
    tf.train.Checkpoint(estimate=second.estimate, step=second.step).read(path).assert_consumed()
    second.see(batches[120:])
    for name in ("gap", "last_step", "seen"):
        expected = getattr(whole.estimate, name).numpy()
        np.testing.assert_array_equal(getattr(second.estimate, name).numpy(), expected)
        assert not np.array_equal(getattr(first.estimate, name).numpy(), expected)


def test_an_item_that_was_never_seen_is_finite_and_rarer_than_one_that_was() -> None:
    stream = Stream(buckets=2**16)
    stream.see(np.full((1, BATCH), 5))
    stream.see(drawn(zipf(10), 99, seed=6, first=1000))
    unseen, seen = stream.share(np.array([77_777, 1000]))
    assert unseen == pytest.approx(1 - (1 - 1 / 100) ** (1 / BATCH), rel=1e-4)
    assert unseen < seen


def test_an_item_of_every_batch_stays_below_one() -> None:
    stream = Stream(buckets=64)
    stream.see(np.full((300, BATCH), 5))
    assert stream.share(np.array([5]))[0] == pytest.approx(1 - 1e-4 ** (1 / BATCH), rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6))
def test_repetitions_and_padding_count_as_once_and_never(batches: list[list[int]]) -> None:
    """Against the algorithm over the distinct items, item by item; 0 is padding."""
    rate, hashes, buckets = 0.3, 2, 2**12
    estimate = StreamingFrequencies(FrequencyConfig(buckets=buckets, hashes=hashes, rate=rate), BATCH)
    last: dict[int, int] = {}
    gap: dict[int, float] = {}
    times: dict[int, int] = {}
    for step, batch in enumerate(batches, start=1):
        estimate.observe(tf.constant(batch, tf.int64), tf.constant(step, tf.int64))
        for item in set(batch) - {0}:
            new = step - last.get(item, 0)
            times[item] = times.get(item, 0) + 1
            weight = max(rate, 1 / times[item])
            gap[item] = (1 - weight) * gap.get(item, 0) + weight * new
            last[item] = step
    now = tf.constant(len(batches), tf.int64)
    items = np.array(sorted(gap) or [1], np.int64)
    expected = [1 / max(gap.get(int(item), len(batches)), 1) for item in items]
    np.testing.assert_allclose(estimate.batch_probability(tf.constant(items), now).numpy(), expected, rtol=1e-5)
    if not gap:
        assert float(tf.reduce_sum(estimate.gap)) == 0
