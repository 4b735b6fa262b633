from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_batches import draw, stored, window_of

from ctr.models.impression import CANDIDATE_CATEGORY_ID, CANDIDATE_ITEM_ID, INDEX_OF
from ctr.models.losses import training_loss
from ctr.models.samplers.base import Sampler, TrainingWindow
from ctr.models.samplers.frequency import ExactFrequencies
from ctr.models.samplers.mixed import Mixed
from ctr.models.samplers.sampler_config import LossConfig

SOFTMAX = LossConfig(name="sampled_softmax")


def in_batch(window: TrainingWindow, negatives: int, seed: int = 1) -> Sampler:
    return Mixed(seed, negatives, 0, window, ExactFrequencies(window))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_columns_are_other_rows_and_nothing_of_the_user(data: st.DataObject) -> None:
    rows = data.draw(st.integers(3, 12), "rows")
    padding = data.draw(st.integers(0, 3), "padding")
    negatives = data.draw(st.integers(1, rows + padding - 1), "negatives")
    few = st.integers(1, 6)
    items = np.array(data.draw(st.lists(few, min_size=rows, max_size=rows)) + [0] * padding)[:, None]
    users = np.array(data.draw(st.lists(few, min_size=rows, max_size=rows)) + [0] * padding)
    histories = np.array(data.draw(st.lists(st.tuples(few, few), min_size=rows, max_size=rows)) + [(0, 0)] * padding)
    sampler = in_batch(window_of(items, users, histories), negatives, seed=data.draw(st.integers(0, 99)))
    drawn = draw(sampler, stored(items, histories), users)

    chosen, mask = drawn.features[CANDIDATE_ITEM_ID].numpy(), drawn.mask.numpy()
    assert chosen.shape == mask.shape == (rows + padding, 1 + negatives)
    np.testing.assert_array_equal(chosen[:, 0], items[:, 0])
    np.testing.assert_array_equal(mask[:, 0], items[:, 0] != 0)
    assert not mask[rows:].any()
    own = {user: set(items[users == user].ravel()) | set(histories[users == user].ravel()) for user in users[:rows]}
    others = [np.delete(items[:rows, 0], row) for row in range(rows)]
    available = min(negatives, rows - 1)
    for row in range(rows):
        columns = chosen[row, 1 : 1 + available]
        # No row twice: each item at most as often as other rows have it.
        for item in set(columns):
            assert (columns == item).sum() <= (others[row] == item).sum()
        np.testing.assert_array_equal(mask[row, 1 : 1 + available], [item not in own[users[row]] for item in columns])
        assert not mask[row, 1 + available :].any()
    # All that belongs to an item comes with it.
    for name, expected in ((CANDIDATE_CATEGORY_ID, chosen * 2), (INDEX_OF[CANDIDATE_ITEM_ID], chosen + 1)):
        np.testing.assert_array_equal(drawn.features[name].numpy()[mask], expected[mask])
    assert np.isfinite(drawn.log_q.numpy()).all()
    np.testing.assert_array_equal(drawn.labels.numpy(), np.eye(1 + negatives)[np.zeros(rows + padding, int)])


def test_all_other_rows_come_up_equally_often() -> None:
    rows, negatives, steps = 8, 3, 600
    items, users = np.arange(1, rows + 1)[:, None], np.arange(rows)
    sampler = in_batch(window_of(items, users), negatives)
    drawn = tf.function(lambda: draw(sampler, stored(items), users).features[CANDIDATE_ITEM_ID])
    counts = np.zeros((rows, rows))
    for _ in range(steps):
        columns = drawn().numpy()[:, 1:] - 1
        np.add.at(counts, (np.arange(rows)[:, None], columns), 1)
    assert (np.diag(counts) == 0).all()
    share = counts[~np.eye(rows, dtype=bool)] / steps
    np.testing.assert_allclose(share, negatives / (rows - 1), atol=0.07)


def test_log_q_is_the_share_among_the_positives_times_the_columns() -> None:
    items = np.array([5, 5, 5, 6, 7, 7, 8, 9])[:, None]
    users = np.arange(8)
    drawn = draw(in_batch(window_of(items, users), 4), stored(items), users)
    share = {5: 3 / 8, 6: 1 / 8, 7: 2 / 8, 8: 1 / 8, 9: 1 / 8}
    expected = np.log([[4 * share[item] for item in row] for row in drawn.features[CANDIDATE_ITEM_ID].numpy()])
    np.testing.assert_allclose(drawn.log_q.numpy(), expected, rtol=1e-5)


def test_collisions_have_no_mass_in_the_softmax() -> None:
    """User 0's row collides with its target, its history and another target of the same user; column 4 is free."""
    items = np.array([[1], [1], [2], [3], [4]])
    histories = np.array([[2], [9], [9], [9], [9]])
    users = np.array([0, 1, 2, 3, 4])
    # The other target of user 0 is not in this batch's rows of that user: the window knows it.
    extra = np.concatenate([items, [[3]]])
    window = window_of(extra, np.append(users, 0), np.concatenate([histories, [[2]]]))
    drawn = draw(in_batch(window, 4), stored(items, histories), users)
    logits = tf.Variable(tf.zeros([5, 5]))
    with tf.GradientTape() as tape:
        loss, _ = training_loss(SOFTMAX, logits, drawn)
    mass = tape.gradient(loss, logits).numpy()[0, 1:]
    chosen = drawn.features[CANDIDATE_ITEM_ID].numpy()[0, 1:]
    assert sorted(chosen) == [1, 2, 3, 4]
    assert (mass[chosen != 4] == 0).all()
    assert mass[chosen == 4] > 0.1


def test_a_row_that_has_nothing_left_gives_no_gradient_and_no_nan() -> None:
    items, users = np.array([[1], [1], [0]]), np.array([0, 1, 0])
    drawn = draw(in_batch(window_of(items, users), 2), stored(items), users)
    logits = tf.Variable(tf.ones([3, 3]))
    with tf.GradientTape() as tape:
        loss, count = training_loss(SOFTMAX, logits, drawn)
    assert float(count) == 2
    assert float(loss) == 0
    assert (tape.gradient(loss, logits).numpy() == 0).all()


def test_the_seed_and_the_step_decide_the_draw() -> None:
    items, users = np.arange(1, 33)[:, None], np.arange(32)
    window = window_of(items, users)

    def three_steps(seed: int) -> list[np.ndarray]:
        sampler = in_batch(window, 4, seed)
        return [draw(sampler, stored(items), users).features[CANDIDATE_ITEM_ID].numpy() for _ in range(3)]

    first, again, other = three_steps(1), three_steps(1), three_steps(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])
