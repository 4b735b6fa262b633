"""Work in a process of its own, which takes with it all the memory that it used.

TensorFlow keeps graphs and what it optimised of them until the process ends, whoever has let go of them: 40 MB and more
a trial. A new process would import TensorFlow each time, which takes longer than a small trial. So one server process
imports it once, starts nothing, and is forked for each piece of work.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final

from ctr.models.errors import CtrError
from ctr.pipeline.process.errors import reason

_RESULT: Final = b"="
_ERROR: Final = b"!"
_QUIET: Final = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
_SECONDS_TO_END: Final = 10.0


class ChildFailed(CtrError):
    """The work did not come to its end; the message says why."""


def in_child(work: Callable[..., str], *arguments: str, imports: Sequence[str] = ()) -> str:
    """Calls ``work(*arguments)`` in a process of its own, which ends with this one.

    Args:
      work: a function of a module.
      *arguments: of it.
      imports: modules that the server process imports, the first time that there is one.

    Raises:
      ChildFailed: if it raises, or its process ends without a word.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_call, args=(theirs, work, arguments), name=work.__name__)
    with _quiet_imports():
        child.start()
    theirs.close()
    try:
        answer = ours.recv_bytes()
        child.join(_SECONDS_TO_END)
    except EOFError:
        child.join()
        raise ChildFailed(_ended(child.exitcode)) from None
    finally:
        # At its end already, unless this process was interrupted.
        ours.close()
        child.kill()
        child.join()
    text = answer[1:].decode()
    if answer[:1] == _ERROR:
        raise ChildFailed(text)
    return text


def _call(answers: Connection, work: Callable[..., str], arguments: Sequence[str]) -> None:
    # Ctrl-C reaches the whole group of processes; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _RESULT + work(*arguments).encode()
    except Exception as error:
        answer = _ERROR + reason(error).encode()
    answers.send_bytes(answer)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Imports write to the terminal; the server process has the environment of its start."""
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; where memory ran out, the kernel's log says so" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"
