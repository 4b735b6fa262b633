"""Which version is served while versions come, break and go."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from ctr.serving.client import RankingClient, ServingError
from ctr.serving.impressions import Impression
from ctr.serving.messages import PREDICT
from ctr.serving.requests import rank_request
from ctr.serving.server import ModelServer
from ctr.serving.warmup import write_warmup

Make = Callable[[list[int], list[int]], Impression]
POLL = 0.05


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def statuses(server: ModelServer) -> list[ModelVersionStatus]:
    request = GetModelStatusRequest()
    request.model_spec.name = "ctr"
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        return list(ModelServiceStub(channel).GetModelStatus(request).model_version_status)


def states(server: ModelServer) -> dict[int, str]:
    return {status.version: ModelVersionStatus.State.Name(status.state) for status in statuses(server)}


def served(base: Path) -> ModelServer:
    return ModelServer(base, "ctr", poll_seconds=POLL)


def test_the_highest_complete_version_is_served(base: Path, push: Any, connect: Any, impression: Make) -> None:
    push(base, 9)
    push(base, 10)
    shutil.copytree(base / "10", base / ".11.tmp")
    shutil.copytree(base / "10", base / "12-copy")
    (base / "13").mkdir()
    (base / "14").touch()
    with served(base) as server, connect(server) as client:
        server.wait_until_ready(60)
        assert client.rank(impression([], [1])).model_version == 10
        assert states(server) == {10: "AVAILABLE"}


def test_without_a_version_requests_are_not_found(base: Path, push: Any, connect: Any, impression: Make) -> None:
    base.rmdir()
    with served(base) as server, connect(server) as client:
        with pytest.raises(ServingError, match=r"serves no such model \(yet\)") as raised:
            client.rank(impression([], [1]))
        assert raised.value.code is grpc.StatusCode.NOT_FOUND
        with pytest.raises(TimeoutError, match=f"{base} has no directory"):
            server.wait_until_ready(0.1)
        base.mkdir()
        push(base, 1)
        server.wait_until_ready(60)
        assert client.rank(impression([], [1])).model_version == 1


def test_a_new_version_takes_over_without_a_failed_request(
    base: Path, push: Any, connect: Any, impression: Make
) -> None:
    push(base, 1, bias=0.0)
    answers: list[list[tuple[int, float]]] = [[] for _ in range(4)]
    failures: list[ServingError] = []
    done = threading.Event()

    def hammer(client: RankingClient, mine: list[tuple[int, float]]) -> None:
        while not done.is_set():
            try:
                ranking = client.rank(impression([3, 3], [3]))
            except ServingError as error:
                failures.append(error)
                return
            mine.append((ranking.model_version, ranking.candidates[0].logit))

    with served(base) as server, connect(server) as client:
        server.wait_until_ready(60)
        threads = [threading.Thread(target=hammer, args=(client, mine)) for mine in answers]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(len(mine) > 20 for mine in answers), "answers of version 1")
        push(base, 2, bias=10.0)
        wait_for(lambda: all(mine[-1][0] == 2 for mine in answers), "answers of version 2")
        done.set()
        for thread in threads:
            thread.join()
        wait_for(lambda: states(server) == {1: "END", 2: "AVAILABLE"}, "version 1 unloaded")
        request = rank_request([impression([], [1])], "ctr")
        request.model_spec.version.value = 1
        with (
            grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
            pytest.raises(grpc.RpcError, match=r"Specific\(ctr, 1\)"),
        ):
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert failures == []
    for mine in answers:
        assert set(mine) == {(1, 2.0), (2, 12.0)}
        versions = [version for version, _ in mine]
        assert versions == sorted(versions)


def test_a_version_that_is_replaced_is_freed_at_once(base: Path, push: Any, connect: Any, impression: Make) -> None:
    push(base, 1)
    spoilt = rank_request([impression([3], [3])], "ctr")
    spoilt.inputs["history_age"].ParseFromString(tf.make_tensor_proto([[1, 2]], tf.int64).SerializeToString())
    gc.disable()
    try:
        with served(base) as server, connect(server) as client:
            server.wait_until_ready(60)
            old = weakref.ref(server._catalogue._watchers["ctr"].loaded[1])
            client.rank(impression([], [1]))
            with (
                grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
                pytest.raises(grpc.RpcError, match="history features differ"),
            ):
                channel.unary_unary(PREDICT)(spoilt.SerializeToString())
            push(base, 2)
            wait_for(lambda: states(server) == {1: "END", 2: "AVAILABLE"}, "version 1 unloaded")
            wait_for(lambda: old() is None, "version 1 freed", seconds=5)
    finally:
        gc.enable()


def test_a_directory_half_copied_waits(base: Path, push: Any, saved_models: dict[float, Path]) -> None:
    push(base, 1)
    with served(base) as server:
        server.wait_until_ready(60)
        shutil.copytree(saved_models[10.0], base / "2", ignore=shutil.ignore_patterns("saved_model.pb"))
        time.sleep(10 * POLL)
        assert states(server) == {1: "AVAILABLE"}
        shutil.copy(saved_models[10.0] / "saved_model.pb", base / "2")
        wait_for(lambda: server.version == 2, "the complete copy")


def test_a_copy_that_still_grows_waits(base: Path, push: Any, saved_models: dict[float, Path]) -> None:
    push(base, 1)
    with ModelServer(base, "ctr", poll_seconds=0.3) as server:
        server.wait_until_ready(60)
        variables = base / "2" / "variables"
        variables.mkdir(parents=True)
        shutil.copy(saved_models[10.0] / "saved_model.pb", base / "2")
        for index in range(150):
            (variables / f"part-{index}").touch()
            time.sleep(0.01)
        assert states(server) == {1: "AVAILABLE"}


def test_a_broken_version_is_reported_and_taken_once_repaired(
    base: Path, push: Any, connect: Any, impression: Make, saved_models: dict[float, Path], caplog: Any
) -> None:
    push(base, 1)
    with served(base) as server, connect(server) as client:
        server.wait_until_ready(60)
        push(base, 2, bias=10.0, prepare=lambda path: shutil.rmtree(path / "variables"))
        wait_for(lambda: states(server).get(2) == "END", "version 2 reported")
        time.sleep(10 * POLL)
        (broken,) = [status for status in statuses(server) if status.version == 2]
        assert "variables" in broken.status.error_message
        assert [record.message for record in caplog.records if "version 2 cannot be served" in record.message] == [
            f"version 2 cannot be served, version 1 goes on: {base / '2'}: {broken.status.error_message}"
        ]
        assert client.rank(impression([], [1])).model_version == 1
        shutil.copytree(saved_models[10.0] / "variables", base / "2" / "variables")
        wait_for(lambda: server.version == 2, "the repaired version")


def test_a_broken_first_version_leaves_the_one_below(base: Path, push: Any) -> None:
    push(base, 1)
    push(base, 2, prepare=lambda path: (path / "saved_model.pb").write_bytes(b"\xff not a graph"))
    with served(base) as server:
        server.wait_until_ready(60)
        assert states(server) == {2: "END", 1: "AVAILABLE"}


def test_the_reason_stands_in_the_timeout(base: Path, push: Any) -> None:
    push(base, 1, prepare=lambda path: shutil.rmtree(path / "variables"))
    with (
        served(base) as server,
        pytest.raises(TimeoutError, match=r"no version .* of model 'ctr': version 1: .*variables"),
    ):
        server.wait_until_ready(2)


def test_warmup_runs_before_the_version_takes_requests(base: Path, push: Any, connect: Any, impression: Make) -> None:
    requests = [rank_request([impression([3] * length, [3, 4])], "ctr") for length in (0, 1, 50)]
    push(base, 1, prepare=lambda path: write_warmup(path, requests))
    with served(base) as server:
        server.wait_until_ready(60)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(requests[0])
    assert list(response.outputs["calls"].int64_val) == [len(requests) + 1]


def test_a_version_that_fails_its_warmup_takes_no_requests(
    base: Path, push: Any, connect: Any, impression: Make
) -> None:
    request = rank_request([impression([3], [3])], "ctr")
    two_ages = tf.make_tensor_proto([[1, 2]], tf.int64)
    request.inputs["history_age"].ParseFromString(two_ages.SerializeToString())
    push(base, 1)
    with served(base) as server, connect(server) as client:
        server.wait_until_ready(60)
        push(base, 2, prepare=lambda path: write_warmup(path, [request]))
        wait_for(lambda: states(server).get(2) == "END", "version 2 reported")
        assert "history features differ in length" in statuses(server)[0].status.error_message
        assert client.rank(impression([], [1])).model_version == 1


def test_removing_the_served_version_rolls_back(base: Path, push: Any, connect: Any, impression: Make) -> None:
    push(base, 1)
    push(base, 2, bias=10.0)
    with served(base) as server, connect(server) as client:
        server.wait_until_ready(60)
        assert server.version == 2
        shutil.rmtree(base / "2")
        wait_for(lambda: states(server) == {1: "AVAILABLE"}, "version 1")
        os.rename(base / "1", base / ".gone")
        time.sleep(10 * POLL)
        assert client.rank(impression([], [1])).model_version == 1


def test_requests_under_way_finish_on_the_version_they_started_with(base: Path, push: Any) -> None:
    push(base, 1)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.model_spec.signature_name = "busy"
    with served(base) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        server.wait_until_ready(60)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request.inputs["seconds"].CopyFrom(tf.make_tensor_proto(3.0, tf.float64))
        under_way = stub.Predict.future(request)
        push(base, 2)
        wait_for(lambda: server.version == 2, "version 2")
        assert not under_way.done()
        assert under_way.result().model_spec.version.value == 1
