"""Requests of several clients together: the answers are those of each alone, and what cannot be together is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature, Features, Int64List

from ctr.models.arrays import Array
from ctr.serving.batching import DEADLINE, Batcher
from ctr.serving.limits import Batching
from ctr.serving.model import RequestError


class Graph:
    """Scores as a model that sees neither padding nor other rows; the first run waits for :attr:`go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.rows: list[int] = []

    def __call__(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.rows.append(len(inputs["candidate_item_id"]))
        if not self.began.is_set():
            self.began.set()
            assert self.go.wait(60)
        if (inputs["history_item_id"] < 0).any():
            row = int(np.argwhere(inputs["history_item_id"] < 0)[0, 0])
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"row {row} is spoilt")
        events = inputs["history_item_id"].sum(axis=1, keepdims=True)
        items = inputs["candidate_item_id"]
        return {"logit": np.where(items, items * 1000.0 + events, -1.0)}


def request(rows: int, events: int, candidates: int, seed: int = 0) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {
        "history_item_id": draw.integers(1, 99, (rows, events)),
        "candidate_item_id": draw.integers(1, 99, (rows, candidates)),
    }


def alone(inputs: Mapping[str, Array]) -> Array:
    graph = Graph()
    graph.began.set()
    return graph("rank", inputs)["logit"]


Ask = Callable[..., "Future[dict[str, Array]]"]


class Busy:
    """A batcher whose one thread runs a request already, so that what comes waits."""

    def __init__(self, **limits: Any) -> None:
        self.graph = Graph()
        self.batcher = Batcher(self.graph, Batching(threads=1, **limits))
        self.pool = ThreadPoolExecutor(64)
        self.first = self.pool.submit(self.batcher, "rank", request(1, 1, 1))
        assert self.graph.began.wait(60)

    def ask(self, inputs: Mapping[str, Array], name: str = "rank", seconds: float | None = None) -> Future[Any]:
        def call() -> dict[str, Array]:
            DEADLINE.set(None if seconds is None else time.monotonic() + seconds)
            return self.batcher(name, inputs)

        before = len(self.batcher._queue)
        asked = self.pool.submit(call)
        until = time.monotonic() + 60
        while len(self.batcher._queue) == before and not asked.done():
            assert time.monotonic() < until
            time.sleep(0.001)
        return asked

    def __enter__(self) -> Busy:
        return self

    def __exit__(self, *_: object) -> None:
        self.graph.go.set()
        self.pool.shutdown()


def test_those_that_wait_run_together_and_get_what_they_would_alone() -> None:
    requests = [request(1 + seed % 3, seed % 7, 1 + seed % 11, seed) for seed in range(20)]
    with Busy(size=16) as busy:
        asked = [busy.ask(inputs) for inputs in requests]
        busy.graph.go.set()
        for inputs, answer in zip(requests, asked, strict=True):
            np.testing.assert_array_equal(answer.result(60)["logit"], alone(inputs))
    rows = busy.graph.rows
    assert sum(rows) == 1 + sum(len(inputs["candidate_item_id"]) for inputs in requests)
    assert max(rows) <= 16
    assert len(rows) <= 1 + 4


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (request(1, 3, 40), "rank"),
        (request(1, 3, 2), "another"),
        (request(16, 3, 2), "rank"),
        ({**request(2, 3, 2), "candidate_category_id": np.ones((2, 3), np.int64)}, "rank"),
        ({**request(2, 3, 2), "history_item_id": np.ones((1, 3), np.int64)}, "rank"),
    ],
    ids=["far more candidates", "another signature", "a batch already", "two widths", "two numbers of rows"],
)
def test_what_does_not_go_together_runs_alone(inputs: dict[str, Array], name: str) -> None:
    with Busy(size=16) as busy:
        # Those of no size do not even wait.
        asked = [busy.ask(request(1, 3, 2)), busy.ask(inputs, name)]
        busy.graph.go.set()
        for answer in asked:
            answer.result(60)
    assert sorted(busy.graph.rows) == sorted([1, 1, len(inputs["candidate_item_id"])])


def test_a_spoilt_request_spoils_no_other() -> None:
    requests = [request(1, 3, 2, seed) for seed in range(3)]
    requests[1]["history_item_id"][0, 0] = -1
    with Busy() as busy:
        asked = [busy.ask(inputs) for inputs in requests]
        busy.graph.go.set()
        for index in (0, 2):
            np.testing.assert_array_equal(asked[index].result(60)["logit"], alone(requests[index]))
        # Its own row, not that of the batch.
        with pytest.raises(RequestError, match="row 0 is spoilt"):
            asked[1].result(60)


def test_a_request_whose_time_is_over_is_not_worked_out() -> None:
    with Busy() as busy:
        late, in_time = busy.ask(request(1, 3, 2), seconds=0.05), busy.ask(request(1, 3, 2), seconds=60)
        time.sleep(0.1)
        busy.graph.go.set()
        with pytest.raises(RequestError, match="its turn came") as raised:
            late.result(60)
        in_time.result(60)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert busy.graph.rows == [1, 1]


def examples(*widths: tuple[int, int]) -> dict[str, Array]:
    """A request of serialized impressions with so many events and candidates."""
    rows = np.empty(len(widths), object)
    for row, (events, candidates) in enumerate(widths):
        values = request(1, events, candidates, row)
        features = {name: feature_of(array[0]) for name, array in values.items()}
        features["user"] = feature_of(np.arange(99))
        rows[row] = Example(features=Features(feature=features)).SerializeToString()
    return {"examples": rows}


def feature_of(values: Array) -> Feature:
    return Feature(int64_list=Int64List(value=values.tolist()))


def test_serialized_impressions_run_together_and_are_as_wide_as_alone() -> None:
    graph = Graph()

    def parse(name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        several = [Example.FromString(each).features.feature for each in inputs["examples"]]
        padded = {}
        for feature in request(1, 1, 1):
            lists = [each[feature].int64_list.value for each in several]
            padded[feature] = np.array([[*each, *[0] * (max(map(len, lists)) - len(each))] for each in lists], np.int64)
        return graph(name, padded)

    requests = [examples((3, 2)), examples((0, 7), (9, 1)), {"examples": np.array([b"\xff"], object)}, examples((1, 9))]
    with Busy() as busy:
        busy.batcher._run = parse
        asked = [busy.ask(inputs, "serving_default") for inputs in requests]
        busy.graph.go.set()
        graph.began.set()
        # What is no Example ran alone, and at once.
        with pytest.raises(DecodeError):
            asked.pop(2).result(60)
        together = [answer.result(60)["logit"] for answer in asked]
    assert graph.rows == [4]
    del requests[2]
    for inputs, answer in zip(requests, together, strict=True):
        np.testing.assert_array_equal(answer, parse("", inputs)["logit"])


def test_outputs_that_are_not_as_wide_as_the_candidates_are_those_of_each_alone() -> None:
    def first(name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"logit": inputs["candidate_item_id"][:, :1]}

    requests = [request(1, 3, 2, seed) for seed in range(3)]
    with Busy() as busy:
        busy.batcher._run = first
        asked = [busy.ask(inputs) for inputs in requests]
        busy.graph.go.set()
        for inputs, answer in zip(requests, asked, strict=True):
            np.testing.assert_array_equal(answer.result(60)["logit"], first("", inputs)["logit"])


def test_a_full_queue_refuses() -> None:
    with Busy(queue=2) as busy:
        waiting = [busy.ask(request(1, 3, 2)) for _ in range(2)]
        with pytest.raises(RequestError, match="2 requests wait already") as raised:
            busy.ask(request(1, 3, 2)).result(60)
        busy.graph.go.set()
        for answer in waiting:
            answer.result(60)
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_many_threads_get_their_own_answers() -> None:
    graph = Graph()
    graph.began.set()
    batcher = Batcher(graph, Batching(size=8, threads=2, microseconds=200))
    requests = [request(1, seed % 5, 1 + seed % 9, seed) for seed in range(300)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda inputs: batcher("rank", inputs)["logit"], requests))
    for inputs, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer, alone(inputs))
    assert batcher._running == 0
    assert batcher._queue == []


@pytest.mark.parametrize("limit", ["size", "queue", "threads", "microseconds"])
def test_impossible_limits_are_named(limit: str) -> None:
    with pytest.raises(ValueError, match=f"batching: {limit}: must be"):
        Batching(**{limit: -1})
