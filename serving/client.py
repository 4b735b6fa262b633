"""Asks a model server, this project's or TF Serving, to rank candidates; needs no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf.message import Message

from ctr.models.arrays import Array
from ctr.models.errors import CtrError
from ctr.serving.impressions import Impression, RankedCandidate, Ranking
from ctr.serving.messages import PREDICT, PredictRequest, PredictResponse, floats, shape_of
from ctr.serving.requests import rank_request
from ctr.serving.signatures import LOGIT, PROBABILITY


class ServingError(CtrError):
    """The server gave no usable answer; the message says why, and what to do.

    Attributes:
      code: the gRPC status; None if the answer came but makes no sense.
    """

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class RankingClient:
    """A connection to a model server; close it, or use it as a context.

    Args:
      target: ``HOST:PORT``.
      model_name: the model's name on the server.
      timeout: seconds that one call may take.
      root_certificates: PEM file of the authorities to trust: turns TLS on. Without it the connection is in clear
        text, which is for loopback and trusted networks.
      certificate: PEM file of the client's own certificate, where the server asks for one (mutual TLS); with
        ``private_key``, the PEM file of its key.
      version_label: of the version that is asked, such as ``canary``; empty for the newest one.

    Raises:
      OSError: if the certificates or the key cannot be read.
      ValueError: if there is a certificate without its key or without authorities, or a key alone.
    """

    def __init__(
        self,
        target: str,
        model_name: str,
        timeout: float = 5.0,
        *,
        root_certificates: str | Path | None = None,
        certificate: str | Path | None = None,
        private_key: str | Path | None = None,
        version_label: str = "",
    ) -> None:
        if (certificate is None) != (private_key is None) or (certificate is not None and root_certificates is None):
            raise ValueError("certificate and private_key go together, and with root_certificates")
        self._target = target
        self._model_name = model_name
        self._timeout = timeout
        self._version_label = version_label
        options: list[tuple[str, int]] = [("grpc.max_receive_message_length", -1)]
        if root_certificates is None:
            # A web proxy of the environment would otherwise be asked to reach loopback.
            options.append(("grpc.enable_http_proxy", 0))
            self._channel = grpc.insecure_channel(target, options)
        else:
            files = (root_certificates, private_key, certificate)
            credentials = grpc.ssl_channel_credentials(
                *(None if file is None else Path(file).read_bytes() for file in files)
            )
            self._channel = grpc.secure_channel(target, credentials, options)
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )

    def rank(self, impression: Impression) -> Ranking:
        """Ranks one impression's candidates.

        Raises:
          ServingError: if the server cannot be reached, refuses the request, or answers with nonsense.
        """
        return self.rank_batch([impression])[0]

    def rank_batch(self, impressions: Sequence[Impression]) -> list[Ranking]:
        """Ranks several impressions in one request, in their order. Errors as for :meth:`rank`."""
        response = self._answer(rank_request(impressions, self._model_name, self._version_label))
        width = max(len(impression.candidates) for impression in impressions)
        probability = self._output(response, PROBABILITY, (len(impressions), width))
        logit = self._output(response, LOGIT, (len(impressions), width))
        return [
            Ranking(
                model_name=self._model_name,
                model_version=response.model_spec.version.value,
                candidates=_ranked(self._target, impression, probability[row], logit[row]),
            )
            for row, impression in enumerate(impressions)
        ]

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> RankingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, request: Message) -> Message:
        try:
            return self._predict(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ServingError(self._explained(error.code(), error.details()), error.code()) from error

    def _explained(self, code: grpc.StatusCode, details: str) -> str:
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"no server reachable at {self._target}: {details}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{self._target} did not answer within {self._timeout:g} s"
        if code is grpc.StatusCode.NOT_FOUND:
            return f"{self._target} serves no such model (yet): {details}"
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return f"{self._target} refused the request: {details}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return f"the request is over a limit of {self._target} (its size, or requests at a time): {details}"
        return f"{self._target} failed with {code.name}: {details}"

    def _output(self, response: Message, name: str, shape: tuple[int, int]) -> Array:
        if name not in response.outputs:
            raise ServingError(f"{self._target} answered without {name!r}: is {self._model_name!r} a ranking model?")
        tensor = response.outputs[name]
        if shape_of(tensor) != shape:
            raise ServingError(f"{self._target} answered {name!r} of shape {shape_of(tensor)}, expected {shape}")
        try:
            return floats(tensor)
        except ValueError as error:
            raise ServingError(f"{self._target} answered {name!r} {error}") from error


def _ranked(target: str, impression: Impression, probability: Array, logit: Array) -> tuple[RankedCandidate, ...]:
    ranked = [
        RankedCandidate(
            **candidate.model_dump(),
            position=position,
            probability=float(probability[position]),
            logit=float(logit[position]),
        )
        for position, candidate in enumerate(impression.candidates)
    ]
    for candidate in ranked:
        if not (math.isfinite(candidate.probability) and math.isfinite(candidate.logit)):
            raise ServingError(
                f"{target} gave candidate {candidate.position} (item {candidate.item_id}) a score that is no number"
            )
    # Not by probabilities: some round to 1, and the sigmoid of one logit may differ in its last bit with its place.
    return tuple(sorted(ranked, key=lambda c: (-c.logit, c.position)))
