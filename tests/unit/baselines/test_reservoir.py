from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctr.components.baselines.reservoir import Reservoir


def sample(length: int, size: int, seed: int, batch: int) -> list[int]:
    stream = np.arange(length).astype(object)
    reservoir = Reservoir(size, seed)
    for start in range(0, length, batch):
        reservoir.add(stream[start : start + batch])
    return reservoir.sample().tolist()


@given(st.integers(0, 300), st.integers(1, 50), st.integers(1, 40), st.integers(1, 40))
def test_it_depends_on_the_stream_and_not_on_its_batches(length: int, size: int, one: int, other: int) -> None:
    kept = sample(length, size, seed=1, batch=one)
    assert kept == sample(length, size, seed=1, batch=other)
    assert len(kept) == min(length, size)
    assert kept == sorted(set(kept))


def test_every_record_has_the_same_chance() -> None:
    kept = np.concatenate([sample(200, 20, seed, 16) for seed in range(500)])
    halves = np.histogram(kept, bins=[0, 50, 100, 150, 200])[0] / kept.size
    np.testing.assert_allclose(halves, 0.25, atol=0.02)
