from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pages import ROOT
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from ctr.models.impression import REQUEST_FEATURES
from ctr.serving import signatures
from ctr.serving.impressions import Impression
from ctr.serving.requests import rank_request
from ctr.serving.warmup import MAX_WARMUP_REQUESTS, WARMUP_FILE, read_warmup, write_warmup


def impression(history: int, candidates: int) -> Impression:
    return Impression.from_features(
        {
            "history_item_id": range(11, 11 + history),
            "history_category_id": range(21, 21 + history),
            "history_behavior": [1] * history,
            "history_age": range(40, 40 - history, -1),
            "candidate_item_id": range(51, 51 + candidates),
            "candidate_category_id": range(61, 61 + candidates),
        }
    )


def test_batches_are_padded_on_the_right() -> None:
    request = rank_request([impression(1, 3), impression(3, 1)], "ctr")
    assert (request.model_spec.name, request.model_spec.signature_name) == ("ctr", "rank")
    tensors = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
    assert set(tensors) == set(REQUEST_FEATURES)
    assert all(tensor.dtype == np.int64 for tensor in tensors.values())
    np.testing.assert_array_equal(tensors["history_item_id"], [[11, 0, 0], [11, 12, 13]])
    np.testing.assert_array_equal(tensors["history_category_id"], [[21, 0, 0], [21, 22, 23]])
    np.testing.assert_array_equal(tensors["history_behavior"], [[1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(tensors["history_age"], [[40, 0, 0], [40, 39, 38]])
    np.testing.assert_array_equal(tensors["candidate_item_id"], [[51, 52, 53], [51, 0, 0]])
    np.testing.assert_array_equal(tensors["candidate_category_id"], [[61, 62, 63], [61, 0, 0]])


def test_the_page_lists_the_signatures_and_their_names() -> None:
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    table = page.split("| signature | inputs | outputs |")[1].split("\n\n")[0]
    rows = [re.findall(r"`([a-z_]+)`", row) for row in table.splitlines() if "`" in row]
    assert rows == [
        [signatures.RANK_SIGNATURE, *REQUEST_FEATURES, signatures.PROBABILITY, signatures.LOGIT],
        [signatures.DEFAULT_SIGNATURE, signatures.EXAMPLES],
        [signatures.TRANSFORM_FEATURES, signatures.EXAMPLES],
        [signatures.DECLARED, signatures.EXAMPLES, signatures.RANK_SIGNATURE],
        [signatures.AS_LOGGED_SIGNATURE, signatures.EXAMPLES, signatures.DEFAULT_SIGNATURE],
    ]


def test_no_history_at_all_gives_width_zero() -> None:
    request = rank_request([impression(0, 2), impression(0, 1)], "ctr")
    assert tf.make_ndarray(request.inputs["history_age"]).shape == (2, 0)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        rank_request([], "ctr")


def test_warmup_round_trip(tmp_path: Path) -> None:
    requests = [rank_request([impression(length, 2)], "ctr") for length in (0, 5)]
    write_warmup(tmp_path, requests)
    assert (tmp_path / "assets.extra" / "tf_serving_warmup_requests").is_file()
    sent = [predict_pb2.PredictRequest.FromString(request.SerializeToString()) for request in requests]
    assert list(read_warmup(tmp_path)) == sent


def test_no_warmup_file_means_no_requests(tmp_path: Path) -> None:
    assert list(read_warmup(tmp_path)) == []


@pytest.mark.parametrize("count", [0, MAX_WARMUP_REQUESTS + 1])
def test_too_few_or_too_many_requests_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 1000 are possible, got {count}"):
        write_warmup(tmp_path, [rank_request([impression(0, 1)], "ctr")] * count)
    assert not (tmp_path / WARMUP_FILE).exists()


def test_records_that_are_not_predict_are_named(tmp_path: Path) -> None:
    write_warmup(tmp_path, [rank_request([impression(0, 1)], "ctr")])
    path = str(tmp_path / WARMUP_FILE)
    first = next(tf.data.TFRecordDataset(path).as_numpy_iterator())
    classify = prediction_log_pb2.ClassifyLog(request=classification_pb2.ClassificationRequest())
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(first)
        writer.write(prediction_log_pb2.PredictionLog(classify_log=classify).SerializeToString())
    with pytest.raises(ValueError, match="record 2 holds classify_log"):
        list(read_warmup(tmp_path))
