"""What is no request, and who is no caller: a clear status for each, the next caller is answered, nothing leaks.

``CASES`` is the table in docs/serving.md. The server is asked over its ports alone, whatever processes it is made of.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from ctr.models.impression import REQUEST_FEATURES
from ctr.serving.impressions import Impression
from ctr.serving.messages import PREDICT
from ctr.serving.requests import examples_request, rank_request
from ctr.serving.server import Access, ModelServer

Make = Callable[[list[int], list[int]], Impression]
PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
LIMIT = 256 * 1024
GOES_ON = "the old version answers"
OTHERS = "others are answered"
IN_TIME = 5.0
"""Seconds that a good request may take beside bad ones."""
LARGEST = 64 * 2**20
"""Bytes by which memory may grow while all bad input comes again."""


class Asked:
    """A server's ports, and what comes from them."""

    def __init__(self, server: ModelServer, base: Path, saved_model: Path, impression: Make) -> None:
        self.base, self.saved_model, self.versions = base, saved_model, itertools.count(4)
        self.tried: list[Case] = []
        self.address, self.rest = ("127.0.0.1", server.port), ("127.0.0.1", server.rest_port or 0)
        self.good = rank_request([impression([3, 4], [3])], "ctr")
        self.examples = examples_request([impression([3, 4], [3])], "ctr").SerializeToString()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)])
        self._predict = self.channel.unary_unary(PREDICT)

    def request(self) -> Any:
        """A good one, to be spoiled."""
        return predict_pb2.PredictRequest.FromString(self.good.SerializeToString())

    def call(self, message: bytes, timeout: float = 60, method: str = PREDICT) -> grpc.Future:
        """What answers bytes."""
        call = self._predict if method == PREDICT else self.channel.unary_unary(method)
        return call.future(message, timeout=timeout)

    def predict(self, message: bytes, timeout: float = 60, method: str = PREDICT) -> tuple[str, str]:
        """The status of bytes, and its words."""
        answer = self.call(message, timeout, method)
        return answer.code().name, answer.details() or ""

    def http(self, *parts: bytes, seconds: float = 0.0) -> tuple[str, str]:
        """The status of what is sent with such pauses, and the body."""
        with socket.create_connection(self.rest, timeout=60) as connection:
            received = b""
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(seconds)
                while part := connection.recv(65536):
                    received += part
        head, _, body = received.partition(b"\r\n\r\n")
        return head.split(b" ")[1].decode() if head else "nothing", body.decode()

    def post(self, document: Any, path: str = "/v1/models/ctr:predict") -> tuple[str, str]:
        """The status of a document of JSON, or of bytes."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.http(b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))

    def is_well(self) -> None:
        """That the next callers are answered."""
        start = time.monotonic()
        status, words = self.predict(self.good.SerializeToString(), timeout=IN_TIME)
        assert (status, words) == ("OK", "")
        assert self.http(b"GET /v1/models/ctr HTTP/1.1\r\n\r\n")[0] == "200"
        health = health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=IN_TIME)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert time.monotonic() - start < 3 * IN_TIME

    def close(self) -> None:
        """Ends the connection."""
        self.channel.close()


@dataclass
class Case:
    """A row of the table."""

    answer: str
    """What comes back: gRPC's status, HTTP's, or words where there is no answer to a request."""
    send: Callable[[Asked], tuple[str, str]]
    """Gives what came back, and its words."""
    says: str = ""
    """A pattern in those words."""
    slow: bool = False


def spoiled(spoil: Callable[[Any], object]) -> Callable[[Asked], tuple[str, str]]:
    """A good request, but for this."""

    def send(asked: Asked) -> tuple[str, str]:
        request = asked.request()
        spoil(request)
        return asked.predict(request.SerializeToString())

    return send


def tensor(values: Any, dtype: Any = np.int64) -> Any:
    return tf.make_tensor_proto(np.array(values, dtype))


def put(name: str, proto: Any) -> Callable[[Any], object]:
    return lambda request: request.inputs[name].CopyFrom(proto)


def _claim_a_huge_shape(request: Any) -> None:
    request.inputs["history_age"].CopyFrom(tensor([[1]]))
    request.inputs["history_age"].tensor_shape.dim[0].size = 2**40


def _claim_an_unknown_size(request: Any) -> None:
    request.inputs["history_age"].tensor_shape.dim[0].size = -1


def _cut_the_content(request: Any) -> None:
    proto = request.inputs["history_age"]
    proto.tensor_content = proto.tensor_content[:3]


def _no_example(asked: Asked) -> tuple[str, str]:
    request = predict_pb2.PredictRequest.FromString(asked.examples)
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([b"no example"]))
    return asked.predict(request.SerializeToString())


def of_json(**changes: Any) -> Callable[[Asked], tuple[str, str]]:
    inputs = {**{name: [[1]] for name in REQUEST_FEATURES}, **changes}
    return lambda asked: asked.post({"signature_name": "rank", "inputs": inputs})


def busy(seconds: float) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "ctr", "busy"
    request.inputs["seconds"].CopyFrom(tf.make_tensor_proto(seconds, tf.float64))
    message: bytes = request.SerializeToString()
    return message


def _cancelled(asked: Asked) -> tuple[str, str]:
    calls = [asked.call(busy(0.3)) for _ in range(2)]
    time.sleep(0.1)
    for call in calls:
        call.cancel()
    return calls[0].code().name, calls[0].details()


def _half_a_message(asked: Asked) -> tuple[str, str]:
    message = asked.good.SerializeToString()
    answers = {asked.predict(message[:length]) for length in range(1, len(message), 7)}
    # Some of its parts are messages, too.
    refused = {status: words for status, words in answers if status != "OK"}
    assert set(refused) <= {"INVALID_ARGUMENT"}, refused
    return refused.popitem()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""How each connection of gRPC begins: HTTP/2's, and empty settings."""


def _connections(asked: Asked) -> tuple[str, str]:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection(asked.address, timeout=60)).sendall(PREFACE)
        asked.is_well()
        # Real clients among them.
        for _ in range(20):
            own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{asked.address[1]}", own))
            channel.unary_unary(PREDICT)(asked.good.SerializeToString(), timeout=IN_TIME)
    return OTHERS, ""


def _slow_callers(asked: Asked) -> tuple[str, str]:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(asked.address, timeout=60)) for _ in range(50)]
        for position in range(len(PREFACE)):
            for connection in slow:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(PREFACE[position : position + 1])
            if position % 8 == 0:
                asked.is_well()
    return OTHERS, ""


def _other_protocols(asked: Asked) -> tuple[str, str]:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", os.urandom(4096), PREFACE * 3):
        with socket.create_connection(asked.address, timeout=60) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
    return OTHERS, ""


def _trickled(asked: Asked) -> tuple[str, str]:
    request = b"GET /v1/models/ctr HTTP/1.1\r\n\r\n"
    return asked.http(*(request[place : place + 1] for place in range(len(request))), seconds=0.01)


def _never_complete(asked: Asked) -> tuple[str, str]:
    body = b"POST /v1/models/ctr:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + b"{" * 99
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: asked.http(body), range(4)))
    assert len(set(answers)) == 1
    return answers[0]


def _rest_connections(asked: Asked) -> tuple[str, str]:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection(asked.rest, timeout=60))
        # Those that are over the limit were refused; to gRPC they are nothing.
        status = asked.predict(asked.good.SerializeToString(), timeout=IN_TIME)
        assert status == ("OK", "")
        answer = asked.http(b"GET /v1/models/ctr HTTP/1.1\r\n\r\n")
    for _ in range(200):
        if asked.http(b"GET /v1/models/ctr HTTP/1.1\r\n\r\n")[0] == "200":
            break
        time.sleep(0.05)
    return answer


def version(spoil: Callable[[Path], object], seen: bool = True) -> Callable[[Asked], tuple[str, str]]:
    """A new version that is none."""

    def send(asked: Asked) -> tuple[str, str]:
        number = next(asked.versions)
        coming = asked.base / f".{number}.tmp"
        shutil.copytree(asked.saved_model, coming)
        spoil(coming)
        coming.rename(asked.base / str(number))
        try:
            words = ""
            end = time.monotonic() + (60 if seen else 0.5)
            while not words and time.monotonic() < end:
                request = GetModelStatusRequest()
                request.model_spec.name = "ctr"
                found = ModelServiceStub(asked.channel).GetModelStatus(request).model_version_status
                words = "".join(each.status.error_message for each in found if each.version == number)
                assert all(each.state != ModelVersionStatus.AVAILABLE for each in found if each.version == number)
                time.sleep(0.05)
            response = predict_pb2.PredictResponse.FromString(asked.call(asked.good.SerializeToString()).result())
            assert response.model_spec.version.value == 3
        finally:
            shutil.rmtree(asked.base / str(number))
        return GOES_ON, words

    return send


INVALID, NOT_FOUND, OVER = "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"
CASES: dict[str, Case] = {
    "an unknown model": Case(NOT_FOUND, spoiled(lambda r: setattr(r.model_spec, "name", "cvr")), r"Latest\(cvr\)"),
    "an unknown version": Case(
        NOT_FOUND, spoiled(lambda r: setattr(r.model_spec.version, "value", 2)), r"Specific\(ctr, 2\)"
    ),
    "an unknown label": Case(
        INVALID, spoiled(lambda r: setattr(r.model_spec, "version_label", "canary")), "version label: canary"
    ),
    "no model at all": Case(INVALID, spoiled(lambda r: r.ClearField("model_spec")), "Missing ModelSpec"),
    "an unknown signature": Case(
        INVALID,
        spoiled(lambda r: setattr(r.model_spec, "signature_name", "score")),
        r'signature key "score" not found.*\{busy,classes,numbers,rank,serving_default,transform_features\}',
    ),
    "an input that is missing": Case(
        INVALID, spoiled(lambda r: r.inputs.pop("history_age")), r"Missing but required: \{history_age\}"
    ),
    "an input too many": Case(INVALID, spoiled(put("user_id", tensor([[1]]))), r"7!=6.*Sent extra: \{user_id\}"),
    "an unknown output": Case(
        INVALID, spoiled(lambda r: r.output_filter.append("score")), "not found in signature: score"
    ),
    "an output twice": Case(
        INVALID, spoiled(lambda r: r.output_filter.extend(["logit"] * 2)), "duplicate output tensor alias: logit"
    ),
    "another type": Case(
        INVALID, spoiled(put("history_age", tensor([[1, 2]], dtype=np.int32))), '"history_age": expects int64 but int32'
    ),
    "a type that does not exist": Case(
        INVALID, spoiled(lambda r: setattr(r.inputs["history_age"], "dtype", 99)), r"expects int64 but \? is provided"
    ),
    "numbers that are not finite": Case(
        INVALID,
        spoiled(put("history_age", tensor([[np.nan, np.inf]], dtype=np.float32))),
        '"history_age": expects int64 but float is provided',
    ),
    "strings for numbers": Case(
        INVALID, spoiled(put("history_age", tf.make_tensor_proto([["1", "2"]]))), "expects int64 but string is provided"
    ),
    "another rank": Case(
        INVALID, spoiled(put("history_age", tensor([1, 2]))), r"expects the shape \(None, None\) but \(2,\) is provided"
    ),
    "inputs of different lengths": Case(
        INVALID, spoiled(put("history_age", tensor([[1] * 5]))), "history features differ in length"
    ),
    "inputs with different numbers of rows": Case(
        INVALID, spoiled(put("history_age", tensor([[1, 1]] * 3))), "history features differ in length"
    ),
    "a shape of more than 2^24 elements": Case(INVALID, spoiled(_claim_a_huge_shape), "more than 16777216 elements"),
    "a shape that is not known": Case(INVALID, spoiled(_claim_an_unknown_size), r"\[-1, 2\] is not fully defined"),
    "bytes that do not fill their shape": Case(INVALID, spoiled(_cut_the_content), "tensor parsing error: history_age"),
    "bytes that are no `tf.train.Example`": Case(INVALID, _no_example, "Could not parse example input"),
    "bytes that are no request": Case(INVALID, lambda asked: asked.predict(b"\xff" * 3), "the 3 bytes sent are no "),
    "the first part of a request": Case(INVALID, _half_a_message, "."),
    "a request over 16 MiB": Case(OVER, lambda asked: asked.predict(bytes(LIMIT + 1)), "larger than max"),
    "a method that does not exist": Case(
        "UNIMPLEMENTED", lambda asked: asked.predict(b"", method="/tensorflow.serving.SessionService/SessionRun")
    ),
    "a caller that cancels": Case("CANCELLED", _cancelled),
    "a deadline that comes too early": Case(
        "DEADLINE_EXCEEDED", lambda asked: asked.predict(busy(0.5), timeout=0.2), "(?i)deadline"
    ),
    "500 connections at a time": Case(OTHERS, _connections),
    "50 callers that send byte by byte": Case(OTHERS, _slow_callers),
    "another protocol, or noise": Case(OTHERS, _other_protocols),
    "REST: an unknown path": Case(
        "400", lambda asked: asked.http(b"GET /v2/models HTTP/1.1\r\n\r\n"), "Malformed request: GET /v2/models"
    ),
    "REST: an unknown model": Case("404", lambda asked: asked.post({}, "/v1/models/cvr:predict"), r"Latest\(cvr\)"),
    "REST: what is no JSON": Case("400", lambda asked: asked.post(b'{"inputs": '), "JSON Parse error"),
    "REST: lists of unequal lengths": Case("400", of_json(history_age=[[1], [1, 2]]), "'history_age': the lists"),
    "REST: numbers that are not finite": Case(
        "400", of_json(history_age=[[float("nan")]]), "must be of int64, found numbers with a point"
    ),
    "REST: nothing that says how long the body is": Case(
        "411", lambda asked: asked.http(b"POST /v1/models/ctr:predict HTTP/1.1\r\n\r\n"), "Content-Length"
    ),
    "REST: a body over 16 MiB": Case("413", lambda asked: asked.post(bytes(LIMIT + 1)), "bytes, 262144 are possible"),
    "REST: a body that does not come within 10 s": Case("408", _never_complete, "99 bytes of 100 came", slow=True),
    "REST: a request byte by byte, within 10 s": Case("200", _trickled, "AVAILABLE"),
    "REST: 500 connections at a time": Case("503", _rest_connections, "too many requests at a time"),
    "a version whose graph is corrupt": Case(
        GOES_ON, version(lambda path: (path / "saved_model.pb").write_bytes(b"\xff not a graph")), "."
    ),
    "a version without its variables": Case(
        GOES_ON, version(lambda path: shutil.rmtree(path / "variables")), "variables"
    ),
    "a version whose variables are cut": Case(
        GOES_ON, version(lambda path: os.truncate(path / "variables" / "variables.index", 10)), "."
    ),
    "a version that is copied without its graph": Case(
        GOES_ON, version(lambda path: (path / "saved_model.pb").unlink(), seen=False)
    ),
}


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory, saved_models: dict[float, Path], impression: Make
) -> Iterator[Asked]:
    base = tmp_path_factory.mktemp("bad")
    shutil.copytree(saved_models[0.0], base / "3")
    with ModelServer(base, "ctr", poll_seconds=0.05, max_message_bytes=LIMIT, access=Access(rest_port=0)) as server:
        server.wait_until_ready(60)
        asked = Asked(server, base, saved_models[10.0], impression)
        asked.is_well()
        yield asked
        asked.close()


@pytest.mark.parametrize(
    "what", [pytest.param(name, marks=[pytest.mark.slow] if case.slow else []) for name, case in CASES.items()]
)
def test_bad_input_has_its_answer_and_the_next_caller_another(asked: Asked, what: str) -> None:
    case = CASES[what]
    asked.tried.append(case)
    answer, words = case.send(asked)
    assert answer == case.answer, words
    assert re.search(case.says, words, re.S), words
    asked.is_well()


def test_the_page_has_these_cases() -> None:
    rows = "\n".join(f"| {what} | {case.answer} |" for what, case in CASES.items())
    assert f"| what comes | answer |\n| --- | --- |\n{rows}\n" in PAGE, f"write this into docs/serving.md:\n{rows}"


def mutated(message: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, cut out or put in."""
    for _ in range(chance.randint(1, 3)):
        start, length = chance.randint(0, len(message)), chance.choice([0, 1, 1, 1, 8])
        message = message[:start] + chance.randbytes(chance.randint(0, 4)) + message[start + length :]
    return message


@pytest.mark.parametrize("number", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_messages_are_refused_with_words(asked: Asked, number: int) -> None:
    chance = random.Random(number)  # noqa: S311
    good = [asked.good.SerializeToString(), asked.examples]
    body = json.dumps({"signature_name": "rank", "inputs": {name: [[1]] for name in REQUEST_FEATURES}}).encode()
    found: set[tuple[str, str]] = set()
    for _ in range(number // 50):
        messages = [
            chance.randbytes(chance.randint(0, 50)) if chance.random() < 0.1 else mutated(chance.choice(good), chance)
            for _ in range(49)
        ]
        # As many at a time as are accepted; one after the other they would wait for one another's threads.
        found |= {(call.code().name, call.details() or "") for call in list(map(asked.call, messages))}
        found.add(asked.post(mutated(body, chance)))
    for status, words in found:
        answered, refused = status in ("OK", "200"), status in (INVALID, NOT_FOUND, "400", "404")
        assert answered or (refused and len(words) > 15), (status, words)
    statuses = {status for status, _ in found}
    assert {"OK", INVALID, "400"} <= statuses
    asked.is_well()


_FEW = len(CASES) // 4


def used() -> tuple[int, int, int]:
    """Threads, open files and bytes in memory, of this process and those below it."""
    processes, threads, files, memory = [os.getpid()], 0, 0, 0
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            folder = Path(f"/proc/{process}")
            for task in (folder / "task").iterdir():
                threads += 1
                processes += map(int, (task / "children").read_text().split())
            files += len(list((folder / "fd").iterdir()))
            memory += int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return threads, files, memory


def test_nothing_leaks(asked: Asked) -> None:
    """All of it once to fill what is kept, and then again."""
    chosen = [case for case in CASES.values() if not case.slow]
    for case in chosen:
        if case not in asked.tried:
            case.send(asked)
    before = used()
    for case in chosen:
        case.send(asked)
    asked.is_well()
    end = time.monotonic() + 20
    # Pools of threads grow and shrink by a few; each case brings more.
    while (after := used())[0] > before[0] + _FEW or after[1] > before[1] + _FEW:
        assert time.monotonic() < end, (before, after)
        time.sleep(0.1)
    assert after[2] - before[2] < LARGEST, (before, after)
