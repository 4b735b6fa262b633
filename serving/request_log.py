"""Some of the requests that a server answers, kept as impressions: bounded, sampled, and never in an answer's way.

A shard is gzipped TFRecord of ``tf.train.Example`` with the features of ``models/impression.py`` that a request has, as
ingest writes them, and two of the answer: ``timestamp`` and ``model_version``. There is no label, and no user: requests
name none, and of a ``tf.train.Example`` features other than those that ``rank`` has inputs of are not kept. A shard is
written under a hidden name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr.models.errors import DataError
from ctr.models.impression import (
    CANDIDATE_ITEM_ID,
    CONTEXT_FEATURES,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    PADDING_ID,
    TIMESTAMP,
)
from ctr.serving.impressions import Impression, ImpressionError
from ctr.serving.limits import RequestLogSettings
from ctr.serving.metrics import Metrics
from ctr.serving.signatures import DEFAULT_SIGNATURE, EXAMPLES, RANK_SIGNATURE

MODEL_VERSION: Final = "model_version"
"""[1] int64: the version that answered."""

_NAME: Final = "{microseconds:017d}-{host}-{process}.gz"
_INCOMING: Final = ".incoming"
_SHARD: Final = re.compile(rf"(?P<hidden>\.)?\d{{17}}-.+-\d+\.gz(?(hidden){re.escape(_INCOMING)})")
"""What shards are called, and they alone are removed: the folder may hold other people's files."""
_ITEMS: Final = {"history_": HISTORY_ITEM_ID, "candidate_": CANDIDATE_ITEM_ID}
"""Prefix of a feature's name -> what says where padding is."""
_WAITING: Final = 256
_WAITING_BYTES: Final = 64 * 2**20
_SHARD_BYTES: Final = 8 * 2**20
"""Before they are compressed."""
_SHARD_SECONDS: Final = 60.0
_LEFT_SECONDS: Final = 600.0
"""After so long without a write, a shard that is not whole was left by a server that was killed."""
_OPTIONS: Final = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)

_logger = logging.getLogger(__name__)


class RequestLog:
    """Writes what it is offered in a thread of its own. Safe to call from many threads.

    Args:
      settings: see there.
      metrics: what counts the requests written, dropped because the writer is behind, and failed.
      own_inputs: of a model and a version, the names of what an impression has besides events and candidates.
    """

    def __init__(
        self,
        settings: RequestLogSettings,
        metrics: Metrics,
        own_inputs: Callable[[str, int], Collection[str]] = lambda model, version: (),
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._own_inputs = own_inputs
        self._queue: queue.Queue[tuple[predict_pb2.PredictRequest, int, int] | None] = queue.Queue(_WAITING)
        self._bytes = 0
        self._lock = threading.Lock()
        self._shards: dict[str, _Shard] = {}
        self._last_problem = ""
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, and ends."""
        self._queue.put(None)
        self._thread.join()

    def offer(self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse) -> None:
        """Keeps an answered request, if it is among the sampled ones. Neither waits nor raises."""
        if random.random() >= self._settings.rate:  # noqa: S311
            return
        size = request.ByteSize()
        with self._lock:
            taken = self._bytes + size <= _WAITING_BYTES
            self._bytes += size if taken else 0
        if taken:
            try:
                self._queue.put_nowait((request, response.model_spec.version.value, int(time.time())))
                return
            except queue.Full:
                self._took(size)
        self._metrics.logged("dropped")

    def _took(self, size: int) -> None:
        with self._lock:
            self._bytes -= size

    def _run(self) -> None:
        while True:
            try:
                waiting = self._queue.get(timeout=1.0)
            except queue.Empty:
                pass
            else:
                if waiting is None:
                    self._close([*self._shards.values()])
                    return
                request, version, second = waiting
                self._took(request.ByteSize())
                self._write(request, version, second)
            self._close([shard for shard in self._shards.values() if shard.is_full or shard.is_old])

    def _write(self, request: predict_pb2.PredictRequest, version: int, second: int) -> None:
        model = urllib.parse.quote(request.model_spec.name, safe="")
        try:
            kept = examples_of(request, self._own_inputs(request.model_spec.name, version))
            examples = [_with_answer(example, version, second).SerializeToString() for example in kept]
            if not examples:
                return
            shard = self._shards.get(model)
            if shard is None:
                shard = self._shards[model] = _Shard(self._settings.folder / model)
            for example in examples:
                shard.write(example)
            self._metrics.logged("written")
        except Exception as error:
            # Nothing that happens here may end the thread: a disk that is full may have room again.
            self._failed(error)
            if (broken := self._shards.pop(model, None)) is not None:
                broken.give_up()

    def _close(self, shards: list[_Shard]) -> None:
        closed = 0
        for shard in shards:
            self._shards.pop(shard.folder.name, None)
            try:
                shard.close()
                closed += 1
            except Exception as error:
                self._failed(error)
                shard.give_up()
        if closed:
            with contextlib.suppress(OSError):
                remove_oldest(self._settings.folder, self._settings.max_mb)

    def _failed(self, error: Exception) -> None:
        self._metrics.logged("failed")
        if str(error) != self._last_problem:
            self._last_problem = str(error)
            _logger.error("a request could not be logged in %s: %s", self._settings.folder, error)


class _Shard:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        name = _NAME.format(microseconds=time.time_ns() // 1000, host=socket.gethostname(), process=os.getpid())
        self._path = folder / name
        self._incoming = folder / f".{name}{_INCOMING}"
        self._writer = tf.io.TFRecordWriter(str(self._incoming), _OPTIONS)
        self._begun = time.monotonic()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self._bytes >= _SHARD_BYTES

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self._begun >= _SHARD_SECONDS

    def write(self, example: bytes) -> None:
        self._writer.write(example)
        self._bytes += len(example)

    def close(self) -> None:
        self._writer.close()
        self._incoming.rename(self._path)

    def give_up(self) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._incoming.unlink(missing_ok=True)


def remove_oldest(folder: Path, max_mb: float) -> None:
    """Removes the oldest shards in a log until the others fit, and what killed servers left of some.

    Other files are neither counted nor removed. Several servers may do so at once.
    """
    sizes = {}
    for path in folder.glob("*/*"):
        found = _SHARD.fullmatch(path.name)
        if found is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            if not found["hidden"]:
                sizes[path] = state.st_size
            elif time.time() - state.st_mtime > _LEFT_SECONDS:
                path.unlink()
    total = sum(sizes.values())
    for shard, size in sorted(sizes.items(), key=lambda each: each[0].name):
        if total <= max_mb * 1e6:
            return
        shard.unlink(missing_ok=True)
        total -= size


def examples_of(request: predict_pb2.PredictRequest, own_inputs: Collection[str]) -> Iterator[tf.train.Example]:
    """The impressions of a request to rank, without padding; of a request for something else none.

    Args:
      request: of any signature.
      own_inputs: what is kept of a ``tf.train.Example`` besides its histories and candidates.

    Raises:
      LookupError, ValueError: if it cannot have been answered.
    """
    signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if signature == RANK_SIGNATURE:
        # The signature has no other inputs than features.
        columns = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        for row in range(len(columns[CANDIDATE_ITEM_ID])):
            example = tf.train.Example()
            for name, values in columns.items():
                leader = _ITEMS.get(f"{name.partition('_')[0]}_")
                real = leader is None or columns[leader][row] != PADDING_ID
                feature = example.features.feature[name]
                kept = feature.float_list if values.dtype.kind == "f" else feature.int64_list
                kept.value.extend(values[row][real].ravel().tolist())
            yield example
    elif signature == DEFAULT_SIGNATURE and EXAMPLES in request.inputs:
        for serialized in tf.make_ndarray(request.inputs[EXAMPLES]).ravel():
            sent = tf.train.Example.FromString(serialized)
            example = tf.train.Example()
            for name, feature in sent.features.feature.items():
                if (name in own_inputs or name.startswith((*_ITEMS,))) and not feature.HasField("bytes_list"):
                    example.features.feature[name].CopyFrom(feature)
            yield example


def _with_answer(example: tf.train.Example, version: int, second: int) -> tf.train.Example:
    for name, value in ((TIMESTAMP, second), (MODEL_VERSION, version)):
        example.features.feature[name].int64_list.value.append(value)
    return example


# --- reading -------------------------------------------------------------------------------------------------------


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def read_log(folder: str | Path) -> Iterator[tf.train.Example]:
    """The impressions of a request log, the newest shard first.

    A shard of TF Serving's own request log (TFRecord of ``PredictionLog``, compressed or not) is read as well; its
    impressions have no time.

    Raises:
      DataError: if there is no such folder, or a shard cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; 'serve --request-log' writes a folder for each model")
    for shard in reversed(_shards(folder)):
        try:
            with shard.open("rb") as file:
                compression = "GZIP" if file.read(2) == b"\x1f\x8b" else ""
            for record in tf.data.TFRecordDataset(str(shard), compression).as_numpy_iterator():
                yield from _examples_in(record)
        except (OSError, tf.errors.OpError, DecodeError, LookupError, ValueError) as error:
            raise DataError(f"{shard}: no shard of a request log: {str(error).splitlines()[0]}") from error


def _examples_in(record: bytes) -> Iterator[tf.train.Example]:
    # To protobuf, the fields of one are unknown ones of the other.
    with contextlib.suppress(DecodeError):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type"):
            yield from examples_of(log.predict_log.request, CONTEXT_FEATURES)
            return
    yield tf.train.Example.FromString(record)


def read_impressions(folder: str | Path, count: int) -> list[Impression]:
    """The newest so many requests of a log, as a client would send them. Errors as for :func:`read_log`."""
    found: list[Impression] = []
    for example in read_log(folder):
        features = {
            name: feature.float_list.value or feature.int64_list.value
            for name, feature in example.features.feature.items()
        }
        # A history that is missing is an empty one. What a client would not send, such as a history that is not in
        # order, is left out.
        with contextlib.suppress(ImpressionError):
            found.append(Impression.from_features({**dict.fromkeys(HISTORY_FEATURES, ()), **features}))
        if len(found) == count:
            break
    return found
