"""Several processes on one port: no request fails while versions come, a killed one is replaced, metrics add up."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from test_serving_life import busy
from test_serving_versions import wait_for

from ctr.models.errors import CtrError
from ctr.serving.client import RankingClient, ServingError
from ctr.serving.impressions import Impression
from ctr.serving.limits import RequestLogSettings
from ctr.serving.models_config import ModelConfig
from ctr.serving.processes import Plan, Processes

Make = Callable[[list[int], list[int]], Impression]


def page(port: int | None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def labelled(base: Path, version: int) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="ctr", base_path=str(base), model_platform="tensorflow")
    config.model_version_policy.latest.num_versions = 2
    config.version_labels["stable"] = version
    return request


class Load:
    """Six clients that ask, for a while each by a connection of its own: any process may get it."""

    def __init__(self, port: int, asked: Impression) -> None:
        self._answers: list[dict[int, int]] = [{} for _ in range(6)]
        self._failures: list[ServingError] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port, asked, mine)) for mine in self._answers]
        for thread in self._threads:
            thread.start()

    def _ask(self, port: int, asked: Impression, mine: dict[int, int]) -> None:
        while not self._done.is_set():
            with RankingClient(f"127.0.0.1:{port}", "ctr", timeout=30) as client:
                try:
                    for _ in range(5):
                        version = client.rank(asked).model_version
                        mine[version] = mine.get(version, 0) + 1
                except ServingError as error:
                    self._failures.append(error)

    def has(self, version: int) -> bool:
        """Whether each client gets this version now."""
        before = [mine.get(version, 0) for mine in self._answers]
        time.sleep(0.2)
        return all(mine.get(version, 0) > count for mine, count in zip(self._answers, before, strict=True))

    def end(self) -> int:
        """The number of answers."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        assert self._failures == []
        return sum(sum(mine.values()) for mine in self._answers)


@pytest.mark.slow
def test_processes_on_one_port_are_one_server(
    base: Path, push: Any, impression: Make, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    push(base, 1)
    models = (ModelConfig("ctr", base, latest=2),)
    log = RequestLogSettings(tmp_path / "log", rate=1.0)
    options = {"poll_seconds": 0.05, "access": {"request_log": log}}
    plan = Plan(models, may_reload=True, rest_port=0, options=options)
    with Processes(plan, 2) as several:
        several.wait_until_ready(120)
        load = Load(several.port, impression([3], [3]))
        wait_for(lambda: load.has(1), "answers of version 1")
        push(base, 2, bias=10.0)
        wait_for(lambda: load.has(2), "answers of version 2")
        with grpc.insecure_channel(f"127.0.0.1:{several.port}") as channel:
            manage = model_service_pb2_grpc.ModelServiceStub(channel)
            # A label that one of them could not follow moves in none.
            manage.HandleReloadConfigRequest(labelled(base, 1), timeout=60)
            with pytest.raises(grpc.RpcError, match="assign label to version 7"):
                manage.HandleReloadConfigRequest(labelled(base, 7), timeout=60)
            assert several.models[0].labels == {"stable": 1}
            manage.HandleReloadConfigRequest(labelled(base, 2), timeout=60)
            assert several.models[0].labels == {"stable": 2}
            count = load.end()
            assert f'request_count{{model_name="ctr",status="OK"}} {count}\n' in page(several.rest_port)
            logged = f'ctr_request_log_total{{status="written"}} {count}\n'
            wait_for(lambda: logged in page(several.rest_port), "each request in the log")
            assert f'load_attempt_count{{model_path="{base / "2"}",status="success"}} 2\n' in page(several.rest_port)
        killed, other = several.pids
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: other in several.pids and len(several.pids) == 2 and killed not in several.pids, "another")
        several.wait_until_ready(120)
        # What the killed one had counted is not lost.
        assert f'request_count{{model_name="ctr",status="OK"}} {count}\n' in page(several.rest_port)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name, status.model_spec.version_label = "ctr", "stable"
        for _ in range(10):
            with grpc.insecure_channel(f"127.0.0.1:{several.port}") as channel:
                manage = model_service_pb2_grpc.ModelServiceStub(channel)
                (found,) = manage.GetModelStatus(status, timeout=60).model_version_status
                assert found.version == 2
        with (
            pytest.raises(OSError, match="in use"),
            Processes(Plan(models, port=several.port), 2),
        ):
            pass
        channel = grpc.insecure_channel(f"127.0.0.1:{several.port}")
        under_way = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(busy(2.0))
        time.sleep(0.5)
    assert under_way.result(timeout=60).outputs["seconds"].double_val[0] >= 2.0
    channel.close()
    assert several.pids == []


@pytest.mark.slow
def test_a_process_that_ends_before_it_listens_is_said(base: Path) -> None:
    plan = Plan((ModelConfig("ctr", base),), options={"threads": 0})
    with pytest.raises(CtrError, match="ended with code 1 before it listened"), Processes(plan, 1):
        pass
