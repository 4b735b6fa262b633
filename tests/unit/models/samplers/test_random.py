from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sampler_batches import draw, stored

from ctr.models.impression import CANDIDATE_ITEM_ID
from ctr.models.negatives import StoredKind, StoredNegatives
from ctr.models.samplers.random import Random

ITEMS = np.array([[1, 11, 12, 21, 31, 32], [2, 13, 14, 22, 33, 34], [0, 0, 0, 0, 0, 0]])
STORED = StoredNegatives(uniform=2, same_category=1, contemporaneous=2)
USERS = np.array([1, 2, 0])


@pytest.mark.parametrize(
    ("kind", "columns"),
    [("all", [0, 1, 2, 3, 4, 5]), ("uniform", [0, 1, 2]), ("same_category", [0, 3]), ("contemporaneous", [0, 4, 5])],
)
def test_the_stored_columns_of_a_kind(kind: StoredKind, columns: list[int]) -> None:
    drawn = draw(Random(1, STORED, kind, 100), stored(ITEMS), USERS)
    np.testing.assert_array_equal(drawn.features[CANDIDATE_ITEM_ID].numpy(), ITEMS[:, columns])
    np.testing.assert_array_equal(drawn.mask.numpy(), ITEMS[:, columns] != 0)
    np.testing.assert_array_equal(drawn.labels.numpy(), np.eye(len(columns))[[0, 0, 0]])
    if kind == "uniform":
        np.testing.assert_allclose(drawn.log_q.numpy(), np.log(2 / 100), rtol=1e-6)
    else:
        assert drawn.log_q is None


def test_all_of_them_are_uniform_if_no_other_kind_is_stored() -> None:
    drawn = draw(Random(1, StoredNegatives(uniform=5, contemporaneous=0), "all", 100), stored(ITEMS), USERS)
    np.testing.assert_allclose(drawn.log_q.numpy(), np.log(5 / 100), rtol=1e-6)


def test_flipped_labels_stay_as_they_are() -> None:
    labels = tf.constant([[0.0], [1.0]])
    sampler = Random(1, StoredNegatives(uniform=1, contemporaneous=0), "all", 100)
    drawn = sampler.sample(stored(ITEMS[:2, :1]), labels, tf.constant([1, 2], tf.int64), lambda _: labels)
    np.testing.assert_array_equal(drawn.labels.numpy(), labels.numpy())
