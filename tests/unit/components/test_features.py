"""Declarations of features: what they make of the table, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ctr.components.schema.impression_schema import Ranges, impression_schema
from ctr.models import impression
from ctr.models.errors import ConfigError
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

LOG = """
header: true
columns: {user: u, item: i, time: t}
"""
FEATURES = """
price:    {of: item, column: price, type: number, encode: {quantiles: 16}, width: 4, default: 2.5}
brand:    {of: item, column: brand, encode: {vocabulary: {max: 100, min_count: 5}}, used: [candidate]}
tags:     {of: item, column: tags, type: categories, max_values: 2, encode: {hash: 1000}}
strength: {of: event, column: dwell_seconds, type: number, encode: {log: true}}
age_band: {of: user, column: age, type: number, encode: {buckets: [18, 25, 35, 50]}}
device:   {of: request, column: device}
hour:     {of: request, computed: hour_of_day}
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    impression.declare_features([])


def _config(features: str) -> PipelineConfig:
    return load_preset("demo").with_overrides(
        {"ingest.dataset": {**yaml.safe_load(LOG), "features": yaml.safe_load(features)}}
    )


def test_a_configuration_declares_its_features_and_another_one_takes_them_away() -> None:
    before: dict[str, Any] = {"request": [*impression.REQUEST_FEATURES], "inputs": [*impression.MODEL_INPUTS]}
    _config(FEATURES)
    assert [name for name in impression.REQUEST_FEATURES if name not in before["request"]] == [
        *("history_price", "history_tags_1", "history_tags_2", "history_strength"),
        *("candidate_price", "candidate_brand", "candidate_tags_1", "candidate_tags_2"),
        *("age_band", "device", "hour"),
    ]
    assert [name for name in impression.MODEL_INPUTS if name not in before["inputs"]] == [
        *("history_price_code", "history_tags_1_code", "history_tags_2_code", "history_strength_code"),
        *("candidate_price_code", "candidate_brand_code", "candidate_tags_1_code", "candidate_tags_2_code"),
        *("age_band_code", "device_code", "hour_code"),
    ]
    assert "history_price" not in impression.STORED_FEATURES
    largest = {name: impression.FEATURES[name].encoding.largest for name in impression.CANDIDATE_FEATURES[2:]}  # type: ignore[union-attr]
    assert largest == {
        "candidate_price": 16,
        "candidate_brand": 101,
        "candidate_tags_1": 1000,
        "candidate_tags_2": 1000,
    }
    assert impression.FEATURES["candidate_price"].default == 2.5
    load_preset("demo")
    assert before == {"request": impression.REQUEST_FEATURES, "inputs": impression.MODEL_INPUTS}


def test_the_settings_of_a_step_carry_them_to_another_process() -> None:
    settings = Ranges.of(_config(FEATURES).ingest).model_dump_json()
    declared = impression.declared_features()
    rows = impression.features_of("candidate")
    Ranges.model_validate_json(settings)
    assert impression.features_of("candidate") == rows, "the same declarations leave the rows as they are"
    impression.declare_features([])
    ranges = Ranges.model_validate_json(settings)
    assert impression.declared_features() == declared == json.loads(json.dumps(declared))
    schema = {feature.name: feature for feature in impression_schema(ranges, (0, 100)).feature}
    assert (schema["candidate_price"].type, schema["candidate_price"].presence.min_fraction) == (3, 1.0)
    assert schema["history_strength"].float_domain.disallow_nan
    assert (schema["device"].type, schema["device"].value_count.max) == (2, 1)


def test_a_feature_that_is_served_as_a_constant_is_an_input_and_in_no_request() -> None:
    encoding = impression.Encoding("hash", 10)
    impression.declare_features(
        [impression.Feature("candidate_place", "candidate", "place", declared="place", encoding=encoding, served=0)]
    )
    assert "candidate_place" not in impression.REQUEST_FEATURES
    assert "candidate_place_code" in impression.CANDIDATE_INPUTS


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("a: {of: item, column: a, type: number, encode: {hash: 3}}", "features.a: encode: a number has buckets or"),
        ("a: {of: item, column: a, encode: {log: true}}", "features.a: encode: a category has vocabulary or hash"),
        ("a: {of: item, column: a, encode: {hash: 3, log: true}}", "encode: give one of .* \\(got hash, log\\)"),
        ("a: {of: item, column: a, encode: {}}", "encode: give one of .* \\(got none\\)"),
        ("a: {of: item, column: a, type: number, encode: {buckets: [2, 1]}}", "buckets must rise \\(got 2, 1\\)"),
        ("a: {of: item}", "features.a: give column, or computed"),
        ("a: {of: item, computed: hour_of_day}", "set of to request \\(got item\\)"),
        ("a: {of: request, computed: hour_of_day, type: number}", "type: computed says it"),
        ("a: {of: user, column: a, used: [history]}", "used: is of an item's features"),
        ("a: {of: item, column: a, default: 1}", "default: is of numbers"),
        ("a: {of: item, column: a, max_values: 3}", "max_values: is of type categories"),
        ("a: {of: item, column: 3}", "features.a.column: give the column's name"),
        ("a: {of: item, colum: a}", "features.a.colum: unknown key; did you mean column"),
        ("a_1: {of: item, column: a}", "'a_1' is no name of a feature"),
        ("history_a: {of: item, column: a}", "'history_a' is no name of a feature"),
        ("age: {of: user, column: a}", "age is the name of something else"),
        ("a: {of: item, column: a}\na_code: {of: item, column: b}", "there is a feature history_a_code already"),
    ],
)
def test_what_cannot_be_is_refused_by_name(feature: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(feature)
