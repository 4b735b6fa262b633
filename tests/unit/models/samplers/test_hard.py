from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf
from sampler_batches import draw, stored, window_of

from ctr.models.impression import CANDIDATE_ITEM_ID
from ctr.models.samplers.frequency import ExactFrequencies
from ctr.models.samplers.hard import HardCategory, HardPool, hard_count
from ctr.models.samplers.registry import HardConfig
from ctr.models.samplers.sampler_config import SamplerConfig

ROWS = 20
ITEMS = np.arange(1, ROWS + 1)[:, None]
USERS = np.arange(ROWS)


def by_item(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The larger the item's id, the higher its score."""
    return tf.cast(features[CANDIDATE_ITEM_ID], tf.float32)


def pool(config: HardConfig, negatives: int, histories: np.ndarray | None = None) -> HardPool:
    window = window_of(ITEMS, USERS, histories)
    return HardPool(7, negatives, config, window, ExactFrequencies(window))


def test_the_highest_scoring_of_the_whole_pool_and_random_others() -> None:
    sampler = pool(HardConfig(pool=ROWS - 1, share=0.5, curriculum_steps=0), negatives=6)
    others = set()
    for _ in range(10):
        chosen = draw(sampler, stored(ITEMS), USERS, by_item).features[CANDIDATE_ITEM_ID].numpy()
        assert set(chosen[0, 1:]) >= {18, 19, 20}
        assert len(set(chosen[0])) == 7
        others |= set(chosen[0, 1:]) - {18, 19, 20}
    assert len(others) > 10


def test_what_the_user_did_is_not_in_the_pool() -> None:
    histories = np.tile([[19, 20]], (ROWS, 1))
    sampler = pool(HardConfig(pool=ROWS - 1, share=0.5, curriculum_steps=0), 6, histories)
    drawn = draw(sampler, stored(ITEMS, histories), USERS, by_item)
    chosen = np.where(drawn.mask.numpy(), drawn.features[CANDIDATE_ITEM_ID].numpy(), 0)
    assert not np.isin(chosen[:18, 1:], [19, 20]).any()
    assert set(chosen[0, 1:]) >= {16, 17, 18}


def test_the_correction_of_hard_and_of_random_columns() -> None:
    """A hard one stands for itself, the random ones for what is left of the pool."""
    sampler = pool(HardConfig(pool=10, share=0.5, curriculum_steps=0), negatives=4)
    drawn = draw(sampler, stored(ITEMS), USERS, by_item)
    log_q, chosen = drawn.log_q.numpy(), drawn.features[CANDIDATE_ITEM_ID].numpy()
    in_pool = 10 / ROWS
    for row in range(ROWS):
        hard = np.isin(chosen[row], np.sort(chosen[row, 1:])[-2:])
        hard[0] = True
        np.testing.assert_allclose(np.exp(log_q[row]), np.where(hard, in_pool, in_pool * 2 / 8), rtol=1e-5)


def test_the_share_rises_along_a_line_and_stays() -> None:
    config = HardConfig(share=0.5, curriculum_steps=100)
    counts = [int(hard_count(config, 8, tf.constant(step, tf.int64))) for step in (1, 24, 26, 50, 100, 10_000)]
    assert counts == [0, 1, 1, 2, 4, 4]
    assert int(hard_count(HardConfig(share=0.5, curriculum_steps=0), 8, tf.constant(1, tf.int64))) == 4


@pytest.mark.parametrize(("share", "negatives"), [(0.07, 150), (0.35, 90), (0.5, 5)])
def test_the_curriculum_ends_with_the_number_that_the_settings_are_checked_by(share: float, negatives: int) -> None:
    config = SamplerConfig(name="hard", negatives=negatives, hard={"pool": 200, "share": share, "curriculum_steps": 7})
    hard = config.section(HardConfig)
    assert int(hard_count(hard, negatives, tf.constant(7, tf.int64))) == hard.most(negatives)


def test_hard_ones_of_the_targets_category_are_the_stored_ones() -> None:
    items = np.concatenate([ITEMS, 100 + ITEMS, 200 + ITEMS, 300 + ITEMS], axis=1)
    config = HardConfig(kind="same_category", share=0.5, curriculum_steps=10)
    sampler = HardCategory(7, 4, config, first=2, window=window_of(items, USERS))
    for step in range(1, 12):
        drawn = draw(sampler, stored(items), USERS)
        chosen = drawn.features[CANDIDATE_ITEM_ID].numpy()
        hard = min(round(2 * step / 10), 2)
        np.testing.assert_array_equal(chosen[:, 1 : 1 + hard], items[:, 2 : 2 + hard])
        assert (chosen[:, 1 + hard :] <= ROWS).all()
        assert drawn.log_q is None
        assert drawn.mask.numpy().all()


def test_no_gradient_goes_through_the_choice() -> None:
    weight = tf.Variable(1.0)
    sampler = pool(HardConfig(pool=8, share=0.5, curriculum_steps=0), negatives=4)
    with tf.GradientTape() as tape:
        drawn = draw(sampler, stored(ITEMS), USERS, lambda features: by_item(features) * weight)
        value = tf.reduce_sum(drawn.log_q) + tf.reduce_sum(tf.cast(drawn.features[CANDIDATE_ITEM_ID], tf.float32))
    assert tape.gradient(value, weight) is None


def test_hard_ones_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        HardConfig(share=1.0)
