"""The pushed version itself: every score is finite, padding changes none, and the warmup requests are answered."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from trained_run import Trained

from ctr.models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    FEATURES,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    INDEX_OF,
    MODEL_INPUTS,
    PADDING_INDEX,
    REQUEST_FEATURES,
)
from ctr.serving.batching import Batcher
from ctr.serving.limits import Batching
from ctr.serving.model import RequestError, Run, ServedModel
from ctr.serving.server import ModelServer
from ctr.serving.signatures import DEFAULT_SIGNATURE, EXAMPLES, LOGIT, PROBABILITY, RANK_SIGNATURE
from ctr.serving.warmup import read_warmup

pytestmark = pytest.mark.slow

Tensors = Mapping[str, Any]
MOST = 2**63 - 1


@pytest.fixture(scope="module")
def served(trained: Trained) -> ServedModel:
    model = ServedModel(trained.version_dir, 1)
    assert model.warm_up() > 0
    return model


def rank_request(tensors: Tensors) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = RANK_SIGNATURE
    for name, values in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(values, np.int64)))
    return request


def examples_request(tensors: Tensors, signature: str = DEFAULT_SIGNATURE) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    serialized = []
    for row in range(len(tensors[HISTORY_ITEM_ID])):
        example = tf.train.Example()
        for name, values in tensors.items():
            example.features.feature[name].int64_list.value.extend(np.asarray(values[row], np.int64).tolist())
        serialized.append(example.SerializeToString())
    request.inputs[EXAMPLES].CopyFrom(tf.make_tensor_proto(serialized))
    return request


def answer(served: ServedModel, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(proto) for name, proto in served.predict(request).outputs.items()}


WAYS = [rank_request, examples_request]

_LARGE = [2**31, MOST - 1, MOST]
_POSSIBLE = {
    row.name: st.integers(row.smallest, min(row.largest, 2000))
    | st.sampled_from([value for value in _LARGE if value <= row.largest] or [row.smallest])
    for row in map(FEATURES.__getitem__, REQUEST_FEATURES)
}


@st.composite
def impressions(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """One impression of values that may be, [1, T] and [1, N]."""
    tensors = {}
    for group, fewest in ((HISTORY_FEATURES, 0), (CANDIDATE_FEATURES, 1)):
        width = draw(st.integers(fewest, 5))
        for name in group:
            values = draw(st.lists(_POSSIBLE[name], min_size=width, max_size=width))
            tensors[name] = np.array([values], np.int64).reshape(1, width)
    return tensors


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """The same, with some values that are any int64."""
    tensors = draw(impressions())
    for name in draw(st.sets(st.sampled_from(REQUEST_FEATURES), max_size=2)):
        if tensors[name].size:
            at = draw(st.integers(0, tensors[name].size - 1))
            tensors[name][0, at] = draw(st.sampled_from([0, -1, 5, -MOST - 1]) | st.integers(-MOST - 1, MOST))
    return tensors


@settings(max_examples=60, deadline=None)
@given(spoiled(), st.sampled_from(WAYS))
def test_a_request_gets_finite_scores_or_invalid_argument(served: ServedModel, tensors: Tensors, way: Any) -> None:
    refused = None
    try:
        scores = answer(served, way(tensors))
    except RequestError as error:
        refused = error
    if refused:
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.message.startswith("assertion failed: [")
        assert any(name in refused.message for name in REQUEST_FEATURES)
        return
    for name in (PROBABILITY, LOGIT):
        assert scores[name].shape == tensors[CANDIDATE_ITEM_ID].shape
        assert np.isfinite(scores[name]).all()
    assert ((scores[PROBABILITY] >= 0) & (scores[PROBABILITY] <= 1)).all()
    assert (scores[PROBABILITY][tensors[CANDIDATE_ITEM_ID] == 0] == 0).all()


@settings(max_examples=40, deadline=None)
@given(impressions(), st.data(), st.sampled_from(WAYS))
def test_padding_changes_no_score_wherever_it_stands(
    served: ServedModel, tensors: Tensors, data: st.DataObject, way: Any
) -> None:
    def places(group: list[str]) -> list[int]:
        return data.draw(st.lists(st.integers(0, tensors[group[0]].shape[1]), max_size=4).map(sorted))

    before_events, before_candidates = places(HISTORY_FEATURES), places(CANDIDATE_FEATURES)
    padded = {
        name: np.insert(values, before_events if name in HISTORY_FEATURES else before_candidates, 0, axis=1)
        for name, values in tensors.items()
    }
    alone, among_padding = answer(served, way(tensors)), answer(served, way(padded))
    real = padded[CANDIDATE_ITEM_ID] != 0
    for name, filler in ((PROBABILITY, 0.0), (LOGIT, np.finfo(np.float32).min)):
        np.testing.assert_allclose(among_padding[name][real], alone[name][0], atol=1e-6)
        assert (among_padding[name][~real] == filler).all()


def test_padding_between_candidates_is_padding_to_the_model(served: ServedModel) -> None:
    request = examples_request({name: [[7, 0, 9]] for name in REQUEST_FEATURES} | _HISTORY, "transform_features")
    inputs = answer(served, request)
    assert set(inputs) == set(MODEL_INPUTS)
    for name in CANDIDATE_FEATURES:
        assert inputs[name].tolist() == [[7, 0, 9]]
        index = inputs[INDEX_OF[name]]
        assert index[0, 1] == PADDING_INDEX
        assert (index[0, [0, 2]] > PADDING_INDEX).all()


_HISTORY = {
    "history_item_id": [[12, 15]],
    "history_category_id": [[3, 4]],
    "history_behavior": [[1, 2]],
    "history_age": [[3600, 60]],
}


@pytest.mark.parametrize("rows", [0, 3])
def test_a_batch_has_as_many_answers_as_rows(served: ServedModel, rows: int) -> None:
    tensors = {name: np.ones((rows, 2), np.int64) for name in REQUEST_FEATURES}
    assert len(answer(served, rank_request(tensors))[PROBABILITY]) == rows


def test_requests_that_run_together_get_what_they_would_alone(trained: Trained) -> None:
    runs: dict[str, list[int]] = defaultdict(list)

    def batched(run: Run) -> Run:
        def counted(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
            runs[name].append(len(next(iter(inputs.values()))))
            return run(name, inputs)

        return Batcher(counted, Batching(size=16, microseconds=50_000))

    model = ServedModel(trained.version_dir, 1, batched)
    requests = []
    for index, warmup in enumerate(list(read_warmup(trained.version_dir))[:9]):
        for name in REQUEST_FEATURES:
            warmup.inputs[name].tensor_shape.dim[0].size *= 1 + index % 2
            warmup.inputs[name].tensor_content *= 1 + index % 2
        as_examples = {name: tf.make_ndarray(proto).tolist() for name, proto in warmup.inputs.items()}
        requests += [warmup] * 3 + [examples_request(as_examples)] * 3
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(model.predict, requests))
    assert {name: max(rows) > 2 for name, rows in runs.items()} == {RANK_SIGNATURE: True, DEFAULT_SIGNATURE: True}
    alone = ServedModel(trained.version_dir, 1)
    for request, answered in zip(requests, together, strict=True):
        expected = answer(alone, request)
        assert answered.outputs.keys() == expected.keys()
        for name, proto in answered.outputs.items():
            np.testing.assert_allclose(tf.make_ndarray(proto), expected[name], rtol=1e-6, atol=1e-6)


def test_lists_of_different_lengths_are_refused_by_name(served: ServedModel) -> None:
    request = examples_request({name: [[1, 2]] for name in REQUEST_FEATURES} | {"history_age": [[1]]})
    with pytest.raises(RequestError, match="history_age and history_item_id") as raised:
        served.predict(request)
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_the_warmup_requests_are_real_and_of_every_size(trained: Trained) -> None:
    requests = list(read_warmup(trained.version_dir))
    assert requests == list(read_warmup(trained.artifact("Trainer", "model") / "Format-Serving"))
    ranked = [
        {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        for request in requests
        if request.model_spec.signature_name == RANK_SIGNATURE
    ]
    longest = trained.config.ingest.history_length
    sizes = [(tensors[HISTORY_ITEM_ID].shape[1], tensors[CANDIDATE_ITEM_ID].shape[1]) for tensors in ranked]
    assert sizes == [(events, candidates) for events in (0, 1, longest) for candidates in (1, 10, 100)]
    assert sum(request.model_spec.signature_name == DEFAULT_SIGNATURE for request in requests) == len(requests) - 9

    rows = [line.split(b",") for line in Path(trained.config.data).read_bytes().splitlines()]
    logged = {row[1] for row in rows if len(row) == 5}
    items = np.concatenate([ranked[-1][name].ravel() for name in (HISTORY_ITEM_ID, CANDIDATE_ITEM_ID)])
    assert {str(item).encode() for item in items} <= logged
    assert sum(file.stat().st_size for file in (trained.version_dir / "assets.extra").iterdir()) < 2**16


def test_the_server_answers_every_warmup_request_before_it_serves(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctr.serving")
    shutil.copytree(trained.version_dir, tmp_path / "7")
    count = len(list(read_warmup(trained.version_dir)))
    with ModelServer(tmp_path, "ctr", poll_seconds=0.05) as server:
        server.wait_until_ready(120)
        assert f"serving version 7 ({count} warmup requests)" in caplog.messages
        refused = rank_request(_HISTORY | {"history_age": [[3600, -60]]} | {n: [[7, 9]] for n in CANDIDATE_FEATURES})
        refused.model_spec.name = "ctr"
        with (
            grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)]) as channel,
            pytest.raises(grpc.RpcError, match="history_age at row 0, position 1 is -60") as raised,
        ):
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(refused)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_after_its_warmup_a_version_answers_the_first_request_at_once(trained: Trained) -> None:
    *_, request = (r for r in read_warmup(trained.version_dir) if r.model_spec.signature_name == RANK_SIGNATURE)

    def first_request(warm_up: bool) -> float:
        model = ServedModel(trained.version_dir, 1)
        if warm_up:
            model.warm_up()
        start = time.perf_counter()
        model.predict(request)
        return time.perf_counter() - start

    # Alone on a machine it is two hundred times.
    assert first_request(warm_up=True) < first_request(warm_up=False) / 5


def test_core_tensorflow_loads_and_answers_it_by_the_names_of_its_signatures(trained: Trained, tmp_path: Path) -> None:
    """What TF Serving's binary does with it, in a process of libtensorflow alone: no Python could register an op."""
    saved_model = saved_model_pb2.SavedModel.FromString((trained.version_dir / "saved_model.pb").read_bytes())
    [graph] = [each for each in saved_model.meta_graphs if "serve" in each.meta_info_def.tags]
    requests = list(read_warmup(trained.version_dir))
    asked = []
    for request in requests:
        signature = graph.signature_def[request.model_spec.signature_name]
        values = {alias: tf.make_ndarray(proto) for alias, proto in request.inputs.items()}
        asked.append(
            {
                "feeds": {
                    signature.inputs[alias].name: [each.decode("latin-1") for each in array]
                    if array.dtype == object
                    else array.tolist()
                    for alias, array in values.items()
                },
                "fetches": [signature.outputs[alias].name for alias in (PROBABILITY, LOGIT)],
            }
        )
    (tmp_path / "requests.json").write_text(json.dumps(asked), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-I", str(Path(__file__).with_name("c_api.py")), str(Path(tf.__file__).parent)),
            *(str(trained.version_dir), str(tmp_path / "requests.json"), str(tmp_path / "answers.json")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))

    known = {op.name for op in op_def_pb2.OpList.FromString(found["ops"].encode("latin-1")).op}
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]
    assert {node.op for node in nodes} - {function.signature.name for function in functions} <= known
    assert len(known) > 1000

    loaded = tf.saved_model.load(str(trained.version_dir))
    for request, values in zip(requests, found["answers"], strict=True):
        name = request.model_spec.signature_name
        inputs = {alias: tf.constant(tf.make_ndarray(proto)) for alias, proto in request.inputs.items()}
        expected = loaded.signatures[name](**inputs)
        for alias in (PROBABILITY, LOGIT):
            found_values = values[graph.signature_def[name].outputs[alias].name]
            np.testing.assert_allclose(found_values, expected[alias], rtol=1e-5, atol=1e-6)
