"""What a process of its own gives and what ends it; without TensorFlow."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

from ctr.pipeline.sweep.child import ChildFailed, in_child


def joined(*words: str) -> str:
    return f"{' '.join(words)} {os.getpid()}"


def raises(word: str) -> str:
    raise ValueError(f"no {word}")


def killed() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def leaves() -> str:
    os._exit(7)


def waits(file: str) -> str:
    Path(file).write_text(str(os.getpid()))
    # Ctrl-C reaches this process, too; to end it is the parent's part.
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)
    return ""


def calls_waits(file: str) -> str:
    return in_child(waits, file)


def pid_in(file: Path) -> int:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


def has_ended(pid: int) -> bool:
    for _ in range(1200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_each_call_has_a_process_of_its_own() -> None:
    *words, first = in_child(joined, "Straße", "2").split()
    *_, second = in_child(joined).split()
    assert words == ["Straße", "2"]
    assert len({first, second, str(os.getpid())}) == 3
    assert not active_children()


@pytest.mark.parametrize(
    ("work", "arguments", "says"),
    [
        (raises, ("luck",), r"^ValueError: no luck$"),
        (killed, (), "^its process was ended by SIGKILL; where memory ran out, the kernel's log says so$"),
        (leaves, (), "^its process ended with exit code 7$"),
    ],
)
def test_what_does_not_come_to_its_end_says_why(work: object, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(ChildFailed, match=says):
        in_child(work, *arguments)  # type: ignore[arg-type]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As at a terminal; the tests may run in a shell's background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def press() -> None:
        pid_in(file)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        in_child(waits, str(file))
    assert has_ended(pid_in(file))


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    parent: list[int] = []

    def kill_the_parent() -> None:
        pid_in(file)
        parent.extend(child.pid for child in active_children() if child.pid is not None)
        os.kill(parent[0], signal.SIGKILL)

    threading.Thread(target=kill_the_parent).start()
    with pytest.raises(ChildFailed, match="SIGKILL"):
        in_child(calls_waits, str(file))
    assert has_ended(pid_in(file))
