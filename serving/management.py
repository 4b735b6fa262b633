"""Asks a running server, this project's or TF Serving, what it serves, and tells it what to; needs no TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from ctr.serving.client import ServingError, channel_credentials
from ctr.serving.messages import (
    GET_MODEL_STATUS,
    RELOAD_CONFIG,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)

AVAILABLE: Final = "AVAILABLE"
"""The state of a version that takes requests."""
_POLL_SECONDS: Final = 0.2
_RELOAD_SECONDS: Final = 90.0
"""More than a server waits for models that are new in a configuration."""


class ServerManagement:
    """A connection to ``ModelService`` of a server; close it, or use it as a context.

    Args:
      target: ``HOST:PORT``.
      timeout: seconds that a question may take.
      root_certificates: PEM file; turns TLS on, as of :class:`ctr.serving.client.RankingClient`.
      certificate: PEM file of the client's own, with ``private_key``.
      private_key: likewise.

    Raises:
      OSError, ValueError: as of that client.
    """

    def __init__(
        self,
        target: str,
        timeout: float = 5.0,
        *,
        root_certificates: str | Path | None = None,
        certificate: str | Path | None = None,
        private_key: str | Path | None = None,
    ) -> None:
        self.target = target
        self._timeout = timeout
        # A web proxy of the environment would otherwise be asked to reach loopback.
        options = [("grpc.enable_http_proxy", 0)]
        credentials = channel_credentials(root_certificates, certificate, private_key)
        self._channel = (
            grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target, options)
        )

    def states(self, model: str) -> dict[int, str]:
        """What became of each version of a model: version -> state as TF Serving names it; none of an unknown model.

        Raises:
          ServingError: if the server does not answer.
        """
        return {version: state for version, (state, _) in self._states(model).items()}

    def _states(self, model: str) -> dict[int, tuple[str, str]]:
        request = GetModelStatusRequest()
        request.model_spec.name = model
        try:
            answer = self._call(GET_MODEL_STATUS, request, GetModelStatusResponse, self._timeout)
        except ServingError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        names = GetModelStatusResponse.DESCRIPTOR.fields_by_name["model_version_status"].message_type
        states = names.enum_types_by_name["State"].values_by_number
        return {
            each.version: (states[each.state].name, each.status.error_message) for each in answer.model_version_status
        }

    def reload(self, config: Message) -> None:
        """Puts a ``ModelServerConfig`` in force; labels move at once, versions that are new in it are loaded after.

        Raises:
          ServingError: if the server refuses it; then nothing has changed there.
        """
        request = ReloadConfigRequest()
        request.config.ParseFromString(config.SerializeToString())
        answer = self._call(RELOAD_CONFIG, request, ReloadConfigResponse, _RELOAD_SECONDS)
        if answer.status.error_code:
            raise ServingError(f"{self.target} does not take the configuration: {answer.status.error_message}")

    def wait_until_available(self, model: str, versions: Collection[int], seconds: float) -> None:
        """Waits until all these versions take requests.

        Raises:
          ServingError: if one has failed to load, or after so many seconds; with what is known of it.
        """
        deadline = time.monotonic() + seconds
        while True:
            states = self._states(model)
            known = {version: states.get(version, ("not known there", "")) for version in versions}
            missing = {version: found for version, found in known.items() if found[0] != AVAILABLE}
            if not missing:
                return
            broken = {version: found for version, found in missing.items() if found[1]}
            late = time.monotonic() > deadline
            for version, (state, error) in (broken or missing if late else broken).items():
                after = "" if broken else f" after {seconds:g} s"
                raise ServingError(
                    f"{self.target}: version {version} of model {model} is not loaded{after}: {error or state}"
                )
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> ServerManagement:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, request: Message, answer: Any, timeout: float) -> Any:
        call = self._channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            return call(request, timeout=timeout)
        except grpc.RpcError as error:
            raise ServingError(self._explained(error.code(), error.details()), error.code()) from error

    def _explained(self, code: grpc.StatusCode, details: str) -> str:
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"no server reachable at {self.target}: {details}"
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return (
                f"{self.target} was started for one model and takes no labels: {details}; start it with "
                "--model-config-file"
            )
        return f"{self.target} does not take it, {code.name}: {details}"
