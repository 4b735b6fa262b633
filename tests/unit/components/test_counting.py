"""What counting features are called, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr.components.counting import CountsConfig
from ctr.components.dataset import DatasetConfig
from ctr.components.settings import IngestConfig
from ctr.models.validation import problems


def test_names_say_the_field_and_the_window_in_its_largest_whole_unit() -> None:
    config = CountsConfig(item=(90, 300, 3600, 5400, 86_400, 604_800, "all"), category=("all", 3600))
    assert [count.name for count in config.counts] == [
        *(f"item_events_{window}" for window in ("90s", "5m", "1h", "90m", "1d", "7d", "all")),
        "category_events_all",
        "category_events_1h",
    ]
    assert CountsConfig().counts == ()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"item": [0]}, "item: 0 is no window; write seconds, 1 to 3153600000, or all"),
        ({"item": ["day"]}, "item: 'day' is no window; write seconds, 1 to 3153600000, or all"),
        ({"category": [60, 60]}, "category: name each window once"),
        ({"item": 60}, "item: must be a list such as [a, b]"),
        ({"item": [60], "behaviors": []}, "behaviors: name at least one behaviour, each once"),
        ({"item": [60], "behaviors": ["pv", "pv"]}, "behaviors: name at least one behaviour, each once"),
        ({"item": [60], "behaviors": ["click"]}, "behaviors.0: must be one of pv, cart, fav, buy"),
        (
            {"behaviors": ["pv"]},
            "configuration: behaviors: nothing is counted; give windows of item or of category, too",
        ),
        ({"items": [60]}, "items: unknown key; did you mean item?"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        CountsConfig.model_validate(settings)
    [line] = problems(raised.value, CountsConfig)
    assert line.startswith(says)


def test_what_a_log_does_not_have_is_not_counted() -> None:
    columns = {"user": "u", "item": "i", "time": "t"}
    counts = {"item": ["all"], "behaviors": ["buy"]}
    bought = {"behaviors": {"sold": "buy"}, "columns": {**columns, "behavior": "what"}}
    price = {"item_events_all": {"of": "user", "column": "price", "type": "number"}}
    for log, counted, says in (
        ({}, counts, "counts.behaviors: no event becomes buy; there are pv"),
        (bought, {"item": [60], "behaviors": ["fav"]}, "counts.behaviors: no event becomes fav; there are buy"),
        ({"features": price}, {"item": ["all"]}, "dataset.features.item_events_all: counts has a feature of that name"),
    ):
        dataset = DatasetConfig.model_validate({"header": True, "columns": columns, **log})
        with pytest.raises(ValidationError, match=says):
            IngestConfig.model_validate({"dataset": dataset, "counts": counted})
    shown = DatasetConfig.model_validate(
        {"header": True, **bought, "columns": {**columns, "behavior": "what", "clicked": "hit"}}
    )
    for kind in ("pv", "buy"):
        IngestConfig.model_validate({"dataset": shown, "counts": {"item": [60], "behaviors": [kind]}})
