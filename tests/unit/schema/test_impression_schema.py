"""The schema that a configuration gives, against real TFDV statistics."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx_bsl.coders import example_coder

from ctr.components.anomaly_gate.findings import AnomaliesFoundError, findings, stop_on_anomalies
from ctr.components.schema.impression_schema import Ranges, impression_schema
from ctr.components.settings import IngestConfig
from ctr.models import impression
from ctr.models.negatives import StoredNegatives

IMPRESSION: dict[str, list[Any]] = {
    "user_id": [7],
    "timestamp": [1511600000],
    "negative_set": [b"mixed"],
    "target_behavior": [1],
    "history_item_id": [5, 6],
    "history_category_id": [50, 60],
    "history_behavior": [1, 4],
    "history_age": [100, 10],
    "candidate_item_id": [3, 4],
    "candidate_category_id": [30, 40],
    "label": [1, 0],
}
NOT_IN_A_REQUEST = {"user_id", "timestamp", "negative_set", "target_behavior", "label"}
EMPTY_HISTORY: dict[str, list[Any]] = {name: [] for name in impression.HISTORY_FEATURES}


def schema_of(**settings: Any) -> schema_pb2.Schema:
    ingest = IngestConfig(**settings)
    return impression_schema(Ranges.of(ingest), ingest.window)


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    return schema_of()


def serialized(values: dict[str, list[Any]]) -> bytes:
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if name == "negative_set":
            feature.bytes_list.value.extend(value)
        else:
            feature.int64_list.SetInParent()
            feature.int64_list.value.extend(value)
    return example.SerializeToString()


def validate(
    schema: schema_pb2.Schema, *rows: dict[str, list[Any]], environment: str | None = None
) -> anomalies_pb2.Anomalies:
    batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch([serialized(row) for row in rows])
    statistics = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())
    return tfdv.validate_statistics(statistics, schema, environment)


def test_it_holds_every_raw_feature_and_no_other(schema: schema_pb2.Schema) -> None:
    features = {*impression.REQUEST_FEATURES, *NOT_IN_A_REQUEST}
    assert {feature.name for feature in schema.feature} == features


def test_its_domains_are_those_of_the_code_and_of_the_settings(schema: schema_pb2.Schema) -> None:
    features = {feature.name: feature for feature in schema.feature}
    window = IngestConfig().window
    times, ages = features["timestamp"].int_domain, features["history_age"].int_domain
    assert (times.min, times.max) == window
    assert (ages.min, ages.max) == (1, window[1] - window[0])
    codes = impression.BEHAVIORS.values()
    behaviors = features["history_behavior"].int_domain
    assert (behaviors.min, behaviors.max) == (min(codes), max(codes))
    assert list(schema.string_domain[0].value) == [impression.MIXED, *impression.NEGATIVE_SETS]
    assert {features[name].value_count.max for name in impression.HISTORY_FEATURES} == {IngestConfig().history_length}


@pytest.mark.parametrize(
    ("settings", "feature", "found"),
    [
        ({"history_length": 7}, "history_age", 7),
        # The candidate stands behind the history.
        ({"history_length": 7, "candidate_in_history": True}, "history_item_id", 8),
        ({"training_negatives": StoredNegatives(uniform=3, contemporaneous=2)}, "label", 6),
        ({"evaluation_negatives": 99}, "candidate_item_id", 100),
        ({"flip_labels": True}, "candidate_item_id", 1),
    ],
)
def test_its_lengths_are_those_of_what_is_stored(settings: dict[str, Any], feature: str, found: int) -> None:
    features = {each.name: each for each in schema_of(**settings).feature}
    assert features[feature].value_count.max == found


def test_a_negative_set_that_is_not_made_is_an_anomaly() -> None:
    schema = schema_of(evaluation_sets=("uniform",))
    assert not validate(schema, IMPRESSION, IMPRESSION | {"negative_set": [b"uniform"]}).anomaly_info
    assert set(validate(schema, IMPRESSION | {"negative_set": [b"same_category"]}).anomaly_info) == {"negative_set"}


def test_the_window_of_another_year_admits_its_log_and_no_other() -> None:
    may = schema_of(window_start=dt.datetime(2024, 5, 1), window_end=dt.datetime(2024, 5, 9, 23, 59, 59))
    of_may = IMPRESSION | {"timestamp": [1714700000]}
    assert not validate(may, of_may).anomaly_info
    (finding,) = findings("train", validate(may, IMPRESSION))
    assert finding.feature == "feature timestamp"
    assert finding.expected == (
        "INT, 1714492800 to 1715270399, 1 values, in every impression "
        "(from ingest.window_start, ingest.window_end, ingest.window_days)"
    )


def test_settings_that_bound_nothing_do_not_reach_it() -> None:
    other = IngestConfig(seed=1, eval_share=0.3, min_history=2, targets="last", user_partitions=9, block_megabytes=1)
    assert Ranges.of(other) == Ranges.of(IngestConfig())


def test_good_impressions_pass_with_and_without_a_history(schema: schema_pb2.Schema) -> None:
    anomalies = validate(schema, IMPRESSION, IMPRESSION | EMPTY_HISTORY)
    stop_on_anomalies({"train": anomalies}, {"train": 2})
    assert findings("train", anomalies) == []


def test_a_request_needs_no_label_but_training_does(schema: schema_pb2.Schema) -> None:
    request = {name: IMPRESSION[name] for name in impression.REQUEST_FEATURES}
    assert not validate(schema, request, environment="SERVING").anomaly_info
    missing = validate(schema, request, environment="TRAINING").anomaly_info
    assert set(missing) == NOT_IN_A_REQUEST


@pytest.mark.parametrize(
    ("feature", "value", "found", "expected"),
    [
        ("timestamp", [1511600000000], "large value: 1511600000000", "INT, 1511539200 to 1512316799, 1 values"),
        ("timestamp", [1511600000 - 30 * 86400], "small value: 1509008000", "1511539200 to 1512316799"),
        ("timestamp", [1511600000 + 30 * 86400], "large value: 1514192000", "1511539200 to 1512316799"),
        ("timestamp", [], "", "in every impression"),
        ("user_id", [0], "small value: 0", "INT, 1 or more"),
        ("target_behavior", [5], "large value: 5", "1 to 4"),
        ("user_id", [1, 2], "more values than expected", "1 values"),
        ("candidate_item_id", [0, 4], "small value: 0", "1 or more"),
        ("candidate_item_id", [5, 6, 7], "more values than expected", "1 to 2 values"),
        ("candidate_category_id", [-1, 4], "small value: -1", "1 or more"),
        ("history_item_id", [0, 6], "small value: 0", "0 to 50 values"),
        ("history_item_id", [5] * 51, "more values than expected", "0 to 50 values"),
        ("history_category_id", [0, 6], "small value: 0", "1 or more"),
        ("history_behavior", [7, 1], "large value: 7", "1 to 4"),
        ("history_behavior", [0, 1], "small value: 0", "1 to 4"),
        ("history_age", [0, 1], "small value: 0", "1 to 777599"),
        ("history_age", [777_600, 1], "large value: 777600", "1 to 777599"),
        ("label", [2, 0], "large value: 2", "0 to 1"),
        ("negative_set", [b"popular"], "missing from the schema: popular", "uniform, same_category, contemporaneous"),
    ],
)
def test_a_bad_value_stops_the_run_with_the_feature_and_what_was_expected(
    schema: schema_pb2.Schema, feature: str, value: list[Any], found: str, expected: str
) -> None:
    anomalies = validate(schema, IMPRESSION, IMPRESSION | {feature: value})
    with pytest.raises(AnomaliesFoundError, match=f"split eval, feature {feature}: ") as error:
        stop_on_anomalies({"train": anomalies_pb2.Anomalies(), "eval": anomalies}, {"train": 1, "eval": 2})
    (finding,) = findings("eval", anomalies)
    assert str(finding) in str(error.value)
    assert found in finding.found
    assert expected in finding.expected


def test_an_unknown_feature_and_a_missing_one_are_named(schema: schema_pb2.Schema) -> None:
    row = {name: value for name, value in IMPRESSION.items() if name != "label"} | {"price": [3]}
    found = {f.feature: f for f in findings("train", validate(schema, row))}
    assert set(found) == {"feature label", "feature price"}
    assert found["feature price"].expected == "no such feature"


def test_every_feature_parses_as_sparse(schema: schema_pb2.Schema) -> None:
    spec = tft.tf_metadata.schema_utils.schema_as_feature_spec(schema).feature_spec
    assert {type(feature) for feature in spec.values()} == {tf.io.VarLenFeature}
    row = tf.io.parse_example([serialized(IMPRESSION | EMPTY_HISTORY)], spec)
    assert row["history_item_id"].dense_shape.numpy().tolist() == [1, 0]
