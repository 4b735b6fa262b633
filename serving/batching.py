"""Requests of several clients as one run of the graph: what a run costs besides its arithmetic is paid once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.example.example_pb2 import Example

from ctr.models.arrays import Array
from ctr.serving.limits import Batching
from ctr.serving.model import RequestError, Run
from ctr.serving.signatures import CANDIDATE, HISTORY

DEADLINE: Final[ContextVar[float | None]] = ContextVar("DEADLINE", default=None)
"""Of the request that this thread answers, by ``time.monotonic``; None: it has none."""

_SAME_COLUMNS: Final = 16
"""Requests of as many columns or fewer are one size; of more, a power of two and what is under it is one."""


class _Shape(NamedTuple):
    rows: int
    events: int
    candidates: int
    others: tuple[tuple[int, ...], ...] = ()
    """Of a row of each other input."""


@dataclass(eq=False)
class _Waiting:
    name: str
    inputs: Mapping[str, Array]
    shape: _Shape
    deadline: float | None
    not_before: float
    """Until then it waits for others, once it is its turn."""
    outputs: dict[str, Array] = field(default_factory=dict)
    error: Exception | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held until this one is answered, or is to run the next batch."""

    @property
    def size(self) -> tuple[object, ...]:
        """Only those of one size run together."""
        columns = self.shape.events, self.shape.candidates
        return self.name, self.shape.others, *((max(each, _SAME_COLUMNS) - 1).bit_length() for each in columns)


class Batcher:
    """Runs signatures of one version; safe to call from many threads, and to be called from many is its purpose.

    There is no thread of its own: one of those that wait runs a batch, and before it leaves with its answer it wakes
    the next. A request alone waits for nobody.

    Inputs are of the form of ``rank``: [B, T] and [B, N] by names that begin with ``history_`` and ``candidate_``,
    where 0 is padding, and others with a row for each of B; or of that of ``serving_default``: one [B] of serialized
    Examples with lists of these names. Outputs are [B, N]. Others run alone, and so say themselves what is wrong.

    Args:
      run: runs a signature.
      batching: the limits.
    """

    def __init__(self, run: Run, batching: Batching) -> None:
        self._run = run
        self._batching = batching
        self._lock = threading.Lock()
        self._queue: list[_Waiting] = []
        self._running = 0

    def __call__(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs a signature.

        Raises:
          RequestError: as ``run``; RESOURCE_EXHAUSTED if too many wait, DEADLINE_EXCEEDED if its time was over first.
        """
        shape = _shape(inputs)
        if shape is None or not 0 < shape.rows < self._batching.size:
            return self._run(name, inputs)
        mine = _Waiting(name, inputs, shape, DEADLINE.get(), time.monotonic() + self._batching.microseconds / 1e6)
        with self._lock:
            first = self._running < self._batching.threads
            if first:
                self._running += 1
            elif len(self._queue) >= self._batching.queue:
                raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{len(self._queue)} requests wait already")
            else:
                mine.turn.acquire()
                self._queue.append(mine)
        if not first:
            mine.turn.acquire()
        if not mine.outputs and mine.error is None:
            try:
                self._lead(mine)
            finally:
                self._wake_next()
        error, mine.error = mine.error, None
        try:
            if error is not None:
                raise error
        finally:
            # Its traceback holds this frame, and so the version, until garbage is looked for.
            del error
        return mine.outputs

    def _lead(self, mine: _Waiting) -> None:
        pause = mine.not_before - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        batch = self._take(mine)
        try:
            if in_time := [each for each in batch if not _is_late(each)]:
                self._answer(in_time)
        finally:
            for each in batch:
                if each is not mine:
                    each.turn.release()

    def _take(self, mine: _Waiting) -> list[_Waiting]:
        """Those that run together, in the order in which they came."""
        batch, rows, left = [mine], mine.shape.rows, []
        with self._lock:
            for each in self._queue:
                if each.size == mine.size and rows + each.shape.rows <= self._batching.size:
                    batch.append(each)
                    rows += each.shape.rows
                else:
                    left.append(each)
            self._queue = left
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        candidates = max(each.shape.candidates for each in batch)
        try:
            outputs = self._run(batch[0].name, _merged([each.inputs for each in batch]))
            if len(batch) == 1:
                batch[0].outputs = outputs
                return
            shape = sum(each.shape.rows for each in batch), candidates
            if any(array.shape != shape for array in outputs.values()):
                raise ValueError(f"expected outputs of the shape {shape}")
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            # One of them spoils it for all, and each is to hear of its own rows.
            for each in batch:
                self._answer([each])
            return
        end = 0
        for each in batch:
            begin, end = end, end + each.shape.rows
            each.outputs = {alias: array[begin:end, : each.shape.candidates] for alias, array in outputs.items()}

    def _wake_next(self) -> None:
        with self._lock:
            if not self._queue:
                self._running -= 1
                return
            following = self._queue.pop(0)
        following.turn.release()


def _is_late(waiting: _Waiting) -> bool:
    if waiting.deadline is None or time.monotonic() < waiting.deadline:
        return False
    words = "the request's time was over before its turn came"
    waiting.error = RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, words)
    return True


def _shape(inputs: Mapping[str, Array]) -> _Shape | None:
    """Of a request that can be put together with others; None: it cannot be."""
    if len(inputs) == 1:
        (array,) = inputs.values()
        return _shape_of_examples(array) if array.dtype == object and array.ndim == 1 else None
    shapes: dict[str, list[tuple[int, ...]]] = {HISTORY: [], CANDIDATE: [], "": []}
    for alias, array in sorted(inputs.items()):
        shapes[next(filter(alias.startswith, shapes))].append(array.shape)
    if any(len(set(shapes[prefix])) != 1 for prefix in (HISTORY, CANDIDATE)):
        return None
    rows, events = shapes[HISTORY][0]
    if any(shape[0] != rows for shape in (shapes[CANDIDATE][0], *shapes[""])):
        return None
    return _Shape(rows, events, shapes[CANDIDATE][0][1], tuple(shape[1:] for shape in shapes[""]))


def _shape_of_examples(serialized: Array) -> _Shape | None:
    events = candidates = 0
    try:
        for each in serialized:
            for name, feature in Example.FromString(each).features.feature.items():
                length = len(feature.int64_list.value) or len(feature.float_list.value)
                if name.startswith(CANDIDATE):
                    candidates = max(candidates, length)
                elif name.startswith(HISTORY):
                    events = max(events, length)
    except DecodeError:
        return None
    return _Shape(len(serialized), events, candidates)


def _merged(several: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    if len(several) == 1:
        return several[0]
    merged = {}
    for alias, first in several[0].items():
        arrays = [inputs[alias] for inputs in several]
        if first.ndim == 1 or len({array.shape[1] for array in arrays}) == 1:
            merged[alias] = np.concatenate(arrays)
            continue
        rows, columns = sum(len(array) for array in arrays), max(array.shape[1] for array in arrays)
        whole = np.zeros((rows, columns), first.dtype)
        end = 0
        for array in arrays:
            begin, end = end, end + len(array)
            whole[begin:end, : array.shape[1]] = array
        merged[alias] = whole
    return merged
