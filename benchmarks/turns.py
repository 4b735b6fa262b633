"""Processes that measure in turn: each has its own interpreter, compiles once, and works only when it is its turn.

A side says ``READY`` and JSON when it has prepared what it was asked for, and ``RATE`` and two numbers after each
round: units a second, by the clock and by the processor's time that it took (user and system, all threads).
This module needs nothing but Python's own library, since the environments of peers hold nothing of this project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::FutureWarning"}
"""Libraries warn of the Python they run on at each import."""
Work = Callable[[], int]
"""Does some work, and gives how many units it was."""
Clock = Literal["wall", "cpu"]
CLOCKS: Final[tuple[Clock, ...]] = ("wall", "cpu")
"""In the order of what a side says. The processor's time is what a machine that others use can be measured by."""


class Side:
    """A process, and the rates that it measured.

    Args:
      name: of its row.
      command: what it runs, from the checkout.
      environment: beside that of this process.
      clock: of the rates.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], clock: Clock = "wall"
    ) -> None:
        self.name = name
        self.clock = clock
        self.rates: list[float] = []
        self.facts: dict[str, Any] = {}
        self._ready = False
        # What it says on standard error stands among the words of this process.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUIET, **environment},
            cwd=ROOT,
        )
        self._questions = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def prepare(self, *words: str) -> None:
        """Asks for work that is described so; the rates are those of it from now on."""
        self.rates = []
        self._ready = False
        self._ask("PREPARE", *words)

    def wait_until_ready(self) -> None:
        """Until it has compiled and worked once."""
        if not self._ready:
            self.facts = json.loads(self._answer("READY"))
            self._ready = True

    def round(self, seconds: float) -> None:
        """Works for so long, and keeps the rate."""
        self._ask("GO", str(seconds))
        self.rates.append(float(self._answer("RATE").split()[CLOCKS.index(self.clock)]))

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _ask(self, *words: str) -> None:
        try:
            self._questions.write(" ".join(words) + "\n")
            self._questions.flush()
        except BrokenPipeError:
            # Why it ended is said where an answer is waited for.
            pass

    def _answer(self, word: str) -> str:
        for line in self._answers:
            if line.startswith(word):
                return line[len(word) :]
        raise SystemExit(
            f"error: a side ended with code {self._process.wait()} before it said {word}; what it said stands above: "
            f"{' '.join(cast(list[str], self._process.args))}"
        )


def take_turns(sides: Sequence[Side], rounds: int, seconds: float) -> None:
    """Each side works in each round, one after another, when all are ready."""
    for side in sides:
        side.wait_until_ready()
    for _ in range(rounds):
        for side in sides:
            side.round(seconds)


def answer(prepare: Callable[..., tuple[Work, dict[str, Any]]]) -> None:
    """The other end of :class:`Side`: prepares what it is asked for, does it once, and then for the time of a round."""
    work: Work | None = None
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "PREPARE":
            work, facts = prepare(*rest)
            work()
            print(f"READY {json.dumps(facts)}", flush=True)
        elif work is not None:
            start, before, done = time.perf_counter(), time.process_time(), 0
            while (passed := time.perf_counter() - start) < float(rest[0]) or not done:
                done += work()
            print(f"RATE {done / passed} {done / (time.process_time() - before)}", flush=True)
