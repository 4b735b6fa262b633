"""Requests of several clients as one run of the graph: what a run costs besides its arithmetic is paid once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import grpc
import numpy as np

from ctr.models.arrays import Array
from ctr.serving.limits import Batching
from ctr.serving.model import RequestError, Run

DEADLINE: Final[ContextVar[float | None]] = ContextVar("DEADLINE", default=None)
"""Of the request that this thread answers, by ``time.monotonic``; None: it has none."""

_SAME_COLUMNS: Final = 16
"""Requests of as many columns or fewer are one size; of more, a power of two and what is under it is one."""


@dataclass(eq=False)
class _Waiting:
    inputs: Mapping[str, Array]
    size: tuple[object, ...]
    """Only those of one size run together."""
    rows: int
    deadline: float | None
    outputs: dict[str, Array] = field(default_factory=dict)
    error: Exception | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held until this one is answered, or is to run the next batch."""


class Batcher:
    """Runs signatures of one version; safe to call from many threads, and to be called from many is its purpose.

    There is no thread of its own: one of those that wait runs a batch, and before it leaves with its answer it wakes
    the next. A request alone waits for nobody.

    Inputs are of the form of ``rank``: [B, T] and [B, N] int64 by names that begin with ``history_`` and
    ``candidate_``, where 0 is padding; outputs are [B, N]. Others run alone, and so say themselves what is wrong.

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
        size = _size(inputs)
        rows = len(next(iter(inputs.values())))
        if size is None or not 0 < rows < self._batching.size:
            return self._run(name, inputs)
        mine = _Waiting(inputs, (name, *size), rows, DEADLINE.get())
        arrived = time.monotonic()
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
                self._lead(name, mine, arrived)
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

    def _lead(self, name: str, mine: _Waiting, arrived: float) -> None:
        pause = arrived + self._batching.microseconds / 1e6 - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        batch = self._take(mine)
        try:
            if in_time := [each for each in batch if not _is_late(each)]:
                self._answer(name, in_time)
        finally:
            for each in batch:
                if each is not mine:
                    each.turn.release()

    def _take(self, mine: _Waiting) -> list[_Waiting]:
        """Those that run together, in the order in which they came."""
        batch, rows, left = [mine], mine.rows, []
        with self._lock:
            for each in self._queue:
                if each.size == mine.size and rows + each.rows <= self._batching.size:
                    batch.append(each)
                    rows += each.rows
                else:
                    left.append(each)
            self._queue = left
        return batch

    def _answer(self, name: str, batch: list[_Waiting]) -> None:
        try:
            outputs = self._run(name, _merged([each.inputs for each in batch]))
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            # One of them spoils it for all, and each is to hear of its own rows.
            for each in batch:
                self._answer(name, [each])
            return
        end = 0
        for each in batch:
            begin, end = end, end + each.rows
            each.outputs = {alias: array[begin:end, : _width(each.inputs)] for alias, array in outputs.items()}

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


def _size(inputs: Mapping[str, Array]) -> tuple[int, ...] | None:
    """Of a request that can be put together with others; None: it cannot be."""
    shapes: dict[bool, set[tuple[int, ...]]] = {True: set(), False: set()}
    for alias, array in inputs.items():
        shapes[alias.startswith("candidate_")].add(array.shape)
    if any(len(several) != 1 for several in shapes.values()):
        return None
    (candidates,), (history,) = shapes[True], shapes[False]
    if candidates[0] != history[0]:
        return None
    return tuple((max(columns, _SAME_COLUMNS) - 1).bit_length() for columns in (history[1], candidates[1]))


def _width(inputs: Mapping[str, Array]) -> int:
    return next(int(array.shape[1]) for alias, array in inputs.items() if alias.startswith("candidate_"))


def _merged(several: list[Mapping[str, Array]]) -> Mapping[str, Array]:
    if len(several) == 1:
        return several[0]
    merged = {}
    for alias in several[0]:
        arrays = [inputs[alias] for inputs in several]
        rows, columns = sum(len(array) for array in arrays), max(array.shape[1] for array in arrays)
        whole = np.zeros((rows, columns), arrays[0].dtype)
        end = 0
        for array in arrays:
            begin, end = end, end + len(array)
            whole[begin:end, : array.shape[1]] = array
        merged[alias] = whole
    return merged
