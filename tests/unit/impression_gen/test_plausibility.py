"""Bounds of a behaviour log: what each finds, and that each can be switched off."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ctr.components.impression_gen.counts import ITEM_COUNT
from ctr.components.impression_gen.plausibility import LogFacts, check_plausible, repeated_items
from ctr.components.settings import PlausibilityConfig

REAL = LogFacts(699, 37_000, 2_500, 9_000, 1, {"pv": 66_350, "cart": 3_967, "fav": 2_031, "buy": 1_520}, 0.0002)
"""About the real excerpt."""
PUBLIC = LogFacts(
    *(987_994, 4_000_000, 9_400, 2_900_000, 1_400),
    {"pv": 89_716_264, "cart": 5_530_446, "fav": 2_888_258, "buy": 2_015_839},
    0.00001,
)
NO_BOUND = PlausibilityConfig.model_validate(
    {name: None for name, field in PlausibilityConfig.model_fields.items() if field.default and name != "min_events"}
)

OUT_OF_ONE_BOUND: list[tuple[str, dict[str, Any], str]] = [
    ("min_users", {"users": 1}, "1 different user_id; expected at least 2 "),
    ("min_items", {"items": 1, "categories": 1}, "1 different item_id; expected at least 2 "),
    ("min_categories", {"categories": 1}, "1 different category_id; expected at least 2 "),
    ("min_events_per_user", {"users": 49_180}, "1.50 events a user on average; expected at least 2.00 "),
    ("max_events_per_user", {"users": 2}, "36,934.00 events a user on average; expected at most 10,000.00 "),
    (
        "max_items_with_several_categories",
        {"repeated_items_with_several_categories": 3_400},
        "37.78% of the items with several events have several categories; expected at most 5.00% ",
    ),
    ("max_categories_per_item", {"categories": 35_000}, "0.95 categories an item on average; expected at most 0.90 "),
    ("min_pv_share", {"behaviors": {"pv": 20_000, "cart": 30_000, "buy": 30_000}}, "25.00% of the events are pv"),
    ("max_pv_share", {"behaviors": {"pv": 80_000}}, "100.00% of the events are pv; expected at most 99.90% "),
    ("max_cart_share", {"behaviors": {"pv": 40_000, "cart": 40_000}}, "50.00% of the events are cart"),
    ("max_fav_share", {"behaviors": {"pv": 40_000, "fav": 40_000}}, "50.00% of the events are fav"),
    ("max_buy_share", {"behaviors": {"pv": 40_000, "buy": 40_000}}, "50.00% of the events are buy"),
    ("max_second_share", {"busiest_second": 0.12}, "12.00% of the events are in one and the same second"),
]


@pytest.mark.parametrize("facts", [REAL, PUBLIC])
def test_real_logs_are_plausible(facts: LogFacts) -> None:
    check_plausible(facts, PlausibilityConfig())


@pytest.mark.parametrize(("name", "change", "says"), OUT_OF_ONE_BOUND)
def test_a_bound_says_what_was_found_and_expected_and_can_be_switched_off(
    name: str, change: dict[str, Any], says: str
) -> None:
    facts = dataclasses.replace(REAL, **change)
    with pytest.raises(ValueError, match="does not look like a behaviour log") as refused:
        check_plausible(facts, PlausibilityConfig())
    text = str(refused.value)
    assert says in text
    assert f"(ingest.plausibility.{name})" in text
    assert f"{facts.events:,} events of {facts.users:,} user" in text
    check_plausible(facts, NO_BOUND)
    alone = NO_BOUND.model_copy(update={name: getattr(PlausibilityConfig(), name)})
    with pytest.raises(ValueError, match=name):
        check_plausible(facts, alone)


def test_every_bound_is_tried() -> None:
    assert {name for name, _, _ in OUT_OF_ONE_BOUND} == set(PlausibilityConfig.model_fields) - {"min_events"}


def test_all_that_is_wrong_is_said_at_once() -> None:
    facts = dataclasses.replace(REAL, users=1, busiest_second=1.0)
    with pytest.raises(ValueError, match=r"(?s)min_users.*max_events_per_user.*max_second_share"):
        check_plausible(facts, PlausibilityConfig())


def test_a_log_of_few_events_is_not_judged() -> None:
    few = LogFacts(1, 1, 1, 1, 1, {"buy": 999}, 1.0)
    check_plausible(few, PlausibilityConfig())
    with pytest.raises(ValueError, match="min_users"):
        check_plausible(few, PlausibilityConfig(min_events=500))
    check_plausible(dataclasses.replace(few, behaviors={}), PlausibilityConfig(min_events=0))


def test_repeated_items_are_those_of_the_train_split() -> None:
    counts = np.array(
        [(1, 1, 1), (1, 2, 1), (2, 1, 5), (3, 1, 1), (4, 1, 1), (4, 2, 0), (5, 1, 2), (5, 9, 0), (6, 1, 0)], ITEM_COUNT
    )
    assert repeated_items(counts) == (3, 1)
    assert repeated_items(counts[:0]) == (0, 0)
