from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Group
from rich.text import Text

from ctr.pipeline.process.terminal import Terminal, output_to_log, show, width

_NOISY = """
import logging, os, subprocess, sys, warnings
from ctr.pipeline.process.terminal import output_to_log
print("before")
with output_to_log(sys.argv[1]) as terminal:
    print("library print")
    logging.info("library record")
    warnings.warn("library warning")
    os.write(2, b"native noise\\n")
    subprocess.run([sys.executable, "-c", "print('child noise')"], check=True)
    terminal.write("a line for the user\\n")
    print("a bar for the user", file=sys.stderr)
print("after")
print("after on stderr", file=sys.stderr)
"""


def test_noise_goes_to_the_log_and_the_runs_lines_to_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    done = subprocess.run([sys.executable, "-c", _NOISY, str(log)], capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\n"
    assert done.stderr == "a line for the user\na bar for the user\nafter on stderr\n"
    text = log.read_text()
    for noise in ("library print", "library record", "library warning", "native noise", "child noise"):
        assert noise in text


def test_everything_is_put_back_after_an_error(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, root.handlers[:], root.level, warnings.showwarning, os.fstat(2))
    with pytest.raises(ZeroDivisionError), output_to_log(str(tmp_path / "run.log")):
        1 / 0  # noqa: B018
    assert (sys.stdout, sys.stderr, root.handlers[:], root.level, warnings.showwarning, os.fstat(2)) == before


def test_a_log_is_continued(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for word in ("first", "second"):
        with output_to_log(str(log)):
            print(word)
    assert log.read_text() == "first\nsecond\n"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_quiet_terminal_hears_nothing_and_a_verbose_one_the_libraries(tmp_path: Path) -> None:
    noisy = _NOISY.replace("output_to_log(sys.argv[1])", "output_to_log(sys.argv[1], Terminal(**{sys.argv[2]: True}))")
    noisy = noisy.replace("import output_to_log", "import Terminal, output_to_log")
    heard = {}
    for amount in ("quiet", "verbose"):
        command = [sys.executable, "-c", noisy, str(tmp_path / f"{amount}.log"), amount]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "before\nafter\n"
        heard[amount] = done.stderr
        assert "library record" in (tmp_path / f"{amount}.log").read_text()
    assert heard["quiet"] == "after on stderr\n"
    assert "library record" in heard["verbose"]
    assert "a line for the user" in heard["verbose"]
    # Of a program, not of a library's logger.
    assert "native noise" not in heard["verbose"]


def test_what_is_waited_for_leaves_a_terminal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    with Terminal().loading("x" * 100):
        assert screen.getvalue() == f"Loading {'x' * 31}"
    assert screen.getvalue().endswith("\r\x1b[K")
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with Terminal().loading():
        assert file.getvalue() == "Loading TensorFlow and TFX ...\n"
    assert file.getvalue() == "Loading TensorFlow and TFX ...\n"
    with Terminal(quiet=True).loading():
        pass
    assert file.getvalue() == "Loading TensorFlow and TFX ...\n"


def test_notes_fit_the_terminal_and_keep_paths_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    path = "/" + "long/" * 20
    Terminal().note(f"word by word by word by word by word: {path}\nsecond")
    assert screen.getvalue().splitlines() == ["word by word by word by word by word:", path, "second"]


@pytest.mark.parametrize(
    ("environment", "columns"), [({"COLUMNS": "120"}, 120), ({}, 80), ({"COLUMNS": "no"}, 80), ({"COLUMNS": "3"}, 40)]
)
def test_the_width_is_the_terminals_or_80(
    environment: dict[str, str], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "__stdout__", open(os.devnull, "w"))  # noqa: SIM115
    assert width() == columns


@pytest.mark.parametrize(
    ("environment", "is_terminal", "codes"),
    [
        ({"TERM": "xterm-256color"}, True, ["32", "1"]),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, ["1"]),
        ({"TERM": "dumb"}, True, []),
        ({"TERM": "xterm-256color"}, False, []),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str], is_terminal: bool, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", out := Screen() if is_terminal else io.StringIO())
    show(lambda columns: Group(Text("good", style="bold green")))
    assert re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()) == "good\n"
    found = set(re.findall(r"\d+", " ".join(re.findall(r"\x1b\[([\d;]*)m", out.getvalue())))) - {"0"}
    assert found == set(codes)
