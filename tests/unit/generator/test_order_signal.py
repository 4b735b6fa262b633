"""The generated log rewards those who look at the order of events."""

from __future__ import annotations

import numpy as np
import pytest

from ctr.generator.behavior_log import GeneratorConfig, generate
from ctr.generator.compare import BAG, evaluation_start, first_of_group, next_category_accuracy, read_log
from ctr.generator.events import Events

CATEGORIES = 100


@pytest.fixture(scope="module")
def few_categories(tmp_path_factory: pytest.TempPathFactory) -> Events:
    """So few categories that 1,500 users suffice to learn which follows which."""
    path = tmp_path_factory.mktemp("order") / "log.csv"
    generate(GeneratorConfig(users=1500, seed=5, categories=CATEGORIES), path)
    return read_log(path)


def _hit_rates(log: Events) -> tuple[float, float]:
    """Share of later events whose category is the likeliest one: by the last event, and by the last ten as a set."""
    _, category = np.unique(log.category, return_inverse=True)
    rows = np.flatnonzero(np.arange(len(log)) - first_of_group(log.user) >= BAG)
    history = np.stack([category[rows - lag] for lag in range(1, BAG + 1)], axis=1)
    learnt = log.time[rows] < evaluation_start(log)
    rates = []
    for context in (history[:, :1], history):
        counts = np.full((CATEGORIES, CATEGORIES), 0.1)
        np.add.at(counts, (context[learnt], category[rows[learnt], None]), 1.0)
        chance = counts / counts.sum(axis=1, keepdims=True)
        guess = chance[context[~learnt]].sum(axis=1).argmax(axis=1)
        rates.append(float(np.mean(guess == category[rows[~learnt]])))
    return rates[0], rates[1]


def test_a_markov_chain_predicts_the_next_category_better_than_a_bag(few_categories: Events) -> None:
    ordered, unordered = _hit_rates(few_categories)
    print(f"next category hit by the last event's: {ordered:.3f}, by the bag: {unordered:.3f}")
    assert ordered > unordered + 0.02


def test_order_tells_changes_of_category_too(few_categories: Events) -> None:
    ordered, unordered = next_category_accuracy(few_categories)
    print(f"AUC on changes of category by the last event's: {ordered:.3f}, by the bag: {unordered:.3f}")
    assert ordered > unordered + 0.02


def test_the_advantage_is_the_orders(few_categories: Events) -> None:
    """With each user's categories shuffled the chain knows no more than the bag."""
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(few_categories)), few_categories.user))
    log = few_categories
    shuffled = Events(log.user, log.item[order], log.category[order], log.behavior[order], log.time)
    ordered, unordered = next_category_accuracy(shuffled)
    assert ordered < unordered + 0.01
