from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from ctr.components.trainer.warmup import warmup_requests
from ctr.models.impression import LABEL, USER_ID
from ctr.serving.requests import examples_request, rank_request


def write_raw(path: Path, histories: list[int]) -> list[dict[str, Any]]:
    """Impressions with so many events and 1 + 1 candidates, as ingest writes them."""
    written = []
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for k, events in enumerate(histories, start=1):
            values = {
                "history_item_id": range(100, 100 + events),
                "history_category_id": [k] * events,
                "history_behavior": [1] * events,
                "history_age": range(events, 0, -1),
                "candidate_item_id": [1000 + k, 2000 + k],
                "candidate_category_id": [k, k],
                LABEL: [1, 0],
                USER_ID: [k],
            }
            example = tf.train.Example()
            for name, value in values.items():
                example.features.feature[name].int64_list.value.extend(value)
            writer.write(example.SerializeToString())
            written.append(values)
    return written


def tensors(request: predict_pb2.PredictRequest) -> dict[str, Any]:
    return {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}


def test_every_size_of_request_from_real_impressions(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.gz", [2, 5, 3])
    requests = warmup_requests([str(tmp_path / "a.gz")], history_length=4)
    ranked = [tensors(request) for request in requests if request.model_spec.signature_name == "rank"]
    shapes = [(r["history_item_id"].shape, r["candidate_item_id"].shape) for r in ranked]
    assert shapes == [((1, t), (1, n)) for t in (0, 1, 4) for n in (1, 10, 100)]
    assert ranked[-1]["history_item_id"].tolist() == [[101, 102, 103, 104]], "the latest events of the longest history"
    assert ranked[-1]["history_category_id"].tolist() == [[2] * 4]
    assert ranked[3]["history_age"].tolist() == [[1]]
    # Six distinct candidates there are.
    assert ranked[1]["candidate_item_id"].tolist() == [[1001, 2001, 1002, 2002, 1003, 2003, 1001, 2001, 1002, 2002]]

    serialized = [request for request in requests if request.model_spec.signature_name == "serving_default"]
    assert [len(tensors(request)["examples"]) for request in serialized] == [9, 1]
    example = tf.train.Example.FromString(tensors(serialized[1])["examples"][0])
    assert {n: list(f.int64_list.value) for n, f in example.features.feature.items()} == {
        name: value[0].tolist() for name, value in ranked[-1].items()
    }


def test_short_histories_are_taken_as_they_are(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.gz", [0, 0])
    requests = warmup_requests([str(tmp_path / "a.gz")], history_length=50)
    assert {tensors(r)["history_age"].shape for r in requests if r.model_spec.signature_name == "rank"} == {(1, 0)}


def test_a_split_without_impressions_is_an_error(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.gz", [])
    with pytest.raises(ValueError, match="the split is empty"):
        warmup_requests([str(tmp_path / "a.gz")], history_length=50)


@pytest.mark.parametrize("request_of", [rank_request, examples_request])
def test_a_request_needs_an_impression(request_of: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        request_of([], "ctr")
