from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

import pytest

from ctr.pipeline.process.progress import ComponentProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test_progress")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def test_one_line_a_component_with_its_time(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ComponentProgress(stream, total=2, clock=clock)
    logger.addHandler(progress)
    logger.info("node %s is running.", "ImpressionGen")
    assert progress.running == "ImpressionGen"
    logger.info("A cached execution %d is used.", 7)
    clock.now += 0.2
    logger.info("node %s is finished.", "ImpressionGen")
    logger.info("node %s is running.", "Trainer")
    logger.info("Going to run a new execution %d", 8)
    clock.now += 61.26
    logger.info("node %s is finished.", "Trainer")
    assert progress.running is None
    assert progress.finished == ["ImpressionGen", "Trainer"]
    assert [line.split() for line in stream.getvalue().splitlines()] == [
        ["[", "1/2]", "ImpressionGen", "cached"],
        ["[", "2/2]", "Trainer", "61.3", "s"],
    ]


def test_a_terminal_sees_the_component_while_it_runs(logger: logging.Logger) -> None:
    stream = Terminal()
    logger.addHandler(ComponentProgress(stream, total=9, clock=Clock()))
    logger.info("Component Transform is running.")
    assert stream.getvalue().rstrip().endswith("Transform            ...")
    logger.info("Component Transform is finished.")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("0.0 s\n")


def test_a_failure_completes_the_line_and_keeps_the_name(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ComponentProgress(stream, total=3, clock=clock)
    logger.addHandler(progress)
    logger.info("node AnomalyGate is running.")
    clock.now += 3
    progress.fail()
    assert "AnomalyGate" in stream.getvalue()
    assert "failed after 3.0 s" in stream.getvalue()
    assert progress.running == "AnomalyGate"


def test_a_component_is_within_what_is_put_around_it(logger: logging.Logger) -> None:
    seen = []

    @contextlib.contextmanager
    def around(component: str) -> Iterator[None]:
        seen.append(f"{component} starts")
        yield
        seen.append(f"{component} ends")

    progress = ComponentProgress(io.StringIO(), total=3, around=around)
    logger.addHandler(progress)
    for message in ("node A is running.", "node A is finished.", "A cached execution 3 is used.", "node B is running."):
        logger.info(message)
    assert seen == ["A starts", "A ends", "B starts"]
    progress.fail()
    assert seen[3:] == ["B ends"]


def test_other_messages_are_ignored(logger: logging.Logger) -> None:
    stream = io.StringIO()
    progress = ComponentProgress(stream, total=3)
    logger.addHandler(progress)
    progress.fail()
    for message in ("Running launcher for id: 7", "node X is scheduled.", "A cached execution 3 is used.", "100 %"):
        logger.info(message)
    assert stream.getvalue() == ""


def test_a_terminal_sees_what_the_running_component_says(logger: logging.Logger) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        logger.addHandler(ComponentProgress(stream, total=9, clock=Clock()))
    logger.info("Component ImpressionGen is running.")
    logger.info("Progress of Trainer: 3 of 4 epochs")
    logger.info("Progress of ImpressionGen: 0:10: reading, 5 rows")
    assert terminal.getvalue().rsplit("\x1b[K", 1)[1].split(maxsplit=3)[2:] == [
        "ImpressionGen",
        "0:10: reading, 5 rows",
    ]
    assert "epochs" not in terminal.getvalue()
    assert file.getvalue() == ""


def test_a_line_that_is_written_over_is_no_wider_than_the_terminal(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    logger.addHandler(ComponentProgress(terminal, total=9, clock=Clock()))
    logger.info("Component ImpressionGen is running.")
    logger.info(f"Progress of ImpressionGen: {'many words ' * 20}")
    assert [len(line) for line in terminal.getvalue().split("\r\x1b[K")] == [0, 31, 59]


def test_beside_log_lines_nothing_is_written_over(logger: logging.Logger) -> None:
    terminal = Terminal()
    logger.addHandler(ComponentProgress(terminal, total=9, clock=Clock(), in_place=False))
    for message in ("Component X is running.", "Progress of X: 3", "Component X is finished."):
        logger.info(message)
    assert terminal.getvalue().split() == ["[", "1/9]", "X", "0.0", "s"]
