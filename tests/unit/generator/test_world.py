from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.generator.behavior_log import GeneratorConfig
from ctr.generator.generator_config import FIRST_SECOND, LAST_SECOND
from ctr.generator.world import DAY, DAYS, World


def _items(world: World, category: int, day: float, n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    second = np.full(n, FIRST_SECOND + int(day * DAY))
    return world.draw_items(np.full(n, category), second, rng.random(n), rng.random(n))


def test_the_window_is_nine_days_of_shanghai() -> None:
    assert (FIRST_SECOND, LAST_SECOND, DAYS) == (1511539200, 1512316799, 9)


@settings(max_examples=50, deadline=None)
@given(categories=st.integers(1, 50), spare=st.integers(0, 500), seed=st.integers(0, 1000))
def test_categories_share_the_items_without_overlap(categories: int, spare: int, seed: int) -> None:
    world = World(GeneratorConfig(users=1, seed=seed, categories=categories, items=categories + spare))
    rng = np.random.default_rng(seed)
    category = np.repeat(np.arange(categories), 200)
    second = rng.integers(FIRST_SECOND, LAST_SECOND + 1, len(category))
    item = world.draw_items(category, second, rng.random(len(category)), rng.random(len(category)))
    assert item.min() >= 0
    assert item.max() < world.items
    bounds = [(item[category == c].min(), item[category == c].max()) for c in range(categories)]
    assert all(left[1] < right[0] for left, right in itertools.pairwise(bounds))


@settings(max_examples=50, deadline=None)
@given(items=st.integers(1, 5000))
def test_ids_are_one_to_one_and_positive(items: int) -> None:
    world = World(GeneratorConfig(users=1, categories=1, items=items))
    ids = world.item_ids(np.arange(items + items // 5))
    assert len(np.unique(ids)) == len(ids)
    assert ids.min() >= 1
    assert len(np.unique(world.category_ids(np.arange(9439)))) == 9439


def test_popularity_within_a_category_falls_off_without_a_single_winner() -> None:
    world = World(GeneratorConfig(users=1))
    counts = np.sort(np.unique(_items(world, 0, 0.0), return_counts=True)[1])[::-1]
    assert 0.002 < counts[0] / counts.sum() < 0.05
    assert counts[:100].sum() > 5 * counts[1000:1100].sum()


def test_items_are_born_and_fade() -> None:
    world = World(GeneratorConfig(users=1))
    for category in range(3):
        first, later, last = (_items(world, category, day) for day in (0.0, 1.0, 8.9))
        assert np.isin(later, first).mean() > 0.3
        assert np.isin(last, first).mean() < 0.001


def test_categories_have_their_days() -> None:
    world = World(GeneratorConfig(users=1))
    uniform = np.random.default_rng(0).random(50_000)
    by_day = np.stack(
        [np.bincount(world.draw_categories(uniform, np.full(len(uniform), day)), minlength=9439) for day in range(DAYS)]
    )
    top = by_day[:, :20]
    assert (top.max(axis=0) > 1.8 * top.min(axis=0)).all()
    assert by_day.shape == (DAYS, 9439)


def test_successors_have_a_direction() -> None:
    world = World(GeneratorConfig(users=1))
    follows = {(a, b) for a, row in enumerate(world.step[:, 1:].tolist()) for b in row}
    assert sum((b, a) in follows for a, b in follows if a != b) < 0.1 * len(follows)
    assert (world.step[:, 0] == np.arange(9439)).all()
