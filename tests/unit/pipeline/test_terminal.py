from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pipeline.terminal import output_to_log

_NOISY = """
import logging, os, subprocess, sys, warnings
from pipeline.terminal import output_to_log
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
