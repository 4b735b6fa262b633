"""What counting features are called, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr.components.counting import CountsConfig
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
        ({"behaviors": []}, "behaviors: name at least one behaviour, each once"),
        ({"behaviors": ["pv", "pv"]}, "behaviors: name at least one behaviour, each once"),
        ({"behaviors": ["click"]}, "behaviors.0: must be one of pv, cart, fav, buy"),
        ({"items": [60]}, "items: unknown key; did you mean item?"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        CountsConfig.model_validate(settings)
    [line] = problems(raised.value, CountsConfig)
    assert line.startswith(says)
