from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ctr.generator.behavior_log import DirtConfig, GeneratorConfig
from ctr.generator.generator_config import DIRT_KINDS


def _problem(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        GeneratorConfig.model_validate(values)
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"])) + ": " + error["msg"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"users": 0}, "users"),
        ({"users": 1, "seed": -1}, "seed"),
        ({"users": 1, "events_per_user": 2}, "events_per_user"),
        ({"users": 1, "events_per_user": float("nan")}, "events_per_user"),
        ({"users": 1, "categories": 0}, "categories"),
        ({"users": 1, "shoppers": 1}, "shoppers"),
        ({"users": 1, "start": "May 2024"}, "start"),
        ({"users": 1, "start": "1970-01-01"}, "start"),
        ({"users": 1, "dirt": {"duplicates": 1}}, "dirt.duplicates"),
    ],
)
def test_an_impossible_value_is_refused_by_name(values: dict[str, object], field: str) -> None:
    assert _problem(**values).startswith(f"{field}: ")


@pytest.mark.parametrize("amount", [-1, -0.1, 0.11, 1.5, True, "many", None, float("nan")])
@pytest.mark.parametrize("kind", DIRT_KINDS)
def test_an_amount_is_a_count_or_a_rate(kind: str, amount: object) -> None:
    message = _problem(users=10, dirt={kind: amount})
    assert message.startswith(f"dirt.{kind}: ")
    assert "a count" in message
    assert "a rate" in message


def test_more_dirt_than_the_log_could_hold_is_refused_with_the_bound() -> None:
    message = _problem(users=10, dirt={"duplicate": 5000})
    assert "dirt.duplicate is 5000" in message
    assert "at most 1010" in message


def test_each_category_needs_an_item() -> None:
    assert "categories is 50 but items only 20" in _problem(users=10, categories=50, items=20)


def test_two_categories_need_two_categories() -> None:
    assert "at least 2 categories" in _problem(users=10, categories=1, dirt={"two_category_items": 1})


def test_the_catalogue_grows_with_the_users_above_its_floor() -> None:
    assert GeneratorConfig(users=10).catalogue_items == 1_500_000
    assert GeneratorConfig(users=987_994).catalogue_items == 4_149_574
    assert GeneratorConfig(users=10, items=20_000).catalogue_items == 20_000


@given(users=st.integers(1, 10_000_000), rate=st.floats(0, 0.1), events=st.floats(10, 5000))
def test_a_rate_is_of_the_expected_rows(users: int, rate: float, events: float) -> None:
    config = GeneratorConfig(users=users, events_per_user=events, dirt=DirtConfig(duplicate=rate))
    assert abs(config.dirt_count("duplicate") - rate * users * events) <= 1


@given(count=st.integers(0, 1000), rate=st.floats(0, 0.1))
def test_json_keeps_counts_and_rates_apart(count: int, rate: float) -> None:
    config = GeneratorConfig(users=100, dirt=DirtConfig(duplicate=count, outside_window=rate))
    read = GeneratorConfig.model_validate_json(config.model_dump_json())
    assert read == config
    assert isinstance(read.dirt.duplicate, int)
    assert isinstance(read.dirt.outside_window, float)
