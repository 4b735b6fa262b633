"""Codes of declared features against numpy, through the blocks, and the same in the exported graph."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from block_files import rows_of
from declared_impressions import COUNTS, HISTORY, Rows, declared, random_rows, run_transform, serialized

from ctr.components.counting import CountedField
from ctr.components.dataset import Exposures
from ctr.components.examples.event_counts import EventCounts
from ctr.components.examples.impressions import parse, values_of
from ctr.components.skew_check.check import check
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.components.trainer.export import export
from ctr.components.trainer.input_pipeline import read_batches
from ctr.components.trainer.served_counts import ServedCounts
from ctr.components.trainer.warmup import warmup_requests
from ctr.components.transform.analysis import count, counted, learn, merged
from ctr.models import impression as names
from ctr.models.errors import DataError
from ctr.models.model_config import ModelConfig
from ctr.models.registry import build_model
from ctr.pipeline.output import eval_impressions
from ctr.pipeline.release import shadow
from ctr.serving.client import RankingClient
from ctr.serving.explanation import explain
from ctr.serving.impressions import Impression
from ctr.serving.limits import RequestLogSettings
from ctr.serving.request_log import read_log
from ctr.serving.requests import examples_request
from ctr.serving.server import Access, ModelServer


class Transformed(NamedTuple):
    train: Rows
    """Before Transform, as is ``eval``."""
    eval: Rows
    raw: Path
    graph: Path
    examples: Path


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transformed]:
    with declared():
        train, judged = random_rows(90), random_rows(40, seed=1)
        splits = {"train": [train[:50], train[50:]], "validation": [random_rows(9, seed=2)], "eval": [judged]}
        folder = tmp_path_factory.mktemp("transform")
        yield Transformed(train, judged, folder / "raw", *run_transform(folder, splits))


def _newest(rows: Rows, name: str) -> list[Any]:
    return [row[name][-1] for row in rows if row[name]]


def _all(rows: Rows, *several: str) -> list[Any]:
    return [value for row in rows for name in several for value in row[name]]


def _vocabulary(values: list[int], most: int, min_count: int = 1) -> dict[int, int]:
    counts = Counter(value for value in values if value)
    ordered = sorted((value for value in counts if counts[value] >= min_count), key=lambda v: (-counts[v], v))
    return {0: 0} | {value: 2 + rank for rank, value in enumerate(ordered[:most])}


def _bucket(value: int, size: int) -> int:
    spread = value * 0x9E3779B97F4A7C15 & 2**64 - 1
    spread -= 2**64 if spread >> 63 else 0
    return 0 if value == 0 else 1 + (spread ^ spread >> 32) % size


def _expected(train: Rows) -> dict[str, Any]:
    """Declared name -> what makes codes of its values."""
    prices = np.sort(np.array(_all(train, "candidate_price"), np.float32).view(np.uint32) & 0xFFFFF000)
    bounds = np.unique([prices[len(prices) * k // 8] for k in range(1, 8)]).astype(np.uint32).view(np.float32)
    brands = _vocabulary(_all(train, "candidate_brand"), 5, 3)
    verbs = _vocabulary(_newest(train, "history_verb"), 4)
    devices = _vocabulary(_all(train, "device"), 10_000)
    assert [len(each) for each in (bounds, brands, verbs)] == [7, 6, 5]
    return {
        "price": lambda x: 1 + int(np.searchsorted(bounds, np.float32(x), side="right")),
        "brand": lambda x: brands.get(x, 1),
        "tags": lambda x: _bucket(x, 7),
        "strength": lambda x: 1 + min(31, int(np.floor(np.log2(1 + np.float64(np.float32(x)))))),
        "verb": lambda x: verbs.get(x, 1),
        "age_band": lambda x: 1 + sum(bound <= x for bound in (18, 25, 35, 50)),
        "device": lambda x: devices.get(x, 1),
        "hour": lambda x: 1 + sum(hour <= x for hour in range(24)),
        **{count.name: lambda x: 1 + int(np.log2(1 + x)) for count in COUNTS.counts},
        "position": lambda x: 1 + sum(place <= x for place in range(1, 1 + Exposures().max_candidates)),
    }


def test_codes_are_those_of_numpy_and_alone_are_stored(transformed: Transformed) -> None:
    expected, rows = _expected(transformed.train), rows_of(transformed.examples / "Split-eval")
    assert {*rows[0]} == {*names.STORED_FEATURES}
    seen: dict[str, set[int]] = {name: set() for name in expected}
    for before, after in zip(transformed.eval, rows, strict=True):
        for feature in names.FEATURES.values():
            if feature.declared:
                codes = [expected[feature.declared](value) for value in before[feature.name]]
                assert after[feature.index] == codes, feature.name
                seen[feature.declared].update(codes)
            elif feature.name != names.NEGATIVE_SET:
                assert after[feature.name] == before[feature.name]
    assert all(len(codes) > 2 for codes in seen.values()), seen
    assert {0, 1} < seen["brand"], "none of them is unknown, or there is none that is not there"


def test_what_is_learnt_does_not_depend_on_how_the_split_is_cut(transformed: Transformed) -> None:
    def found(parts: list[Rows]) -> Any:
        wanted = [row.name for rows in counted().values() for row in rows]
        several = [count(parse(tf.constant([*map(serialized, rows)], tf.string), wanted)) for rows in parts]
        learnt = learn(merged([merged(several[:1]), merged(several[1:]), {}]))
        return {name: ids.tolist() for name, ids in learnt.vocabularies.items()}, learnt.quantiles

    train = transformed.train
    assert found([train, train[:0]]) == found([train[60:], train[:10], train[10:60]])


@pytest.fixture(scope="module")
def served(transformed: Transformed, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of random weights as it is exported, and in memory."""
    keras.utils.set_random_seed(3)
    # As many indices as the vocabularies have.
    model = build_model(ModelConfig(name="din", embedding_dim=4, hidden_units=(6,), activation="dice"), 26, 8, HISTORY)
    for weight in model.trainable_variables:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    folder, catalogue = (str(tmp_path_factory.mktemp(name)) for name in ("export", "counts"))
    for field, counts in SERVED.items():
        EventCounts(np.array(list(counts)), np.array(list(counts.values()))).write(catalogue, field)
    export(model, tft.TFTransformOutput(str(transformed.graph)), HISTORY, folder, catalogue)
    # Whatever is served lies in the export.
    shutil.rmtree(catalogue)
    return model, tf.saved_model.load(folder).signatures, folder


SERVED: dict[CountedField, dict[int, list[int]]] = {
    "item": {item: [item, 100 * item] for item in range(1, 20)},
    "category": {category: [7 + category] for category in (3, 4, 900)},
}
"""What is looked up: id -> counts; of other ids 0."""


def _as_served(row: dict[str, Any]) -> dict[str, Any]:
    """With the counts of the end of the log."""
    changed = dict(row)
    for field, counts in SERVED.items():
        of_field = [f"candidate_{count.name}" for count in COUNTS.counts if count.field == field]
        found = [counts.get(id_, [0] * len(of_field)) for id_ in row[f"candidate_{field}_id"]]
        changed |= zip(of_field, map(list, zip(*found, strict=True)), strict=True)
    return changed


def _request(rows: Rows, pad: int = 0) -> dict[str, tf.Tensor]:
    """As a client pads it: numbers with NaN or 0, all else with 0."""
    request = {}
    for name in names.REQUEST_FEATURES:
        kind = np.float32 if names.FEATURES[name].dtype == "float" else np.int64
        width = 1 if name in names.CONTEXT_FEATURES else max(len(row[name]) for row in rows) + pad
        values = np.zeros((len(rows), width), kind)
        for place, row in enumerate(rows):
            values[place, : len(row[name])] = row[name]
        request[name] = tf.constant(values)
    return request


def test_the_export_scores_raw_values_as_the_model_scores_codes(transformed: Transformed, served: Any) -> None:
    model, signatures, _ = served
    files = sorted(map(str, (transformed.examples / "Split-eval").iterdir()))
    count = len(transformed.eval)
    ((inputs, _),) = read_batches(files, batch_size=count, history_length=HISTORY)
    expected = model(inputs, training=False).logits.numpy()
    examples = tf.constant([*map(serialized, transformed.eval)])
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(signatures["as_logged"](examples=examples)["logit"], expected, atol=1e-5)
    # As if each stood first.
    by_position = expected
    inputs["candidate_position_code"] = tf.where(inputs["candidate_position_code"] > 0, np.int64(2), 0)
    expected = model(inputs, training=False).logits.numpy()
    assert np.abs(by_position - expected).max() > 1e-3
    np.testing.assert_allclose(signatures["serving_default"](examples=examples)["logit"], expected, atol=1e-5)
    # What a request cannot carry is looked up; so it is for an example that does not have it.
    as_stored, of_table = expected, tf.constant([*map(serialized, map(_as_served, transformed.eval))])
    expected = signatures["serving_default"](examples=of_table)["logit"].numpy()
    assert np.abs(as_stored - expected).max() > 1e-3
    without = [{key: row[key] for key in names.REQUEST_FEATURES} for row in transformed.eval]
    mixed = signatures["serving_default"](
        examples=tf.constant([*map(serialized, [*transformed.eval[:20], *without[20:]])])
    )
    np.testing.assert_allclose(mixed["logit"][:20], as_stored[:20], atol=1e-5)
    np.testing.assert_allclose(mixed["logit"][20:], expected[20:], atol=1e-5)
    for pad in (0, 3):
        logits = signatures["rank"](**_request(transformed.eval, pad))["logit"].numpy()
        np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-5)
    codes = signatures["transform_features"](examples=examples)
    for name in names.MODEL_INPUTS:
        np.testing.assert_array_equal(codes[name], inputs[name], err_msg=name)


@pytest.mark.parametrize("name", ["candidate_price", "history_strength", "candidate_brand", "device", "hour"])
def test_each_declared_feature_has_a_say(transformed: Transformed, served: Any, name: str) -> None:
    rows = [row for row in transformed.eval if row["history_item_id"]]
    _, signatures, _ = served
    before = signatures["rank"](**_request(rows))["logit"].numpy()
    after = signatures["rank"](**_request([{**row, name: [40] * len(row[name])} for row in rows]))["logit"].numpy()
    assert np.abs(before - after).max() > 1e-3


def test_counts_of_some_candidates_alone_are_refused(transformed: Transformed, served: Any) -> None:
    _, signatures, _ = served
    row = {**transformed.eval[0], "candidate_item_events_1h": [1, 2]}
    with pytest.raises(tf.errors.InvalidArgumentError, match="candidate_item_events_1h must have as many values as"):
        signatures["serving_default"](examples=tf.constant([serialized(row)]))


def test_a_position_for_each_candidate_is_wanted_where_it_counts(transformed: Transformed, served: Any) -> None:
    _, signatures, _ = served
    row = transformed.eval[0]
    other = {**row, **{name: row[name][:2] for name in row if name.startswith("candidate_")}}
    swapped = [{**row, "candidate_position": [1, 2]}, {**other, "candidate_position": [1, 2, 3]}]
    with pytest.raises(tf.errors.InvalidArgumentError, match="candidate_position and candidate_item_id must have the"):
        signatures["as_logged"](examples=tf.constant([*map(serialized, swapped)]))


def test_of_a_log_without_a_counted_event_each_count_is_zero(transformed: Transformed, tmp_path: Path) -> None:
    nothing = np.empty(0, np.int64)
    EventCounts(nothing, np.empty((0, 2), np.int64)).write(str(tmp_path), "item")
    EventCounts(np.array([3]), np.zeros((1, 1), np.int64)).write(str(tmp_path), "category")
    candidates = {name: tf.constant([3, 9], tf.int64) for name in ("candidate_item_id", "candidate_category_id")}
    found = ServedCounts(str(tmp_path))(candidates)
    assert {name: counts.numpy().tolist() for name, counts in found.items()} == {
        f"candidate_{count.name}": [0, 0] for count in COUNTS.counts
    }


def test_what_is_left_out_is_the_default(transformed: Transformed, served: Any) -> None:
    _, signatures, _ = served
    rows = [*map(_as_served, transformed.eval[:8])]
    by_hand = [
        {
            **row,
            "candidate_price": [2.5] * 3,
            "history_price": [2.5] * len(row["history_price"]),
            "candidate_brand": [0] * 3,
            "device": [0],
            "hour": [-1],
        }
        for row in rows
    ]
    expected = signatures["rank"](**_request(by_hand))["logit"].numpy()
    changed = ("candidate_price", "history_price", "candidate_brand", "device", "hour")
    left_out = [serialized({name: value for name, value in row.items() if name not in changed}) for row in rows]
    found = signatures["serving_default"](examples=tf.constant(left_out))["logit"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    missing = _request(by_hand)
    for name in ("candidate_price", "history_price", "hour"):
        missing[name] = tf.fill(missing[name].shape, np.float32(np.nan))
    np.testing.assert_allclose(signatures["rank"](**missing)["logit"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hour": np.zeros((2, 2), np.float32)}, r"hour has the shape \[2 2\], expected \[2 1\]: .* and 1 column"),
        ({"candidate_price": np.zeros((2, 2), np.float32)}, r"candidate_price has the shape \[2 2\], expected \[2 3\]"),
        ({"history_verb": np.full((2, HISTORY), 5)}, "history_verb at row 0, position 2 is 5, expected 0, because"),
    ],
)
def test_a_request_of_another_shape_is_refused_by_name(
    transformed: Transformed, served: Any, change: dict[str, Any], message: str
) -> None:
    _, signatures, _ = served
    short = [row for row in transformed.eval if len(row["history_item_id"]) in (2, HISTORY)]
    rows = [
        min(short, key=lambda row: len(row["history_item_id"])),
        max(short, key=lambda r: len(r["history_item_id"])),
    ]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["rank"](**_request(rows) | {name: tf.constant(value) for name, value in change.items()})


def test_every_way_of_asking_gives_the_same_score(transformed: Transformed, served: Any) -> None:
    model, _, folder = served
    settings = SkewCheckSettings(
        plugins=(),
        features=tuple(names.declared_features()),
        model=model.config,
        history_length=HISTORY,
        precision="float32",
        seed=1,
    )
    raw, after = (sorted(map(str, (path / "Split-eval").iterdir())) for path in (transformed.raw, transformed.examples))
    found = check(
        settings,
        raw_files=raw,
        transformed_files=after,
        transform_uri=str(transformed.graph),
        model_folder=folder,
    )
    assert found.impressions == len(transformed.eval)
    assert found.model_to_signature is not None


def test_a_client_learns_of_the_model_what_it_may_send(transformed: Transformed, served: Any, tmp_path: Path) -> None:
    _, signatures, folder = served
    (tmp_path / "ctr").mkdir()
    (tmp_path / "ctr/1").symlink_to(folder)
    row = next(row for row in transformed.eval if len(row["history_item_id"]) > 1)
    expected = signatures["rank"](**_request([row]))["logit"].numpy()[0]
    there = names.declared_features()
    log = RequestLogSettings(tmp_path / "log", rate=1)
    with ModelServer(tmp_path / "ctr", "ctr", poll_seconds=0.05, access=Access(request_log=log)) as server:
        server.wait_until_ready(60)
        with RankingClient(f"127.0.0.1:{server.port}", "ctr", 30) as client:
            names.declare_features([])
            client.declare_features()
            assert names.declared_features() == there
            impression = Impression.from_features(row)
            ranking = client.rank(impression)
            also = examples_request([impression], "ctr")
            for example in also.inputs["examples"].string_val[:1]:
                # Nobody's name comes into the log.
                named = tf.train.Example.FromString(example)
                named.features.feature["user_id"].int64_list.value.append(7)
                also.inputs["examples"].string_val[0] = named.SerializeToString()
            client._predict(also)
            explanation = explain(client, impression, 0)
    logits = {candidate.position: candidate.logit for candidate in ranking.candidates}
    np.testing.assert_allclose([logits[place] for place in range(3)], expected, atol=1e-4)
    assert explanation.logit == pytest.approx(expected[0], abs=1e-4)
    logged = [values_of(example) for example in read_log(tmp_path / "log")]
    alike = [each for each in logged if each["candidate_item_id"] == row["candidate_item_id"]]
    assert [each["device"] for each in alike] == [row["device"]] * 2
    assert all("user_id" not in each for each in logged)
    # Of several values those that are there close up.
    names_of_log = {name for name in names.REQUEST_FEATURES if "tags" not in name}
    assert any(
        {name: each[name] for name in names_of_log} == {name: row[name] for name in names_of_log} for each in logged
    )


def test_a_canary_is_asked_for_what_each_version_declares(
    transformed: Transformed, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, folder = served
    there = names.declared_features()
    rows = [*map(names.from_plain, there)]
    # Loading takes seconds.
    monkeypatch.setattr(shadow, "_loaded", functools.cache(shadow._loaded))
    names.declare_features([])
    shadow.declare_features_of([folder, folder])
    assert names.declared_features() == there
    monkeypatch.setattr(eval_impressions, "latest_output", lambda *_: str(transformed.raw))
    hashed = names.Encoding("hash", 3)
    gone = names.Feature("candidate_gone", "candidate", "gone", smallest=-9, declared="gone", encoding=hashed)
    try:
        # Of a version before, and in no example of the run.
        names.declare_features([*rows, gone])
        impressions = eval_impressions.eval_impressions("", "ctr", 5)
        found = shadow.compare((folder, folder), (1, 2), impressions, "the eval split")
        assert (found.requests, found.kendall_tau) == (5, 1.0)
        assert found.mean_difference == pytest.approx(0, abs=1e-6)
        other = [dataclasses.replace(row, dtype="float") if row.name == "candidate_brand" else row for row in rows]
        for changed, says in (
            (other, "version 1 wants candidate_brand as int64, and the other one as float32"),
            (rows[1:], f"version 1 wants {rows[0].name}, a feature of a plugin: name its module with --plugin"),
        ):
            names.declare_features(changed)
            with pytest.raises(DataError, match=says):
                shadow.compare((folder, folder), (1, 2), impressions, "the eval split")
    finally:
        names.declare_features(rows)


def test_warmup_asks_with_them(transformed: Transformed, served: Any) -> None:
    _, signatures, _ = served
    files = sorted(map(str, (transformed.raw / "Split-train").iterdir()))
    ranked = [each for each in warmup_requests(files, HISTORY) if each.model_spec.signature_name == "rank"]
    for request in ranked:
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        assert np.isfinite(signatures["rank"](**inputs)["logit"]).all()
    assert {request.inputs["candidate_price"].tensor_shape.dim[1].size for request in ranked} == {1, 10, 100}
