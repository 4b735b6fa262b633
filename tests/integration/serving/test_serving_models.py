"""A server of several models and versions: TF Serving's configuration, its policies and labels, and their change."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, predict_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from tensorflow_serving.config import model_server_config_pb2

from ctr.serving.impressions import Impression
from ctr.serving.models_config import FollowedConfig, models_of
from ctr.serving.requests import rank_request
from ctr.serving.server import ModelServer

Make = Callable[[list[int], list[int]], Impression]


def configuration(*models: tuple[Path, str]) -> model_server_config_pb2.ModelServerConfig:
    """Of (base path, other fields); each model has its folder's name."""
    lines = [
        f'config {{ name: "{base.name}" base_path: "{base}" model_platform: "tensorflow" {fields} }}'
        for base, fields in models
    ]
    text = f"model_config_list {{ {' '.join(lines)} }}"
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


class Asked:
    """A server and what it says."""

    def __init__(self, server: ModelServer, channel: grpc.Channel, impression: Make) -> None:
        self.server = server
        self.predictions, self.models = PredictionServiceStub(channel), ModelServiceStub(channel)
        sent = rank_request([impression([3], [3])], "ctr").SerializeToString()
        self._request = predict_pb2.PredictRequest.FromString(sent)

    def predict(self, name: str, version: int | None = None, label: str = "") -> tuple[int, float]:
        """Version and logit of the answer."""
        request = predict_pb2.PredictRequest()
        request.CopyFrom(self._request)
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        response = self.predictions.Predict(request)
        return response.model_spec.version.value, response.outputs["logit"].float_val[0]

    def states(self, name: str) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        found = self.models.GetModelStatus(request).model_version_status
        return {status.version: ModelVersionStatus.State.Name(status.state) for status in found}

    def wait_for(self, name: str, states: dict[int, str]) -> None:
        deadline = time.monotonic() + 60
        while (found := self.states(name)) != states:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def reload(self, *models: tuple[Path, str]) -> model_management_pb2.ReloadConfigResponse:
        request = model_management_pb2.ReloadConfigRequest(config=configuration(*models))
        return self.models.HandleReloadConfigRequest(request)


@pytest.fixture
def serving(impression: Make) -> Callable[..., Any]:
    @contextmanager
    def start(*models: tuple[Path, str]) -> Iterator[Asked]:
        with (
            ModelServer.of_models(models_of(configuration(*models)), poll_seconds=0.05) as server,
            grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)]) as channel,
        ):
            server.wait_until_ready(60)
            yield Asked(server, channel, impression)

    return start


LATEST_2 = "model_version_policy { latest { num_versions: 2 } }"
ALL = "model_version_policy { all {} }"


def test_each_model_has_its_policy(base: Path, push: Any, serving: Any) -> None:
    first, second = base, base.with_name("second")
    second.mkdir()
    for version in (1, 2, 3):
        push(first, version, bias=0.0)
        push(second, version, bias=10.0)
    with serving((first, LATEST_2), (second, "model_version_policy { specific { versions: 1 versions: 3 } }")) as ask:
        ask.wait_for("ctr", {2: "AVAILABLE", 3: "AVAILABLE"})
        ask.wait_for("second", {1: "AVAILABLE", 3: "AVAILABLE"})
        assert (ask.predict("ctr"), ask.predict("ctr", 2)) == ((3, 1.0), (2, 1.0))
        assert (ask.predict("second"), ask.predict("second", 1)) == ((3, 11.0), (1, 11.0))
        with pytest.raises(grpc.RpcError, match=r"Specific\(second, 2\)"):
            ask.predict("second", 2)
        push(first, 4)
        push(second, 4)
        ask.wait_for("ctr", {2: "END", 3: "AVAILABLE", 4: "AVAILABLE"})
        assert ask.predict("second")[0] == 3


def test_a_label_moves_to_a_loaded_version_alone(base: Path, push: Any, serving: Any) -> None:
    for version, bias in ((1, 0.0), (2, 10.0)):
        push(base, version, bias)
    labels = 'version_labels {{ key: "stable" value: {} }} version_labels {{ key: "canary" value: {} }}'
    with serving((base, ALL + labels.format(1, 2))) as ask:
        ask.wait_for("ctr", {1: "AVAILABLE", 2: "AVAILABLE"})
        assert (ask.predict("ctr", label="stable"), ask.predict("ctr", label="canary")) == ((1, 1.0), (2, 11.0))
        with pytest.raises(grpc.RpcError, match="Unrecognized servable version label: best") as raised:
            ask.predict("ctr", label="best")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert ask.reload((base, ALL + labels.format(2, 2))).status.error_code == 0
        assert ask.predict("ctr", label="stable") == (2, 11.0)
        with pytest.raises(grpc.RpcError, match="label to version 3 of model ctr, which is not currently") as raised:
            ask.reload((base, ALL + labels.format(3, 2)))
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert ask.predict("ctr", label="stable") == (2, 11.0)
        # One that gets nobody an answer may move: a process that has just begun keeps none from going back.
        for version in (3, 4):
            ask.reload((base, ALL + f'version_labels {{ key: "next" value: {version} }}'))


def test_models_come_and_go_and_a_policy_changes(base: Path, push: Any, serving: Any) -> None:
    second = base.with_name("second")
    second.mkdir()
    for version in (1, 2):
        push(base, version)
        push(second, version, bias=10.0)
    with serving((base, "")) as ask:
        ask.reload((base, ALL), (second, ""))
        assert ask.predict("second") == (2, 11.0)
        ask.wait_for("ctr", {1: "AVAILABLE", 2: "AVAILABLE"})
        ask.reload((second, "model_version_policy { specific { versions: 1 } }"))
        with pytest.raises(grpc.RpcError, match=r"Latest\(ctr\)"):
            ask.predict("ctr")
        ask.wait_for("second", {1: "AVAILABLE", 2: "END"})
        assert ask.predict("second") == (1, 11.0)


def test_a_new_configuration_that_cannot_be_meant_changes_nothing(base: Path, push: Any, serving: Any) -> None:
    push(base, 1)
    broken = base.with_name("broken")
    broken.mkdir()
    push(broken, 1, prepare=lambda path: shutil.rmtree(path / "variables"))
    with serving((base, "")) as ask:
        with pytest.raises(grpc.RpcError, match="Illegal to list model ctr multiple times") as raised:
            ask.reload((base, ""), (base, ""))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert ask.predict("ctr")[0] == 1
        with pytest.raises(grpc.RpcError, match="did not become available: model 'broken': version 1: .*variables"):
            ask.reload((base, ""), (broken, ""))
        assert ask.predict("ctr")[0] == 1


def test_a_changed_file_is_followed(
    base: Path, push: Any, serving: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (1, 2):
        push(base, version)
    file = tmp_path / "models.config"

    def write(fields: str) -> None:
        file.write_text(text_format.MessageToString(configuration((base, fields))))

    with serving((base, "")) as ask:
        followed = FollowedConfig(file, ask.server.models, ask.server.change)
        write("")
        followed.look()
        assert ask.states("ctr") == {2: "AVAILABLE"}
        write(ALL)
        followed.look()
        ask.wait_for("ctr", {1: "AVAILABLE", 2: "AVAILABLE"})
        write(ALL + 'version_labels { key: "stable" value: 1 }')
        followed.look()
        assert ask.predict("ctr", label="stable")[0] == 1
        write(ALL + 'version_labels { key: "stable" value: 3 }')
        for _ in range(2):
            followed.look()
        file.write_text("model_config_list {")
        for _ in range(2):
            followed.look()
        assert ask.predict("ctr", label="stable")[0] == 1
    refused = [record.getMessage() for record in caplog.records if "not taken" in record.getMessage()]
    assert [message.partition(" not taken: ")[2][:40] for message in refused] == [
        "Request to assign label to version 3 of ",
        "no ModelServerConfig of TF Serving: 1:19",
    ]
