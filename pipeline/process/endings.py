"""What a signal that asks the process to end does: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

A run cannot be unwound in a bounded time: Beam wraps what is raised in a node and joins its workers, TensorFlow does
not return to Python for seconds. So a run is written to bear SIGKILL at any moment, and its ending is one that says
goodbye: the process replaces itself (``execve``) by a small one that marks its executions in ML Metadata. Nothing of
the run goes on beside it, and no lock of a thread can hold it. Everything else that a command does is left by an
exception in the main thread, and by force where that does not come out in time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS: Final = 3.0
"""What the main thread has to come out of what it does."""
EXIT_CODE: Final = "CTR_PIPELINE_EXIT_CODE"
"""Environment variable of what takes the process's place: the code to exit with."""
RUN_PROCESS: Final = "CTR_PIPELINE_PROCESS"
"""Environment variable of processes that a run starts: the run's own, which they are to end with."""

_STOP: Final = b"\0"


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal.

    Attributes:
      code: the exit code, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} before the end")
        self.code = 128 + number


class _Endings:
    """The handlers of one process and the thread that acts where the main thread cannot."""

    def __init__(self) -> None:
        # A signal reaches the pipe even while the main thread is in C++; the handler in Python has to wait for it.
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Standard error may lie in a log when the process has to be ended.
        self._terminal = os.dup(sys.stderr.fileno())
        self._last_words: Callable[[int], None] | None = None
        self._signalled = self._raised = False
        self._before: dict[int, object] = {}

    def install(self) -> None:
        for number in SIGNALS:
            # Ignored from the start: a shell's background job, or nohup.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="endings", daemon=True).start()

    def remove(self) -> None:
        if self._signalled:
            # Until the interpreter is down: it joins threads, which may take for ever.
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._fd_before)
        os.write(self._write, _STOP)

    @contextlib.contextmanager
    def last_words(self, act: Callable[[int], None]) -> Iterator[None]:
        self._last_words = act
        try:
            yield
        finally:
            self._last_words = None

    def say(self, line: str) -> None:
        """Writes to the terminal, past every lock that a thread may hold; never waits for a reader."""
        with contextlib.suppress(OSError):
            if select.select([], [self._terminal], [], 0.2)[1]:
                os.write(self._terminal, line.encode(errors="replace"))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signalled = True
        while self._last_words is not None:
            # The other thread ends the process; until then nothing of the run may go on here.
            time.sleep(0.1)
        if not self._raised:
            # Once: what unwinds now is left alone.
            self._raised = True
            raise Interrupted(number)

    def _watch(self) -> None:
        while True:
            number = os.read(self._read, 1)[0]
            if number == _STOP[0]:
                os.close(self._read)
                os.close(self._write)
                os.close(self._terminal)
                return
            # serve has a handler of its own; other signals write into the pipe as well.
            if signal.getsignal(number) == self._handle:
                break
        self._signalled = True
        if self._last_words is not None:
            self._last_words(number)
        else:
            # A second signal is one from somebody who does not want to wait.
            select.select([self._read], [], [], GRACE_SECONDS)
            self.say("interrupted\n")
        os._exit(128 + number)


_endings: _Endings | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handles the signals of :data:`SIGNALS` while the block runs, but for those that the process ignores already.

    The main thread gets :class:`Interrupted`. If it is not through after :data:`GRACE_SECONDS`, or at a second
    signal, the process is ended with the same exit code. Installed explicitly, this holds for process 1 of a
    container too, where the kernel drops a signal that has its default action.

    Call it from the main thread.
    """
    global _endings
    endings = _endings = _Endings()
    endings.install()
    try:
        yield
    finally:
        endings.remove()
        _endings = None


@contextlib.contextmanager
def last_words(line: Callable[[], str], command: Sequence[str] = ()) -> Iterator[None]:
    """What a signal does while the block runs, instead of an exception: nothing of the block goes on after it.

    Where no signal is handled, as in a process that is not ``ctr``, it changes nothing.

    Args:
      line: what the terminal gets; called in a thread of its own, while others hold whatever lock they hold.
      command: arguments of Python, which then take the process's place and end it with the code that
        stands in the environment as :data:`EXIT_CODE`; nothing ends it at once.
    """
    if _endings is None:
        yield
        return
    endings = _endings

    def act(number: int) -> None:
        endings.say(line())
        if command:
            # Kept by what comes next, which is not to be interrupted.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            # What can be imported here can be imported there.
            more = {"PYTHONPATH": os.pathsep.join(sys.path), EXIT_CODE: str(128 + number)}
            with contextlib.suppress(OSError):
                os.execve(sys.executable, [sys.executable, *command], {**os.environ, **more})  # noqa: S606 (no shell)

    with endings.last_words(act):
        yield
