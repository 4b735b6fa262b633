"""REST and Prometheus' page, over real HTTP on loopback."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ctr.serving import rest
from ctr.serving.impressions import Impression
from ctr.serving.requests import rank_request
from ctr.serving.server import Access, ModelServer

Make = Callable[[list[int], list[int]], Impression]
LIMIT = 256 * 1024
PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, saved_models: dict[float, Path]) -> Iterator[ModelServer]:
    base = tmp_path_factory.mktemp("rest")
    shutil.copytree(saved_models[0.0], base / "3")
    access = Access(rest_port=0, log=True)
    with ModelServer(base, "ctr", poll_seconds=0.05, threads=2, max_message_bytes=LIMIT, access=access) as server:
        server.wait_until_ready(60)
        yield server


@pytest.fixture
def ask(server: ModelServer) -> Callable[..., tuple[int, Any]]:
    """(verb, path, body) -> status, and the document or the text."""

    def ask(verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        assert server.rest_port is not None
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
        connection.request(verb, path, body if isinstance(body, bytes | None) else json.dumps(body), headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if is_json else text

    return ask


def test_a_row_and_a_column_get_what_grpc_gets(ask: Any, impression: Make, server: ModelServer) -> None:
    impressions = [impression([3, 4, 3], [3, 4, 5]), impression([4, 4, 4], [3, 4, 5])]
    names = impressions[0].features()
    columns = {name: [each.features()[name] for each in impressions] for name in names}
    status, answer = ask("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "inputs": columns})
    assert status == 200
    assert answer["outputs"]["logit"] == [[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]
    assert answer["outputs"]["probability"][0] == [0.8807971, 0.7310586, 0.5]
    # The model counts its calls: an output without rows.
    rows = {"signature_name": "rank", "instances": [each.features() for each in impressions]}
    status, answer = ask("POST", "/v1/models/ctr:predict", rows)
    assert (status, answer["error"].partition(",")[0]) == (400, "the outputs have inconsistent batch sizes")


def test_examples_are_sent_as_base64(ask: Any, impression: Make, serialized: Callable[[Impression], bytes]) -> None:
    examples = [{"b64": base64.b64encode(serialized(impression(history, [3]))).decode()} for history in ([3], [4])]
    for sent in (examples, [{"examples": example} for example in examples]):
        status, answer = ask("POST", "/v1/models/ctr/versions/3:predict", {"instances": sent})
        assert (status, answer) == (
            200,
            {"predictions": [{"logit": [1.0], "probability": [0.7310586]}, {"logit": [0.0], "probability": [0.5]}]},
        )
    single = {"signature_name": "numbers", "instances": examples}
    assert ask("POST", "/v1/models/ctr:predict", single) == (200, {"predictions": [[1.0], [0.0]]})
    labels = {"signature_name": "classes", "inputs": examples[:1]}
    assert ask("POST", "/v1/models/ctr:predict", labels)[1]["outputs"]["classes"] == [["chosen", "not"]]


def test_examples_are_classified_and_regressed(ask: Any, impression: Make) -> None:
    first, second = (impression(history, [3]).features() for history in ([3, 3], [4, 3]))
    classes = {"signature_name": "classes", "examples": [first, second]}
    assert ask("POST", "/v1/models/ctr:classify", classes) == (
        200,
        {"results": [[["chosen", 2.0], ["not", -2.0]], [["chosen", 1.0], ["not", -1.0]]]},
    )
    # What an example has itself goes before what the context says; a value may stand without its list.
    own = {"history_category_id": [4, 4], "candidate_item_id": 500, "candidate_category_id": 3}
    numbers = {"signature_name": "numbers", "context": first, "examples": [{}, own]}
    assert ask("POST", "/v1/models/ctr/versions/3:regress", numbers) == (200, {"results": [2.0, 0.0]})
    numbers["examples"] = [{"history_category_id": ["3", "3"]}]
    status, answer = ask("POST", "/v1/models/ctr:regress", numbers)
    assert (status, "Data types don't match" in answer["error"]) == (400, True)


def test_status_and_metadata(ask: Any) -> None:
    available = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/ctr", "/v1/models/ctr/versions/3"):
        assert ask("GET", path) == (200, {"model_version_status": [available]})
    status, answer = ask("GET", "/v1/models/ctr/metadata")
    assert (status, answer["model_spec"]) == (200, {"name": "ctr", "version": "3"})
    rank = answer["metadata"]["signature_def"]["signature_def"]["rank"]
    assert rank["inputs"]["history_age"]["dtype"] == "DT_INT64"


GOOD = {name: [[1]] for name in ("history_item_id", "history_category_id", "history_behavior", "history_age")} | {
    name: [[1]] for name in ("candidate_item_id", "candidate_category_id")
}


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "says"),
    [
        ("GET", "/v1/models/cvr", None, 404, "Could not find any versions of model cvr"),
        ("GET", "/v1/models/ctr/versions/9", None, 404, "version 9 of model ctr"),
        ("GET", "/v1/models/ctr/versions/9999999999999999999", None, 404, "version 9223372036854775807"),
        ("GET", "/v1/models/ctr/labels/best", None, 400, "Unrecognized servable version label: best"),
        ("GET", "/v2/models/ctr", None, 400, "Malformed request: GET /v2/models/ctr: there are GET /v1/models/NAME"),
        ("GET", "/v1/models/ctr:predict", None, 400, "Malformed request"),
        ("POST", "/v1/models/ctr", {}, 400, "Malformed request"),
        ("POST", "/v1/models/cvr:predict", {"inputs": {}}, 404, r"Latest(cvr)"),
        ("POST", "/v1/models/ctr:predict", b"{", 400, "JSON Parse error"),
        ("POST", "/v1/models/ctr:predict", b"[" * 100_000, 400, "JSON Parse error"),
        ("POST", "/v1/models/ctr:predict", b"\xff", 400, "JSON Parse error"),
        ("POST", "/v1/models/ctr:predict", [], 400, "must be an object"),
        ("POST", "/v1/models/ctr:predict", {}, 400, "either 'instances' or 'inputs'"),
        ("POST", "/v1/models/ctr:predict", {"inputs": {}, "instances": []}, 400, "either 'instances' or 'inputs'"),
        ("POST", "/v1/models/ctr:predict", {"inputs": {}, "signature": "rank"}, 400, "unknown keys ['signature']"),
        ("POST", "/v1/models/ctr:predict", {"inputs": {}, "signature_name": 1}, 400, "must be a string"),
        ("POST", "/v1/models/ctr:predict", {"inputs": {}, "signature_name": "x"}, 400, '"x" not found'),
        ("POST", "/v1/models/ctr:predict", {"instances": []}, 400, "at least one instance"),
        ("POST", "/v1/models/ctr:predict", {"instances": [1]}, 400, "'examples': every value must be a string"),
        ("POST", "/v1/models/ctr:predict", {"instances": [{"b64": "?"}]}, 400, "Unable to base64 decode"),
        ("POST", "/v1/models/ctr:predict", {"instances": ["a", ["b"]]}, 400, "unequal lengths"),
        ("POST", "/v1/models/ctr:predict", {"instances": ["no example"]}, 400, "Could not parse example input"),
        ("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "instances": [{}]}, 400, "instances[0]"),
        ("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "inputs": [1]}, 400, "expected an object of"),
        ("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "inputs": {"user": 1}}, 400, "input 'user'"),
        ("GET", "/v1/models/ctr:classify", None, 400, "Malformed request"),
        ("POST", "/v1/models/cvr:classify", {"examples": [{}]}, 404, "Latest(cvr)"),
        ("POST", "/v1/models/ctr:classify", {"examples": [{}]}, 400, "No classification inputs found"),
        ("POST", "/v1/models/ctr:regress", b"{", 400, "JSON Parse error"),
        ("POST", "/v1/models/ctr:regress", {"instances": [{}]}, 400, "unknown keys ['instances']"),
        ("POST", "/v1/models/ctr:regress", {"signature_name": 3, "examples": [{}]}, 400, "must be a string"),
        ("POST", "/v1/models/ctr:regress", {"signature_name": "x", "examples": [{}]}, 400, "name: x"),
        ("POST", "/v1/models/ctr:regress", {"examples": []}, 400, "at least one example"),
        ("POST", "/v1/models/ctr:regress", {"examples": [1]}, 400, "examples[0]: must be an object of features"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{}], "context": []}, 400, "context: must be an object"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": [1, "b"]}]}, 400, "feature 'a': Unexpected element"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": [1, 1.5]}]}, 400, "feature 'a': Unexpected element"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": None}]}, 400, "feature 'a': a value must be"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": [[1]]}]}, 400, "feature 'a': a value must be"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": 2**63}]}, 400, "out of the range of int64"),
        ("POST", "/v1/models/ctr:regress", {"examples": [{"a": {"b64": "?"}}]}, 400, "Unable to base64 decode"),
    ],
)
def test_what_cannot_be_answered_says_why(ask: Any, verb: str, path: str, body: Any, status: int, says: str) -> None:
    found, answer = ask(verb, path, body)
    assert found == status
    assert says in answer["error"]


@pytest.mark.parametrize(
    ("age", "says"),
    [
        ([[1.5]], "every value must be of int64, found numbers with a point"),
        ([["1"]], "every value must be of int64, found strings"),
        ([[True]], "every value must be of int64, found true or false"),
        ([[None]], "every value must be of int64, found others"),
        ([[2**63]], "every value must be of int64, found integers beyond int64"),
        ([[1], [1, 2]], "unequal lengths"),
        ([1], '"history_age": expects the shape (None, None) but (1,) is provided'),
        ([[1, 2]], "history features differ in length"),
    ],
)
def test_values_of_another_kind_are_named(ask: Any, age: Any, says: str) -> None:
    body = {"signature_name": "rank", "inputs": {**GOOD, "history_age": age}}
    status, answer = ask("POST", "/v1/models/ctr:predict", body)
    assert (status, says in answer["error"]) == (400, True), answer
    assert ask("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "inputs": GOOD})[0] == 200


def said(server: ModelServer, *parts: bytes) -> bytes:
    """What a caller gets who sends these bytes and no more."""
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def test_a_body_is_limited_in_size_and_time(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    post = b"POST /v1/models/ctr:predict HTTP/1.1\r\n"
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=60) as connection:
        connection.sendall(post + b"Content-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
        assert b" 413 " in connection.recv(65536)
    assert b" 411 " in said(server, post + b"Transfer-Encoding: chunked\r\n\r\n")
    assert b" 411 " in said(server, post + b"Content-Length: -1\r\n\r\n")
    assert b" 501 " in said(server, b"PUT / HTTP/1.1\r\n\r\n")
    assert b" 414 " in said(server, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
    monkeypatch.setattr(rest, "READ_SECONDS", 0.2)
    assert b" 408 " in said(server, post + b"Content-Length: 3\r\n\r\n", b"{")
    assert b"Malformed request" in said(server, b"GET /v1/mod")


def test_connections_over_the_limit_are_refused_and_free_again(ask: Any, server: ModelServer) -> None:
    def connect(_: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=60)

    with ThreadPoolExecutor(8) as pool:
        idle = list(pool.map(connect, range(2 + rest.WAITING_CONNECTIONS)))
    try:
        assert b" 503 " in said(server)
    finally:
        for connection in idle:
            connection.close()
    for _ in range(100):
        try:
            status, _ = ask("GET", "/v1/models/ctr")
        except OSError:
            continue
        if status == 200:
            break
    assert status == 200


def test_the_end_waits_for_no_caller_that_says_nothing(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with ModelServer(tmp_path, "ctr", threads=1, access=Access(rest_port=0)) as server:
            address = ("127.0.0.1", server.rest_port or 0)
            for _ in range(3):
                stack.enter_context(socket.create_connection(address, timeout=60))
            asks = stack.enter_context(socket.create_connection(address, timeout=60))
            asks.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            time.sleep(0.6)
            start = time.monotonic()
        assert time.monotonic() - start < rest.READ_SECONDS / 2
        assert asks.recv(100).startswith(b"HTTP/1.1 200 ")


def numbers(text: str, name: str) -> dict[str, int]:
    return {labels: int(value) for labels, value in re.findall(rf"^:tensorflow:{name}{{(.*)}} (\d+)$", text, re.M)}


def test_prometheus_finds_tf_servings_names(ask: Any, server: ModelServer, impression: Make) -> None:
    before = ask("GET", "/metrics")[1]
    sent = predict_pb2.PredictRequest.FromString(rank_request([impression([3], [3])], "ctr").SerializeToString())
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(sent)
        sent.inputs.pop("history_age")
        for name in ("ctr", "stranger"):
            sent.model_spec.name = name
            with pytest.raises(grpc.RpcError):
                stub.Predict(sent)
    ask("POST", "/v1/models/ctr:predict", {"signature_name": "rank", "inputs": GOOD})
    status, text = ask("GET", "/monitoring/prometheus/metrics")
    assert status == 200

    def more(name: str) -> dict[str, int]:
        earlier = numbers(before, name)
        found = {labels: value - earlier.get(labels, 0) for labels, value in numbers(text, name).items()}
        return {labels: value for labels, value in found.items() if value}

    assert more("serving:request_count") == {
        'model_name="ctr",status="OK"': 2,
        'model_name="ctr",status="INVALID_ARGUMENT"': 1,
        'model_name="",status="NOT_FOUND"': 1,
    }
    of = 'model_name="ctr",API="Predict",entrypoint='
    assert more("serving:request_latency_count") == {f'{of}"GRPC"': 1, f'{of}"REST"': 1}
    buckets = [value for labels, value in numbers(text, "serving:request_latency_bucket").items() if "GRPC" in labels]
    assert len(buckets) == 34
    assert buckets == sorted(buckets)
    assert 'le="18"' in text
    [(path, loads)] = numbers(text, "cc:saved_model:load_attempt_count").items()
    assert (path.endswith('/3",status="success"'), loads) == (True, 1)


def test_the_access_log_has_a_line_for_each_answer(
    ask: Any, server: ModelServer, impression: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctr.serving.access")
    sent = predict_pb2.PredictRequest.FromString(rank_request([impression([3], [3])], "ctr").SerializeToString())
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(sent, metadata=[("x-request-id", "a-1")])
    ask("GET", "/v1/models/no%0Asuch", headers={"x-request-id": "not one\tof ours"})
    first, second = (re.sub(r"ms=\d+\.\d\d$", "ms=*", line) for line in caplog.messages)
    assert first == "GRPC Predict id=a-1 model=ctr version=3 status=OK ms=*"
    assert re.fullmatch(r"REST GetModelStatus id=\w{32} model=no\\nsuch version=- status=NOT_FOUND ms=\*", second)


def test_the_page_on_serving_asks_as_it_shows(ask: Any) -> None:
    [command] = re.findall(r"^curl -d '(.*)' \\\n +http://127\.0\.0\.1:8501(/\S+:predict)$", PAGE, re.M)
    status, answer = ask("POST", command[1], command[0].encode())
    assert (status, answer["outputs"]["logit"]) == (200, [[0.0, 1.0]])


def test_a_rest_port_that_is_taken_is_named(server: ModelServer, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.rest_port} for REST"),
        ModelServer(tmp_path, "ctr", access=Access(rest_port=server.rest_port)),
    ):
        pass
