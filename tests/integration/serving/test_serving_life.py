"""A server's start, limits and end, and a client without one."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ctr.models.errors import ConfigError
from ctr.serving.client import RankingClient, ServingError
from ctr.serving.impressions import Impression
from ctr.serving.messages import PREDICT
from ctr.serving.requests import rank_request
from ctr.serving.server import Access, ModelServer
from ctr.serving.tls import ServerTls

Make = Callable[[list[int], list[int]], Impression]


def busy(seconds: float) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.model_spec.signature_name = "busy"
    request.inputs["seconds"].CopyFrom(tf.make_tensor_proto(seconds, tf.float64))
    return request


@pytest.mark.parametrize(
    "limits", [{"threads": 0}, {"poll_seconds": 0.0}, {"max_message_bytes": -1}, {"max_concurrent_rpcs": 0}]
)
def test_impossible_limits_are_named(tmp_path: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(limits))}: must be above 0"):
        ModelServer(tmp_path, "ctr", **limits)


def test_an_impossible_port_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="port: must be 0 to 65535, got 70000"):
        ModelServer(tmp_path, "ctr", port=70_000)


def test_a_port_that_is_taken_is_named(shared_server: ModelServer, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{shared_server.port}"),
        ModelServer(tmp_path, "ctr", port=shared_server.port),
    ):
        pass


def test_more_requests_than_the_limit_are_refused(base: Path, push: Any, connect: Any, impression: Make) -> None:
    push(base, 1)
    with ModelServer(base, "ctr", poll_seconds=0.05, threads=1, max_concurrent_rpcs=1) as server:
        server.wait_until_ready(60)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, connect(server) as client:
            under_way = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(busy(2.0))
            time.sleep(0.5)
            with pytest.raises(ServingError, match="over a limit"):
                client.rank(impression([], [1]))
            under_way.result()
            # The server frees the place a moment after the answer has left.
            for _ in range(100):
                with contextlib.suppress(ServingError):
                    assert client.rank(impression([], [1])).model_version == 1
                    break
                time.sleep(0.1)
            else:
                pytest.fail("the place is not free again")


def test_closing_finishes_requests_under_way(base: Path, push: Any, impression: Make) -> None:
    push(base, 1)
    with ModelServer(base, "ctr", poll_seconds=0.05) as server:
        server.wait_until_ready(60)
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        under_way = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(busy(1.0))
        time.sleep(0.3)
    assert under_way.result(timeout=60).outputs["seconds"].double_val[0] >= 1.0
    channel.close()
    with (
        RankingClient(f"127.0.0.1:{server.port}", "ctr") as client,
        pytest.raises(ServingError, match=rf"no server reachable at 127\.0\.0\.1:{server.port}") as raised,
    ):
        client.rank(impression([], [1]))
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE


def test_health_follows_the_server(base: Path, push: Any) -> None:
    health = health_pb2.HealthCheckResponse
    with ModelServer(base, "ctr", poll_seconds=0.05, grace_seconds=0.5) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health.NOT_SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health.NOT_SERVING
        push(base, 1)
        assert next(watch).status == health.SERVING
        server.wait_until_ready(60)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health.SERVING
    assert next(watch).status == health.NOT_SERVING
    channel.close()


SERVE = """
import logging, sys
from ctr.serving.server import ModelServer, serve_forever
logging.basicConfig(level=logging.INFO, format="%(message)s")
serve_forever(ModelServer(sys.argv[1], "ctr", poll_seconds=0.05))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_zero(base: Path, push: Any, number: signal.Signals) -> None:
    push(base, 1)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(base)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = None
        for line in process.stderr:
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+) for model 'ctr'", line):
                port = int(found[1])
            if line.startswith("serving version 1"):
                break
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            under_way = stub.Predict.future(busy(2.0))
            time.sleep(0.5)
            process.send_signal(number)
            time.sleep(0.5)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Predict(busy(0.0), timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert under_way.result(timeout=60).outputs["seconds"].double_val[0] >= 2.0
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()


def test_a_slow_answer_is_a_timeout(base: Path, push: Any, impression: Make) -> None:
    push(base, 1)
    with ModelServer(base, "ctr", poll_seconds=0.05, threads=1) as server:
        server.wait_until_ready(60)
        target = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(target) as channel, RankingClient(target, "ctr", timeout=0.3) as client:
            under_way = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(busy(1.5))
            time.sleep(0.3)
            with pytest.raises(ServingError, match=r"did not answer within 0\.3 s") as raised:
                client.rank(impression([], [1]))
            under_way.result()
            # Nobody waits for that answer any more, so it is not worked out.
            sent = rank_request([impression([], [1])], "ctr").SerializeToString()
            answer = predict_pb2.PredictResponse.FromString(channel.unary_unary(PREDICT)(sent))
            assert list(answer.outputs["calls"].int64_val) == [1]
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


class _Fixed(prediction_service_pb2_grpc.PredictionServiceServicer):
    """A server that is not ours: answers every request with the same outputs."""

    def __init__(self, outputs: dict[str, list[list[float]]]) -> None:
        self._outputs = outputs

    def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:
        response = predict_pb2.PredictResponse()
        for name, values in self._outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return response


@pytest.fixture
def foreign() -> Iterator[Callable[..., int]]:
    """Starts a foreign server, with TLS if given credentials; returns its port."""
    servers = []

    def start(outputs: dict[str, list[list[float]]], credentials: grpc.ServerCredentials | None = None) -> int:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Fixed(outputs), server)
        servers.append(server)
        address = "127.0.0.1:0"
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        server.start()
        return port

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"logit": [[0.0]]}, r"answered without 'probability': is 'ctr' a ranking model\?"),
        ({"probability": [[0.5, 0.5]], "logit": [[0.0]]}, r"'probability' of shape \(1, 2\), expected \(1, 1\)"),
        ({"probability": [[b"high"]], "logit": [[0.0]]}, r"'probability' of the DataType 7, expected 1 \(DT_FLOAT\)"),
        ({"probability": [[float("nan")]], "logit": [[0.0]]}, r"candidate 0 \(item 500\) a score that is no number"),
    ],
)
def test_answers_that_make_no_sense_are_refused(
    foreign: Callable[..., int], impression: Make, outputs: dict[str, Any], expected: str
) -> None:
    with (
        RankingClient(f"127.0.0.1:{foreign(outputs)}", "ctr") as client,
        pytest.raises(ServingError, match=expected) as raised,
    ):
        client.rank(impression([], [1]))
    assert raised.value.code is None


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def test_tls_trusts_the_given_authority_only(foreign: Callable[..., int], impression: Make, tmp_path: Path) -> None:
    (key, certificate), (_, stranger) = _self_signed(), _self_signed()
    outputs = {"probability": [[0.5]], "logit": [[0.0]]}
    port = foreign(outputs, grpc.ssl_server_credentials([(key, certificate)]))
    for name, content in (("trusted.pem", certificate), ("stranger.pem", stranger)):
        (tmp_path / name).write_bytes(content)
    target = f"127.0.0.1:{port}"
    with RankingClient(target, "ctr", root_certificates=tmp_path / "trusted.pem") as client:
        assert client.rank(impression([], [1])).candidates[0].probability == 0.5
    with (
        RankingClient(target, "ctr", root_certificates=tmp_path / "stranger.pem") as client,
        pytest.raises(ServingError, match="no server reachable"),
    ):
        client.rank(impression([], [1]))


def test_mutual_tls_lets_in_known_clients_alone(base: Path, push: Any, impression: Make, tmp_path: Path) -> None:
    files = {}
    for name in ("server", "client", "stranger"):
        for kind, content in zip(("key", "certificate"), _self_signed(), strict=True):
            files[f"{name}_{kind}"] = tmp_path / f"{name}-{kind}.pem"
            files[f"{name}_{kind}"].write_bytes(content)
    push(base, 1)
    tls = ServerTls(files["server_certificate"], files["server_key"], client_ca=files["client_certificate"])
    with ModelServer(base, "ctr", poll_seconds=0.05, access=Access(rest_port=0, tls=tls)) as server:
        server.wait_until_ready(60)
        target = f"127.0.0.1:{server.port}"

        def ask(name: str) -> RankingClient:
            return RankingClient(
                target,
                "ctr",
                root_certificates=files["server_certificate"],
                certificate=files[f"{name}_certificate"],
                private_key=files[f"{name}_key"],
            )

        def status_by_https(name: str) -> int:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(files["server_certificate"])
            context.load_cert_chain(files[f"{name}_certificate"], files[f"{name}_key"])
            https = http.client.HTTPSConnection("127.0.0.1", server.rest_port, context=context, timeout=60)
            with contextlib.closing(https):
                https.request("GET", "/v1/models/ctr")
                return https.getresponse().status

        with ask("client") as client:
            assert client.rank(impression([], [1])).model_version == 1
        assert status_by_https("client") == 200
        with ask("stranger") as client, pytest.raises(ServingError, match="no server reachable"):
            client.rank(impression([], [1]))
        with pytest.raises(OSError, match=r"(?i)unknown ca|reset by peer|broken pipe|EOF occurred"):
            status_by_https("stranger")
        with (
            RankingClient(target, "ctr") as client,
            pytest.raises(ServingError, match="no server reachable"),
        ):
            client.rank(impression([], [1]))
    with pytest.raises(ValueError, match="certificate and private_key go together"):
        RankingClient("127.0.0.1:1", "ctr", root_certificates=files["client_certificate"], private_key="key.pem")


def test_files_that_are_no_tls_are_named(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    for file, content in zip((key, certificate), _self_signed(), strict=True):
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"TLS: {certificate}, {tmp_path / 'none.pem'}: No such file"):
        ServerTls(certificate, tmp_path / "none.pem")
    key.write_bytes(_self_signed()[0])
    with pytest.raises(ConfigError, match=f"TLS: {certificate}, {key}: .*(?i:mismatch)"):
        ServerTls(certificate, key)
