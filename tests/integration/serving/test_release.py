"""Labels that move while clients ask by them, and the log of what they ask."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from blessed_versions import bless
from ports import free_port
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr.components.statistics.executor import _batches
from ctr.models.errors import DataError
from ctr.models.impression import REQUEST_FEATURES
from ctr.pipeline.commands.cli import main
from ctr.pipeline.release import record
from ctr.pipeline.release.change import Versions
from ctr.pipeline.release.labels import Labels
from ctr.serving.client import RankingClient, ServingError
from ctr.serving.impressions import Candidate, Impression
from ctr.serving.limits import RequestLogSettings
from ctr.serving.management import ServerManagement
from ctr.serving.messages import PREDICT, PredictRequest, PredictResponse
from ctr.serving.metrics import Metrics
from ctr.serving.models_config import read_models_config
from ctr.serving.request_log import (
    MODEL_VERSION,
    RequestLog,
    read_impressions,
    read_log,
    remove_oldest,
)
from ctr.serving.requests import examples_request, rank_request
from ctr.serving.server import Access, ModelServer

Make = Callable[[list[int], list[int]], Impression]


@contextmanager
def asked_by_label(port: int, impression: Impression) -> Iterator[dict[str, Counter[int | str]]]:
    """Clients that ask for each label without a pause; label -> version that answered, or what failed -> how often."""
    answers = {label: Counter[int | str]() for label in ("stable", "canary")}
    done = threading.Event()

    def ask(label: str) -> None:
        request = rank_request([impression], "ctr", label)
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(PREDICT, PredictRequest.SerializeToString, PredictResponse.FromString)
            while not done.is_set():
                try:
                    answers[label][call(request, timeout=10).model_spec.version.value] += 1
                except grpc.RpcError as error:
                    answers[label][str(error)] += 1

    threads = [threading.Thread(target=ask, args=(label,)) for label in answers]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def kept(folder: Path, impressions: list[Impression]) -> Path:
    """A request log of these."""
    log = RequestLog(RequestLogSettings(folder, rate=1.0), Metrics())
    log.start()
    for each in impressions:
        log.offer(sent(rank_request([each], "ctr")), answered())
    log.stop()
    return folder


def broken(folder: Path) -> None:
    shutil.rmtree(folder / "variables")
    bless(folder)


def test_labels_move_under_load_and_each_change_is_written_down(
    base: Path, push: Any, impression: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version, bias in ((1, 0.0), (2, 10.0), (3, 0.0)):
        push(base, version, bias, prepare=bless)
    log = kept(tmp_path / "requests", [impression([*range(1, 1 + n)], [1, 2, 3, 50]) for n in range(1, 20)])

    def release(*arguments: str) -> tuple[int, str]:
        code = main(["release", *arguments, "--output", str(tmp_path), "--yes"])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert release("promote", "1")[0] == 0
    file = base / "models.config"
    with (
        ModelServer.of_models(read_models_config(file), poll_seconds=0.05) as server,
        ServerManagement(f"127.0.0.1:{server.port}") as management,
        contextlib.ExitStack() as stack,
    ):
        server.wait_until_ready(60)
        answers = stack.enter_context(asked_by_label(server.port, impression([3], [3])))
        told = ("--server", f"127.0.0.1:{server.port}", "--requests", str(log / "ctr"))
        code, said = release("canary", "2", *told)
        assert code == 1
        assert "Canary 2 beside stable 1" in said
        assert "mean difference of probabilities is 0." in said
        assert "(--max-difference)" in said
        assert management.states("ctr") == {1: "AVAILABLE"}

        assert release("canary", "2", *told, "--max-difference", "none", "--max-psi", "none")[0] == 0
        time.sleep(0.3)
        assert management.states("ctr") == {1: "AVAILABLE", 2: "AVAILABLE"}
        assert (answers["stable"].keys(), answers["canary"].keys()) == ({1}, {1, 2})

        assert release("promote", *told)[0] == 0
        time.sleep(0.3)
        assert answers["stable"].keys() == {1, 2}
        shutil.rmtree(base / "2")
        start = time.monotonic()
        # Its requests fail until the label is back: nobody else may answer for it.
        assert release("rollback", *told[:2])[0] == 0
        assert time.monotonic() - start < 2
        for counter in answers.values():
            counter.clear()
        time.sleep(0.3)
        assert (answers["stable"].keys(), answers["canary"].keys()) == ({1}, {1})
        assert min(sum(counter.values()) for counter in answers.values()) > 10

        push(base, 4, prepare=broken)
        code, said = release("canary", "4", *told)
        assert (code, "4: cannot be loaded: " in said) == (1, True), said
        code, said = release("canary", "3", *told, "--wait-seconds", "60")
        assert code == 0, said
        assert management.states("ctr")[3] == "AVAILABLE"
    made = record.read(str(base))
    assert [each.action for each in made] == ["promote", "canary", "promote", "rollback", "canary"]
    assert made[1].shadow is not None
    assert (made[1].shadow.requests, made[1].shadow.candidates) == (19, 76)
    # The same model but for the bias, by which all logits are higher.
    assert (made[1].shadow.kendall_tau, made[1].shadow.same_first) == (1.0, 1.0)
    assert made[4].shadow is not None
    assert (made[4].shadow.mean_difference, made[4].shadow.psi) == (0, 0)


def test_a_version_that_a_server_cannot_load_leaves_all_as_it_was(
    base: Path, push: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen by the server"
    seen.mkdir()
    for version in (1, 2):
        push(base, version, prepare=bless)
        push(seen, version, prepare=broken if version == 2 else None)
    log = kept(tmp_path / "requests", [Impression(history=[], candidates=[Candidate(item_id=1, category_id=1)])])
    output = ("--output", str(tmp_path), "--yes")
    assert main(["release", "promote", "1", *output, "--base-path", str(seen)]) == 0
    file = base / "models.config"
    before = read_models_config(file)
    with ModelServer.of_models(before, poll_seconds=0.05) as server:
        server.wait_until_ready(60)
        told = ("--server", f"127.0.0.1:{server.port}", "--requests", str(log), "--max-latency-ratio", "none")
        assert main(["release", "canary", "2", *output, *told]) == 1
        assert "version 2 of model ctr is not loaded: " in capsys.readouterr().err
        assert tuple(server.models) == read_models_config(file) == before
    assert [change.action for change in record.read(str(base))] == ["promote"]


@contextmanager
def process(*arguments: str) -> Iterator[int]:
    """The port of a server as a person starts it; that it ends well."""
    port = free_port()
    command = [sys.executable, "-m", "ctr", "serve", "--port", str(port), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield port
        finally:
            server.terminate()
            said = server.communicate(timeout=60)[1]
    assert server.returncode == 0, said


def test_a_server_that_follows_the_file_loads_a_version_before_its_label_moves(
    base: Path, push: Any, impression: Make, tmp_path: Path
) -> None:
    for version in (1, 2):
        push(base, version, prepare=bless)
    assert main(["release", "promote", "1", "--output", str(base.parents[1]), "--yes"]) == 0
    file, log = base / "models.config", tmp_path / "log"
    follows = ("--model-config-file", str(file), "--model-config-file-poll-seconds", "0.2")
    with process(*follows, "--request-log", str(log), "--request-log-rate", "1") as port:
        with ServerManagement(f"127.0.0.1:{port}") as management:
            wait_for(lambda: management.states("ctr") == {1: "AVAILABLE"}, "version 1")
        with asked_by_label(port, impression([3], [3])) as answers:
            # One change for both, as TF Serving would refuse it.
            release = Versions(str(base), "ctr").file()
            release.write(release.with_labels(Labels(1, 2)))
            wait_for(lambda: answers["canary"][2] > 20, "the canary")
        with RankingClient(f"127.0.0.1:{port}", "ctr", version_label="canary") as client:
            assert client.rank(impression([], [1])).model_version == 2
    assert (answers["stable"].keys(), answers["canary"].keys() - {2}) == ({1}, {1})
    kept = Counter(example.features.feature[MODEL_VERSION].int64_list.value[0] for example in read_log(log / "ctr"))
    assert kept == answers["stable"] + answers["canary"] + Counter({2: 1})


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(ServingError):
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


# --- the request log -----------------------------------------------------------------------------------------------


def answered(version: int = 7) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    return response


def sent(request: Any) -> predict_pb2.PredictRequest:
    return predict_pb2.PredictRequest.FromString(request.SerializeToString())


def written(metrics: Metrics) -> dict[str, int]:
    lines = [line for line in metrics.text().splitlines() if line.startswith("ctr_request_log_total{")]
    return {line.split('"')[1]: int(line.split()[1]) for line in lines}


def test_a_server_keeps_what_it_answers(base: Path, push: Any, impression: Make, tmp_path: Path) -> None:
    push(base, 5)
    access = Access(rest_port=0, request_log=RequestLogSettings(tmp_path / "log", rate=1.0))
    with ModelServer(base, "ctr", poll_seconds=0.05, access=access) as server:
        server.wait_until_ready(60)
        with RankingClient(f"127.0.0.1:{server.port}", "ctr") as client:
            for length in (0, 1, 2):
                client.rank(impression([7] * length, [1, 2]))
        with RankingClient(f"127.0.0.1:{server.port}", "other") as client, pytest.raises(ServingError):
            client.rank(impression([7], [1]))
        asked = {name: [values] for name, values in impression([7] * 3, [1, 2]).features().items()}
        body = json.dumps({"signature_name": "rank", "inputs": asked}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/ctr:predict", body).close()
        deadline = time.monotonic() + 10
        while 'ctr_request_log_total{status="written"} 4' not in page(server):
            assert time.monotonic() < deadline, page(server)
    # The shard is whole when the server has ended, with what was answered alone.
    assert [len(each.history) for each in read_impressions(tmp_path / "log" / "ctr", 9)] == [0, 1, 2, 3]
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["ctr"]


def page(server: ModelServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/metrics") as answer:
        return answer.read().decode()


def test_what_is_asked_comes_back_as_impressions_that_statistics_read(tmp_path: Path, impression: Make) -> None:
    asked = [impression([3, 4], [1]), impression([], [5, 6, 7]), impression([9], [9, 8])]
    metrics = Metrics()
    log = RequestLog(RequestLogSettings(tmp_path, rate=1.0), metrics)
    log.start()
    log.offer(sent(rank_request(asked, "ctr")), answered(7))
    log.offer(sent(examples_request(asked, "ctr")), answered(8))
    # What a caller puts in beside, and what is not asked to rank, is not kept.
    other = sent(examples_request(asked[:1], "ctr"))
    example = tf.train.Example.FromString(other.inputs["examples"].string_val[0])
    example.features.feature["user_id"].int64_list.value.append(42)
    other.inputs["examples"].string_val[0] = example.SerializeToString()
    log.offer(sent(other), answered(8))
    other.model_spec.signature_name = "transform_features"
    log.offer(other, answered(8))
    log.stop()

    assert written(metrics) == {"written": 3}
    (shard,) = (tmp_path / "ctr").iterdir()
    found = [{name: [*f.int64_list.value] for name, f in e.features.feature.items()} for e in read_log(tmp_path)]
    assert [set(each) for each in found] == [{*REQUEST_FEATURES, "timestamp", "model_version"}] * 7
    assert [each["model_version"] for each in found] == [[7]] * 3 + [[8]] * 4
    assert all(abs(each["timestamp"][0] - time.time()) < 60 for each in found)
    assert read_impressions(tmp_path / "ctr", 6) == [*asked, *asked]
    # By the reader of StatisticsGen, with TensorFlow Data Validation.
    (batch,) = _batches(str(shard))
    (statistics,) = generate_statistics_in_memory(batch).datasets
    assert statistics.num_examples == 7
    (ages,) = [feature for feature in statistics.features if feature.path.step[:] == ["history_age"]]
    assert ages.num_stats.common_stats.tot_num_values == 8


def test_the_log_is_bounded_and_never_in_the_way(tmp_path: Path, impression: Make) -> None:
    request, metrics = sent(rank_request([impression([3], [1])], "ctr")), Metrics()
    log = RequestLog(RequestLogSettings(tmp_path, rate=1.0), metrics)
    # Nobody writes yet, as when the disk stands still: what does not fit is dropped at once.
    start = time.monotonic()
    for _ in range(400):
        log.offer(request, answered())
    assert time.monotonic() - start < 1
    log.start()
    log.stop()
    assert written(metrics) == {"written": 256, "dropped": 144}
    none = RequestLog(RequestLogSettings(tmp_path, rate=1e-9), metrics)
    none.offer(request, answered())
    assert written(metrics) == {"written": 256, "dropped": 144}

    # A disk that cannot be written to: counted, and said once.
    (tmp_path / "file").touch()
    broken = RequestLog(RequestLogSettings(tmp_path / "file", rate=1.0), metrics)
    broken.start()
    for _ in range(3):
        broken.offer(request, answered())
    broken.stop()
    assert written(metrics)["failed"] == 3


def test_the_oldest_shards_go_and_what_a_killed_server_left(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "ctr").mkdir(exist_ok=True)
        (tmp_path / "ctr" / f"{number:017d}-host-1.gz").write_bytes(bytes(400_000))
    for name, age in (("8-host-1.gz", 3600), ("9-host-1.gz", 0), ("other", 3600)):
        path = tmp_path / "ctr" / f".{name.zfill(len(name) + 16)}.incoming"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    # What somebody else keeps there is neither counted nor removed.
    for other in (tmp_path / "00000000000000000-host-1.gz", tmp_path / "ctr" / "0.csv"):
        other.write_bytes(bytes(900_000))
    remove_oldest(tmp_path, max_mb=1.0)
    assert (tmp_path / "00000000000000000-host-1.gz").exists()
    assert sorted(path.name for path in (tmp_path / "ctr").iterdir()) == [
        ".00000000000000009-host-1.gz.incoming",
        ".0000000000000000other.incoming",
        "0.csv",
        "00000000000000003-host-1.gz",
        "00000000000000004-host-1.gz",
    ]


def test_the_log_of_tf_serving_is_read_too_and_another_file_is_named(tmp_path: Path, impression: Make) -> None:
    asked = [impression([3, 4], [1, 2])]
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(sent(rank_request(asked, "ctr")))
    with tf.io.TFRecordWriter(str(tmp_path / "shard")) as writer:
        writer.write(log.SerializeToString())
    assert read_impressions(tmp_path, 5) == asked
    (tmp_path / "text").write_text("no record, " * 9)
    with pytest.raises(DataError, match=f"{tmp_path}/text: no shard of a request log"):
        list(read_log(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        list(read_log(tmp_path / "nosuch"))


def test_a_server_without_a_configuration_says_how_to_have_labels(shared_server: ModelServer) -> None:
    with ServerManagement(f"127.0.0.1:{shared_server.port}") as management:
        assert management.states("ctr") == {3: "AVAILABLE"}
        assert management.states("other") == {}
        with pytest.raises(ServingError, match="was started for one model and takes no labels"):
            management.reload(predict_pb2.PredictRequest())
        with pytest.raises(ServingError, match="version 9 of model ctr is not loaded after 0.1 s: not known there"):
            management.wait_until_available("ctr", [9], 0.1)
