from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ctr.components.lookup import find
from ctr.models.samplers import lookup


@pytest.mark.parametrize("shape", [(0,), (500,), (20, 25)])
def test_it_finds_what_the_graph_finds(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    rising = np.unique(rng.integers(-1000, 1000, 700))
    values = rng.integers(-1100, 1100, shape)
    place, known = find(rising, values)
    in_graph = [part.numpy() for part in lookup.find(tf.constant(rising), tf.constant(values))]
    np.testing.assert_array_equal(place, in_graph[0])
    np.testing.assert_array_equal(known, in_graph[1])
    np.testing.assert_array_equal(known, np.isin(values, rising))


def test_nothing_is_found_in_an_empty_array() -> None:
    place, known = find(np.empty(0, np.int64), np.array([[3, 4]]))
    assert place.shape == known.shape == (1, 2)
    assert not known.any()
