"""Asks a model server, this project's or TF Serving, to rank candidates; needs no TensorFlow."""

from __future__ import annotations

import asyncio
import json
import math
import queue
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc
from google.protobuf.message import Message

from ctr.models.arrays import Array
from ctr.models.errors import CtrError
from ctr.models.impression import declare_features, from_plain
from ctr.serving.impressions import Impression, RankedCandidate, Ranking
from ctr.serving.messages import (
    GET_MODEL_METADATA,
    PREDICT,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
    floats,
    shape_of,
)
from ctr.serving.requests import declared_request, rank_request, signatures_request
from ctr.serving.signatures import DECLARED, LOGIT, PROBABILITY, SIGNATURE_DEF_FIELD

CONCURRENCY: Final = 8
"""Requests under way at a time, where several are asked in a stream."""
MAX_ATTEMPTS: Final = 5
"""gRPC makes no more of one call."""

_FIRST_BACKOFF: Final = 0.1
_OF_REQUEST: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class ServingError(CtrError):
    """The server gave no usable answer; the message says why, and what to do.

    Attributes:
      code: the gRPC status; None if the answer came but makes no sense.
      of_request: whether another request may fare better: this one was refused, or came to its deadline.
    """

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.of_request = code in _OF_REQUEST


def channel_credentials(
    root_certificates: str | Path | None, certificate: str | Path | None, private_key: str | Path | None
) -> grpc.ChannelCredentials | None:
    """Of the PEM files that :class:`RankingClient` takes; None without any: the connection is in clear text.

    Raises:
      OSError: if a file cannot be read.
      ValueError: if there is a certificate without its key or without authorities, or a key alone.
    """
    if (certificate is None) != (private_key is None) or (certificate is not None and root_certificates is None):
        raise ValueError("certificate and private_key go together, and with root_certificates")
    if root_certificates is None:
        return None
    files = (root_certificates, private_key, certificate)
    return grpc.ssl_channel_credentials(*(None if file is None else Path(file).read_bytes() for file in files))


class _Asker:
    """What the clients share: how they reach a server, make a request, read its answer, and word its errors."""

    _grpc: ClassVar[Any] = grpc

    def __init__(
        self,
        target: str,
        model_name: str,
        timeout: float = 5.0,
        *,
        attempts: int = 4,
        root_certificates: str | Path | None = None,
        certificate: str | Path | None = None,
        private_key: str | Path | None = None,
        version_label: str = "",
    ) -> None:
        if not 1 <= attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts: must be 1 to {MAX_ATTEMPTS}, got {attempts}")
        self._target = target
        self._model_name = model_name
        self._timeout = timeout
        self._version_label = version_label
        # A server that comes back is found between two attempts, and not a second after the first one.
        first = int(1000 * _FIRST_BACKOFF)
        self._options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", -1),
            *((f"grpc.{name}_reconnect_backoff_ms", first) for name in ("initial", "min")),
            ("grpc.max_reconnect_backoff_ms", 5000),
        ]
        if attempts > 1:
            self._options.append(("grpc.service_config", json.dumps(_retried(attempts))))
        self._credentials = channel_credentials(root_certificates, certificate, private_key)
        if self._credentials is None:
            # A web proxy of the environment would otherwise be asked to reach loopback.
            self._options.append(("grpc.enable_http_proxy", 0))
        self._channel = (
            self._grpc.secure_channel(self._target, self._credentials, self._options)
            if self._credentials
            else self._grpc.insecure_channel(self._target, self._options)
        )
        self._predict, self._metadata = (
            self._channel.unary_unary(
                method, request_serializer=sent.SerializeToString, response_deserializer=received.FromString
            )
            for method, sent, received in (
                (PREDICT, PredictRequest, PredictResponse),
                (GET_MODEL_METADATA, GetModelMetadataRequest, GetModelMetadataResponse),
            )
        )

    def _request(self, impressions: Sequence[Impression]) -> Message:
        return rank_request(impressions, self._model_name, self._version_label)

    def _rankings(self, impressions: Sequence[Impression], response: Message) -> list[Ranking]:
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

    def _explained(self, error: grpc.RpcError) -> ServingError:
        code, details = error.code(), error.details()
        words = {
            grpc.StatusCode.UNAVAILABLE: f"no server reachable at {self._target}: {details}",
            grpc.StatusCode.DEADLINE_EXCEEDED: f"{self._target} did not answer within {self._timeout:g} s",
            grpc.StatusCode.NOT_FOUND: f"{self._target} serves no such model (yet): {details}",
            grpc.StatusCode.INVALID_ARGUMENT: f"{self._target} refused the request: {details}",
            grpc.StatusCode.RESOURCE_EXHAUSTED: f"the request is over a limit of {self._target} (its size, or requests "
            f"at a time): {details}",
        }
        return ServingError(words.get(code, f"{self._target} failed with {code.name}: {details}"), code)

    def _signatures(self) -> Message:
        return signatures_request(self._model_name, self._version_label)

    def _declared(self) -> Message:
        return declared_request(self._model_name, self._version_label)


def _declares(answer: Message) -> bool:
    """Whether a version has declared features, by its metadata."""
    signatures = SignatureDefMap.FromString(answer.metadata[SIGNATURE_DEF_FIELD].value)
    return DECLARED in signatures.signature_def


def _declare(answer: Message | None) -> None:
    """Takes what a version says that it declares; None of one that does not."""
    rows = answer.outputs[DECLARED].string_val[0] if answer else b"[]"
    declare_features(map(from_plain, json.loads(rows)))


class RankingClient(_Asker):
    """A connection to a model server, for any number of threads; close it, or use it as a context.

    A call that finds no server (UNAVAILABLE) is tried again after a random part of 0.1, 0.2, 0.4, ... s, within its
    time, unless many calls before it failed, too.

    Args:
      target: ``HOST:PORT``.
      model_name: the model's name on the server.
      timeout: seconds that one call may take, with all its attempts.
      attempts: how often a call is tried where there is no server; 1 to 5.
      root_certificates: PEM file of the authorities to trust: turns TLS on. Without it the connection is in clear
        text, which is for loopback and trusted networks.
      certificate: PEM file of the client's own certificate, where the server asks for one (mutual TLS); with
        ``private_key``, the PEM file of its key.
      version_label: of the version that is asked, such as ``canary``; empty for the newest one.

    Raises:
      OSError: if the certificates or the key cannot be read.
      ValueError: if there is a certificate without its key or without authorities, or a key alone, or an impossible
        number of attempts.
    """

    def declare_features(self) -> None:
        """Makes the features that the model was trained with the declared ones of this process, so that impressions may
        have them. The server is asked what signatures the model has, and the one of declared features if it is there.

        Raises:
          ServingError: if the server cannot be reached, or serves no such model.
        """
        try:
            there = _declares(self._metadata(self._signatures(), timeout=self._timeout))
            answer = self._predict(self._declared(), timeout=self._timeout) if there else None
        except grpc.RpcError as error:
            raise self._explained(error) from error
        _declare(answer)

    def rank(self, impression: Impression) -> Ranking:
        """Ranks one impression's candidates.

        Raises:
          ServingError: if the server cannot be reached, refuses the request, or answers with nonsense.
        """
        return self.rank_batch([impression])[0]

    def rank_batch(self, impressions: Sequence[Impression]) -> list[Ranking]:
        """Ranks several impressions in one request, in their order. Errors as for :meth:`rank`."""
        return self._answer(impressions, self._asked(impressions))

    def rank_each(
        self, impressions: Iterable[Impression], concurrency: int = CONCURRENCY
    ) -> Iterator[Ranking | ServingError]:
        """Ranks a stream of impressions, a request each, several at a time; answers come in their order.

        Args:
          impressions: read by a thread of its own, at most ``concurrency`` ahead of the answers.
          concurrency: requests under way at a time.

        Yields:
          What :meth:`rank` returns or raises. What reading an impression raises is raised in its place, and is the end.

        Raises:
          ValueError: if ``concurrency`` is below 1.
        """
        under_way: queue.SimpleQueue[tuple[Impression, grpc.Future] | BaseException | None] = queue.SimpleQueue()
        places = threading.Semaphore(_possible(concurrency))
        given_up = threading.Event()

        def ask() -> None:
            ended: BaseException | None = None
            try:
                for impression in impressions:
                    places.acquire()
                    if given_up.is_set():
                        return
                    under_way.put((impression, self._asked([impression])))
            except BaseException as error:
                ended = error
            under_way.put(ended)

        # A thread that waits for input does not keep the program from ending.
        threading.Thread(target=ask, name="ask", daemon=True).start()
        try:
            while (asked := under_way.get()) is not None:
                if isinstance(asked, BaseException):
                    raise asked
                impression, call = asked
                answer: Ranking | ServingError
                try:
                    answer = self._answer([impression], call)[0]
                except ServingError as error:
                    answer = error
                places.release()
                yield answer
        finally:
            given_up.set()
            places.release()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> RankingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, impressions: Sequence[Impression]) -> grpc.Future:
        return self._predict.future(self._request(impressions), timeout=self._timeout)

    def _answer(self, impressions: Sequence[Impression], call: grpc.Future) -> list[Ranking]:
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise self._explained(error) from error
        return self._rankings(impressions, response)


class AsyncRankingClient(_Asker):
    """The same for asyncio, for one event loop. Arguments and errors are those of :class:`RankingClient`.

    Example:
      >>> async with AsyncRankingClient("127.0.0.1:8500", "ctr") as client:  # doctest: +SKIP
      ...     async for answer in client.rank_each(impressions):
      ...         print(answer)
    """

    _grpc = grpc.aio

    async def declare_features(self) -> None:
        """As :meth:`RankingClient.declare_features`."""
        try:
            there = _declares(await self._metadata(self._signatures(), timeout=self._timeout))
            answer = await self._predict(self._declared(), timeout=self._timeout) if there else None
        except grpc.RpcError as error:
            raise self._explained(error) from error
        _declare(answer)

    async def rank(self, impression: Impression) -> Ranking:
        """As :meth:`RankingClient.rank`."""
        return (await self.rank_batch([impression]))[0]

    async def rank_batch(self, impressions: Sequence[Impression]) -> list[Ranking]:
        """As :meth:`RankingClient.rank_batch`."""
        try:
            response = await self._predict(self._request(impressions), timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._explained(error) from error
        return self._rankings(impressions, response)

    async def rank_each(
        self, impressions: Iterable[Impression] | AsyncIterable[Impression], concurrency: int = CONCURRENCY
    ) -> AsyncIterator[Ranking | ServingError]:
        """As :meth:`RankingClient.rank_each`, from an iterable, which must not block, or an asynchronous one."""
        under_way: asyncio.Queue[asyncio.Task[Ranking] | None] = asyncio.Queue()
        places = asyncio.Semaphore(_possible(concurrency))

        async def ask() -> None:
            try:
                async for impression in _one_by_one(impressions):
                    await places.acquire()
                    under_way.put_nowait(asyncio.ensure_future(self.rank(impression)))
            finally:
                under_way.put_nowait(None)

        asking = asyncio.ensure_future(ask())
        task: asyncio.Task[Ranking] | None = None
        try:
            while (task := await under_way.get()) is not None:
                answer: Ranking | ServingError
                try:
                    answer = await task
                except ServingError as error:
                    answer = error
                places.release()
                yield answer
            await asking
        finally:
            for left in (asking, task, *(under_way.get_nowait() for _ in range(under_way.qsize()))):
                if left is not None:
                    left.cancel()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncRankingClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _possible(concurrency: int) -> int:
    if concurrency < 1:
        raise ValueError(f"concurrency: must be at least 1, got {concurrency}")
    return concurrency


async def _one_by_one(impressions: Iterable[Impression] | AsyncIterable[Impression]) -> AsyncIterator[Impression]:
    if isinstance(impressions, AsyncIterable):
        async for impression in impressions:
            yield impression
    else:
        for impression in impressions:
            yield impression


def _retried(attempts: int) -> dict[str, Any]:
    """gRPC's own service config; it multiplies each wait with a random number of 0 to 1."""
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": f"{_FIRST_BACKOFF}s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": [grpc.StatusCode.UNAVAILABLE.name],
    }
    return {
        "methodConfig": [{"name": [{"service": PREDICT.split("/")[1]}], "retryPolicy": policy}],
        # Half of the tokens gone, nothing is tried again: a server in trouble is not asked several times as often.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }


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
