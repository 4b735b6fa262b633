from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.events import EVENT
from ctr.components.impression_gen.hashing import hash_columns
from ctr.components.impression_gen.negatives import OwnLog, Walk


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 50)), min_size=1, max_size=20))
def test_a_walk_visits_every_place_once(walks: list[tuple[int, int]]) -> None:
    hashes = np.array([h for h, _ in walks], dtype=np.uint64)
    sizes = np.array([size for _, size in walks])
    walk = Walk(hashes, sizes)
    for row, size in enumerate(sizes):
        places = [int(walk.place(np.array([row]), k)[0]) for k in range(size)]
        assert sorted(places) == list(range(size))


def test_each_step_of_many_walks_is_uniform() -> None:
    n, size = 60_000, 60
    walk = Walk(hash_columns(3, np.arange(n)), np.full(n, size))
    for k in (0, 1, 7):
        counts = np.bincount(walk.place(np.arange(n), k), minlength=size)
        chi_square = ((counts - n / size) ** 2 / (n / size)).sum()
        # 59 degrees of freedom: mean 59, standard deviation 11.
        assert chi_square < 59 + 5 * 11


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=15),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=15),
)
def test_own_log(logged: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    events = np.zeros(len(logged), EVENT)
    events["user"] = [user for user, _ in logged]
    events["item"] = [item for _, item in logged]
    users = sorted({user for user, _ in logged})
    pairs = [(users[i % len(users)], item) for i, item in asked]
    held = OwnLog(events).holds(np.array([u for u, _ in pairs]), np.array([i for _, i in pairs]))
    assert held.tolist() == [pair in set(logged) for pair in pairs]
