from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sampler_batches import CATALOGUE, draw, stored, window_of

from ctr.models.impression import CANDIDATE_ITEM_ID
from ctr.models.negatives import StoredNegatives
from ctr.models.samplers.base import Sampled, Sampler, TrainingWindow
from ctr.models.samplers.registry import SamplerContext, build_sampler, uniform_of
from ctr.models.samplers.sampler_config import SamplerConfig

UNIFORM, ROWS = 4, 12
RNG = np.random.default_rng(0)
ITEMS = np.concatenate([RNG.integers(1, 8, (ROWS, 1)), RNG.integers(100, 200, (ROWS, UNIFORM))], axis=1)
USERS = np.arange(ROWS)
NOTHING = np.empty(0, np.int64)


def sampler(window: TrainingWindow | None = None, **settings: object) -> Sampler:
    return build_sampler(
        SamplerContext(
            SamplerConfig.model_validate({"negatives": 4, **settings}),
            window=window or window_of(ITEMS, USERS),
            stored=StoredNegatives(uniform=UNIFORM, contemporaneous=0),
            batch_size=ROWS,
            seed=3,
        )
    )


def assert_equal(a: Sampled, b: Sampled) -> None:
    for left, right in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


def test_alpha_0_is_in_batch_and_alpha_1_is_random() -> None:
    pairs = [
        (sampler(name="mixed", alpha=0), sampler(name="in_batch")),
        (sampler(name="mixed", alpha=1), sampler(name="random")),
        (sampler(name="mixed", alpha=0, frequencies="streaming"), sampler(name="streaming_frequency")),
    ]
    for mixed, pure in pairs:
        for _ in range(3):
            assert_equal(draw(mixed, stored(ITEMS), USERS), draw(pure, stored(ITEMS), USERS))


@pytest.mark.parametrize("frequencies", ["exact", "streaming"])
def test_alpha_1_needs_no_window(frequencies: str) -> None:
    mixed = sampler(
        TrainingWindow(CATALOGUE, NOTHING, NOTHING, NOTHING), name="mixed", alpha=1, frequencies=frequencies
    )
    assert_equal(draw(mixed, stored(ITEMS), USERS), draw(sampler(name="random"), stored(ITEMS), USERS))


def test_every_column_is_corrected_by_the_multiplicity_of_the_mixture() -> None:
    drawn = draw(sampler(name="mixed", alpha=0.5), stored(ITEMS), USERS)
    chosen = drawn.features[CANDIDATE_ITEM_ID].numpy()
    np.testing.assert_array_equal(chosen[:, :3], ITEMS[:, :3])
    share = np.bincount(ITEMS[:, 0], minlength=200) / ROWS
    np.testing.assert_allclose(drawn.log_q.numpy(), np.log(2 * share[chosen] + 2 / CATALOGUE), rtol=1e-5)


def test_the_share_of_uniform_ones_is_rounded() -> None:
    assert [
        uniform_of(SamplerConfig.model_validate({"negatives": 4, "alpha": a})) for a in (0, 0.25, 0.5, 0.75, 1)
    ] == [0, 1, 2, 3, 4]
