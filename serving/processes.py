"""Several processes of a server on one port: Python runs one thread at a time, and each process has a lock of its own.

The kernel gives each connection to one of them (``SO_REUSEPORT``). A process above them starts them, and another one
for one that dies; it passes on new configurations, sums the metrics, and lets a version answer when all have it.
Importing this module loads no TensorFlow, which the process above has no need of.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol

from ctr.models.errors import CtrError
from ctr.serving.models_config import FollowedConfig, ModelConfig

_ANSWER_SECONDS: Final = 150.0
"""That the process above has for what one asks of it: two steps."""
_STEP_SECONDS: Final = 70.0
"""That each has for a step; a new configuration has a minute for its models."""
_COUNT_SECONDS: Final = 5.0
"""That each has to say what it counted, else what it last said is taken: Prometheus itself gives up after 10."""
_MOMENT: Final = 0.5
"""Seconds until a version that answers in one process does so in each that has loaded it."""
_TOGETHER_SECONDS: Final = 60.0
"""That a process waits for the others to have a version, too."""
_SHORT_LIFE: Final = 5.0
_PAUSE: Final = 1.0
"""Seconds before another try where a process lived shortly."""

_logger = logging.getLogger(__name__)

Answer = tuple[bool, Any]
"""Whether it went well, and the value, or the status' name and the words."""


class Ended:
    """Whether SIGTERM or SIGINT has come, for the main thread; :meth:`restore` what was done for them before."""

    def __init__(self) -> None:
        # A handler that takes a lock, as an Event's does, could wait for the very thread that it interrupts.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before = {
            number: signal.signal(number, lambda number, _: self._signals.put(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for one, if need be so long; whether it came."""
        try:
            self._signals.get(timeout=seconds)
        except queue.Empty:
            return False
        self._signals.put(0)
        return True

    def restore(self) -> None:
        """Handles signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Plan:
    """What each process serves."""

    models: tuple[ModelConfig, ...]
    may_reload: bool = False
    """Whether callers may change which models."""
    host: str = "127.0.0.1"
    port: int = 0
    rest_port: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of :class:`ctr.serving.server.ModelServer`; of its ``access``, those of ``Access``, as ``access``."""
    log_level: int = logging.WARNING


class Siblings:
    """A process' line to the one above it. Safe to use from many threads."""

    def __init__(self, line: Connection, do: Mapping[str, Callable[[Any], Any]]) -> None:
        self._line = line
        self._do = do
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Answer]] = {}
        self._awaited: dict[tuple[str, int], threading.Event] = {}
        threading.Thread(target=self._read, name="siblings", daemon=True).start()

    def say(self, *words: Any) -> None:
        """Sends; if nobody is above any more, this process is about to end anyway."""
        with self._lock, contextlib.suppress(OSError):
            self._line.send(words)

    def ask(self, what: str, value: Any = None) -> Answer:
        """What all of them answer together."""
        number = next(self._numbers)
        answer = self._asked[number] = Future()
        self.say("ask", number, what, value)
        return answer.result(_ANSWER_SECONDS)

    def wait_for_all(self, folder: Path, version: int) -> None:
        """Returns when each has loaded that version or a higher one, or could not."""
        here = str(folder), version
        event = self._awaited.setdefault(here, threading.Event())
        self.say("loaded", *here)
        event.wait(_TOGETHER_SECONDS)
        self._awaited.pop(here, None)

    def _read(self) -> None:
        while True:
            try:
                kind, *words = self._line.recv()
            except (EOFError, OSError):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if kind == "answer":
                self._asked.pop(words[0]).set_result(words[1])
            elif kind == "go":
                if event := self._awaited.get((words[0], words[1])):
                    event.set()
            else:
                threading.Thread(target=self._work, args=words, daemon=True).start()

    def _work(self, number: int, what: str, value: Any) -> None:
        try:
            answer: Answer = (True, self._do[what](value))
        except Exception as error:
            code = getattr(error, "code", None)
            answer = (False, (getattr(code, "name", "INTERNAL"), str(error)))
        self.say("did", number, answer)


@dataclass(eq=False)
class _Process:
    process: Any
    line: Connection
    first: bool
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: bool = False
    listens: bool = False
    reached: dict[str, int] = field(default_factory=dict)
    """Folder of a model -> the highest version that it has loaded, or could not."""
    counted: Any = None
    """What it had counted when that was last asked."""

    def say(self, *words: Any) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.line.send(words)


class Processes:
    """So many processes of a server, while the context is open.

    Args:
      plan: what they serve; port 0 takes any free one.
      count: how many.
      grace_seconds: that they have for what is under way when the context closes.

    Raises:
      OSError: on entering, if an address cannot be used.
      CtrError: on entering, if a process ends before it listens.
    """

    def __init__(self, plan: Plan, count: int, grace_seconds: float = 10.0) -> None:
        self.plan = plan
        self.port = plan.port
        self.rest_port = plan.rest_port
        self.grace_seconds = grace_seconds
        self._count = count
        self._models = plan.models
        self._spawn = multiprocessing.get_context("spawn")
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._change = threading.Lock()
        self._processes: list[_Process] = []
        self._numbers = itertools.count()
        self._asked: dict[tuple[_Process, int], Future[Answer]] = {}
        self._waiting: list[tuple[_Process, str, int]] = []
        self._counted: list[Any] = []
        """By processes that are gone."""
        self._failed = ""
        self._stopping = threading.Event()
        self._reserved: list[socket.socket] = []

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """What is served."""
        return self._models

    @property
    def pids(self) -> list[int]:
        """Of the processes that live."""
        with self._lock:
            return [each.process.pid for each in self._processes]

    def __str__(self) -> str:
        return f"{self.plan.host}:{self.port} with processes {self.pids}"

    def __enter__(self) -> Processes:
        self.port = self._reserve(self.port)
        if self.rest_port is not None:
            self.rest_port = self._reserve(self.rest_port)
        with self._changed:
            for _ in range(self._count):
                self._start(first=True)
            self._changed.wait_for(lambda: self._failed or all(each.listens for each in self._processes))
        if self._failed:
            self.__exit__()
            raise CtrError(self._failed)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._lock:
            processes = [each.process for each in self._processes]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self.grace_seconds + 10
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._processes, _PAUSE)
        for reserved in self._reserved:
            reserved.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until each process has a version of each model.

        Raises:
          TimeoutError: after so many seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: all(each.ready for each in self._processes), timeout):
                raise TimeoutError(f"not each of {self._count} processes has a version after {timeout:g} s")

    def change(self, models: Sequence[ModelConfig]) -> None:
        """Serves other models from now on, in all processes or in none; returns before new ones are loaded.

        Raises:
          CtrError: if one of them cannot, or does not answer.
        """
        well, words = self._change_all(tuple(models), "change")
        if not well:
            raise CtrError(words[1])

    def _reserve(self, port: int) -> int:
        """A port that only sockets with SO_REUSEPORT can use; nobody listens on this one."""
        family = socket.getaddrinfo(self.plan.host, port, type=socket.SOCK_STREAM)[0][0]
        # Without the option first: it is refused where anybody listens, of whatever kind.
        socket.create_server((self.plan.host, port), family=family).close()
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((self.plan.host, port))
        self._reserved.append(reserved)
        return int(reserved.getsockname()[1])

    def _start(self, first: bool) -> None:
        from ctr.serving.worker import work

        mine, its = self._spawn.Pipe()
        arguments = (self.plan, self._models, self.port, self.rest_port, its, not first)
        process = self._spawn.Process(target=work, args=arguments, daemon=True)
        process.start()
        its.close()
        started = _Process(process, mine, first)
        self._processes.append(started)
        threading.Thread(target=self._read, args=(started,), daemon=True).start()

    def _read(self, process: _Process) -> None:
        while True:
            try:
                kind, *words = process.line.recv()
            except (EOFError, OSError):
                self._lost(process)
                return
            if kind == "did":
                if answer := self._asked.pop((process, words[0]), None):
                    answer.set_result(words[1])
            elif kind == "ask":
                threading.Thread(target=self._answer, args=(process, *words), daemon=True).start()
            else:
                with self._changed:
                    if kind == "loaded":
                        folder, version = words
                        process.reached[folder] = max(version, process.reached.get(folder, version))
                        self._waiting.append((process, folder, version))
                        self._let_go()
                    else:
                        process.listens = True
                        process.ready = kind == "ready" or process.ready
                    self._changed.notify_all()

    def _let_go(self) -> None:
        # One that takes another's place may begin with a higher version than that which the others wait with.
        counted = [each for each in self._processes if each.first or each.ready]
        for waiting in list(self._waiting):
            process, folder, version = waiting
            if all(each.reached.get(folder, -1) >= version for each in counted):
                self._waiting.remove(waiting)
                process.say("go", folder, version)

    def _lost(self, process: _Process) -> None:
        process.process.join()
        with self._changed:
            self._processes.remove(process)
            if process.counted:
                self._counted.append(process.counted)
            for key in [key for key in self._asked if key[0] is process]:
                self._asked.pop(key).set_result((False, ("UNAVAILABLE", "a process of the server ended")))
            code = process.process.exitcode
            if process.first and not process.listens and not self._failed:
                self._failed = (
                    f"a process of the server ended with code {code} before it listened; what it said stands above"
                )
            self._waiting = [waiting for waiting in self._waiting if waiting[0] is not process]
            self._let_go()
            self._changed.notify_all()
        if self._stopping.is_set() or self._failed:
            return
        _logger.warning("process %d ended with code %s: another one takes its place", process.process.pid, code)
        if time.monotonic() - process.began < _SHORT_LIFE:
            self._stopping.wait(_PAUSE)
        with self._lock:
            if not self._stopping.is_set():
                self._start(first=False)

    def _ask_all(self, what: str, value: Any, seconds: float) -> dict[_Process, Answer]:
        deadline = time.monotonic() + seconds
        with self._lock:
            asked = {}
            for process in self._processes:
                number = next(self._numbers)
                asked[process] = self._asked[process, number] = Future()
                process.say("do", number, what, value)
        answers: dict[_Process, Answer] = {}
        for process, answer in asked.items():
            try:
                answers[process] = answer.result(max(0.0, deadline - time.monotonic()))
            except LateError:
                words = f"process {process.process.pid} of the server did not answer within {seconds:g} s"
                answers[process] = False, ("DEADLINE_EXCEEDED", words)
        return answers

    def _answer(self, process: _Process, number: int, what: str, value: Any) -> None:
        answer = (True, self._count_all()) if what == "metrics" else self._change_all(value, what)
        process.say("answer", number, answer)

    def _count_all(self) -> list[Any]:
        for process, (well, counted) in self._ask_all("metrics", None, _COUNT_SECONDS).items():
            if well:
                process.counted = counted
        with self._lock:
            return [*self._counted, *(each.counted for each in self._processes if each.counted)]

    def _change_all(self, models: tuple[ModelConfig, ...], change: str) -> Answer:
        with self._change:
            # All of them first say whether they can, so that none changes alone.
            for step in ("check", change):
                if step == change:
                    # Before they are asked: one that takes another's place meanwhile is to begin with these.
                    self._models = models
                refused = self._refused(step, models)
                if refused and step == "check" and refused[0][1][0] == "FAILED_PRECONDITION":
                    # Who asks one whether it has a version, and then for its label, must not be ahead of the others.
                    time.sleep(_MOMENT)
                    refused = self._refused(step, models)
                if refused:
                    return refused[0]
            return True, None

    def _refused(self, step: str, models: tuple[ModelConfig, ...]) -> list[Answer]:
        return [answer for answer in self._ask_all(step, models, _STEP_SECONDS).values() if not answer[0]]


class Server(Protocol):
    """One process or several; serves while its context is open."""

    grace_seconds: float

    @property
    def models(self) -> Sequence[ModelConfig]:
        """What is served."""

    def change(self, models: Sequence[ModelConfig]) -> None:
        """Serves other models from now on."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


def serve_until_ended(server: Server, config_file: str | Path | None = None, poll_seconds: float = 0.0) -> None:
    """Serves until SIGTERM or SIGINT; arguments and errors as for :func:`ctr.serving.server.serve_forever`."""
    ended = Ended()
    try:
        with server:
            _logger.info("listening on %s", server)
            if config_file is not None and poll_seconds > 0:
                followed = FollowedConfig(config_file, server.models, server.change)
                while not ended.wait(poll_seconds):
                    followed.look()
            ended.wait()
            _logger.info("stopping: requests under way have %g s to finish", server.grace_seconds)
    finally:
        ended.restore()
