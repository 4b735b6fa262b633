"""Declared features in requests: JSON and CSV, strings, what is missing, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from declared_impressions import declared

from ctr.models import impression as names
from ctr.models.string_ids import id_of
from ctr.serving.impression_files import Asked, Refused, read_impressions
from ctr.serving.impressions import Impression, ImpressionError, load_impression
from ctr.serving.messages import shape_of
from ctr.serving.requests import rank_request

EVENT = {
    "item_id": 12,
    "category_id": 3,
    "behavior": "pv",
    "age_seconds": 60,
    "price": 3.5,
    "tags": ["a", 7],
    "verb": 2,
}
CANDIDATE = {"item_id": 7, "category_id": 3, "brand": "acme", "price": 2}
REQUEST = {
    "history": [EVENT],
    "candidates": [CANDIDATE, {"item_id": 9, "category_id": 4}],
    "device": "phone",
    "hour": 13,
}


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared():
        yield


def _found(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [None if value != value else value for value in values[name]] for name in values}


EXPECTED = {
    "history_price": [3.5],
    "history_tags_1": [id_of("a")],
    "history_tags_2": [7],
    "history_tags_3": [0],
    "history_strength": [None],
    "history_verb": [2],
    "candidate_price": [2.0, None],
    "candidate_brand": [id_of("acme"), 0],
    "candidate_tags_1": [0, 0],
    "device": [id_of("phone")],
    "hour": [13.0],
    "age_band": [None],
}


def test_strings_are_hashed_and_what_is_left_out_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(REQUEST))
    impression = load_impression(path)
    features = _found(impression.features())
    assert {name: features[name] for name in EXPECTED} == EXPECTED
    assert {*features} == {*names.REQUEST_FEATURES}
    again = Impression.model_validate_json(impression.model_dump_json())
    assert _found(again.features()) == features
    assert _found(Impression.from_features(impression.features()).features()) == features
    without = impression.features() | dict.fromkeys(("history_verb", "candidate_tags_1", "device"), ())
    missing = Impression.model_validate({**REQUEST, "history": [{**EVENT, "verb": None}], "device": None})
    assert _found(Impression.from_features(without).features()) == _found(missing.features())
    request = rank_request([impression, impression], "ctr")
    assert {name: (shape_of(request.inputs[name]), request.inputs[name].dtype) for name in ("hour", "device")} == {
        "hour": ((2, 1), 1),
        "device": ((2, 1), 9),
    }
    assert math.isnan(impression.features()["age_band"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hour": "noon"}, r"hour: .*must be a number \(got 'noon'\)"),
        ({"device": 1.5}, "device: must be a whole number"),
        ({"colour": 1}, "colour: unknown key"),
        ({"candidates": [{**CANDIDATE, "price": "cheap"}]}, r"candidates\.0\.price: must be a number"),
        ({"candidates": [{**CANDIDATE, "strength": 1}]}, r"candidates\.0\.strength: unknown key"),
        ({"history": [{**EVENT, "tags": ["a", "b", "c", "d"]}]}, r"history\.0\.tags: must have at most 3 items"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(REQUEST | change))
    with pytest.raises(ImpressionError, match=message):
        load_impression(path)


HEADER = "request,item_id,category_id,behavior,age_seconds,price,brand,tags,verb,device,hour"


def test_a_csv_has_a_column_for_each(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    rows = ["a,12,3,pv,60,3.5,,a|7,2,phone,13", "a,7,3,,,2,acme,,,,", "a,9,4,,,,,,,phone,"]
    path.write_text("\n".join([HEADER, *rows, "b,9,4,,,,,,,phone,", "b,8,4,,,,,,,tv,"]))
    asked, refused = read_impressions(str(path))
    assert isinstance(asked, Asked)
    features = _found(asked.impression.features())
    assert {name: features[name] for name in EXPECTED} == EXPECTED
    assert isinstance(refused, Refused)
    assert refused.problems == (f"{path}:6: device: 'tv', and 'phone' above; a request has one",)
