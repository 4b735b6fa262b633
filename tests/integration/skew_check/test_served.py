"""Requests beside the train split: alike where they are, and by the feature that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from ctr.components.settings import ServedSkewConfig
from ctr.components.skew import ServedSkew
from ctr.components.skew_check.served import ServedSkewError, compare_with_log
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.models.errors import DataError
from ctr.models.impression import REQUEST_FEATURES
from ctr.models.model_config import ModelConfig
from ctr.serving.limits import RequestLogSettings
from ctr.serving.metrics import Metrics
from ctr.serving.request_log import RequestLog

LENGTH = 10
Rows = dict[str, list[int]]


def rows(seed: int, count: int, change: Callable[[Rows], object] | None = None) -> list[Rows]:
    """Impressions of 0 to 30 events, of ids of which a tenth is unknown."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        events, candidates = int(rng.integers(0, 31)), 4
        row = {
            "history_item_id": rng.integers(1, 1112, events).tolist(),
            "history_category_id": rng.integers(1, 56, events).tolist(),
            "history_behavior": rng.choice([1, 2, 3, 4], events, p=[0.9, 0.05, 0.03, 0.02]).tolist(),
            "history_age": sorted((rng.exponential(86_400, events).astype(int) + 1).tolist(), reverse=True),
            "candidate_item_id": rng.integers(1, 1112, candidates).tolist(),
            "candidate_category_id": rng.integers(1, 56, candidates).tolist(),
        }
        if change is not None:
            change(row)
        found.append(row)
    return found


def serialized(row: Rows) -> bytes:
    example = tf.train.Example()
    for name, values in row.items():
        example.features.feature[name].int64_list.value.extend(values)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Impressions of ingest in three shards, with the latest events of a history, and vocabularies."""
    folder = tmp_path_factory.mktemp("trained")
    for shard in range(3):
        with tf.io.TFRecordWriter(str(folder / f"{shard}.gz"), "GZIP") as writer:
            for row in rows(shard, 500):
                writer.write(serialized({name: values[-LENGTH:] for name, values in row.items()}))
    assets = folder / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    for name, known in (("item", 1000), ("category", 50)):
        (assets / f"{name}_vocabulary.txt").write_text("".join(f"{id_}\n" for id_ in range(known, 0, -1)))
    return {"train_files": [str(folder / f"{shard}.gz") for shard in range(3)], "transform_uri": str(folder)}


def found(folder: Path, served: list[Rows], trained: dict[str, Any], **bounds: Any) -> ServedSkew:
    log = RequestLog(RequestLogSettings(folder, rate=1.0), Metrics())
    log.start()
    for start in range(0, len(served), 50):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ctr"
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto([*map(serialized, served[start : start + 50])]))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.version.value = 5
        log.offer(request, answer)
    log.stop()
    settings = SkewCheckSettings(
        plugins=(),
        model=ModelConfig(),
        history_length=LENGTH,
        precision="float32",
        seed=1,
        served=ServedSkewConfig(request_log=str(folder / "ctr"), **bounds),
    )
    return compare_with_log(settings, **trained)


def test_the_same_requests_are_alike_whatever_more_they_send(tmp_path: Path, trained: dict[str, Any]) -> None:
    same = found(tmp_path, rows(9, 1500), trained)
    # What is older than the model looks at counts for nothing: served histories are three times as long.
    assert {each.feature: each.state for each in same.features} == dict.fromkeys(
        ["history_length", *REQUEST_FEATURES], "within"
    )
    assert all(each.value is not None and each.value < 0.06 for each in same.features)
    assert (same.requests, same.trained, same.versions) == (1500, 1500, {5: 1500})
    assert same.first is not None
    counts = {each.feature: (each.served, each.trained) for each in same.features}
    assert counts["candidate_item_id"] == (6000, 6000)
    assert counts["history_length"] == (1500, 1500)


def in_minutes(row: Rows) -> None:
    row["history_age"] = [1 + age // 60 for age in row["history_age"]]


def without_history(row: Rows) -> None:
    for name in [name for name in row if name.startswith("history")]:
        row[name] = row[name][:1]


def of_views(row: Rows) -> None:
    row["history_behavior"] = [2 if code == 1 else code for code in row["history_behavior"]]


def of_another_catalogue(row: Rows) -> None:
    row["candidate_item_id"] = [item + 700 for item in row["candidate_item_id"]]


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (in_minutes, "history_age"),
        (without_history, "history_length"),
        (of_views, "history_behavior"),
        (of_another_catalogue, "candidate_item_id"),
    ],
)
def test_what_is_sent_otherwise_is_found(
    tmp_path: Path, trained: dict[str, Any], change: Callable[[Rows], object], feature: str
) -> None:
    other = found(tmp_path, rows(9, 1000, change), trained)
    states = {each.feature: each.state for each in other.features}
    assert states.pop(feature) == "reported"
    # A shorter history is also one of younger events: those are the latest ones.
    assert {name for name, state in states.items() if state != "within"} <= {"history_age"}


def test_a_bound_stops_and_few_requests_decide_nothing(tmp_path: Path, trained: dict[str, Any]) -> None:
    served = rows(9, 1000, in_minutes)
    with pytest.raises(ServedSkewError, match=r"history_age: largest distance of .* is 0\.\d+; skew\.stop is 0\.3"):
        found(tmp_path / "stopped", served, trained, stop=0.3)
    few = found(tmp_path / "few", served[:900], trained, stop=0.3)
    assert {(each.state, each.value) for each in few.features} == {("not_compared", None)}
    newest = found(tmp_path / "newest", served, trained, min_requests=100, max_requests=200)
    assert newest.requests == 200
    assert 200 <= newest.trained <= 202
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path / "none", [], trained)
