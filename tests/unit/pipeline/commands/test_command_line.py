from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctr
from ctr.pipeline.commands.cli import _parser, main
from ctr.pipeline.commands.command_line import program

ROOT = Path(__file__).parents[4]


def test_the_program_is_named_as_it_is_called_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert program() == ".venv/bin/python -m ctr"
    script = python.with_name("ctr")
    script.touch(mode=0o755)
    assert program() == ".venv/bin/ctr"
    monkeypatch.chdir("/")
    assert program() == str(script.relative_to("/"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert program() == str(script)
    # In an activated environment, and in a container.
    monkeypatch.setenv("PATH", str(python.parent))
    assert program() == "ctr"


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ctr", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == f"ctr-pipeline {ctr.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("serve --port http", "argument --port: 'http' is no port; choose 0 to 65535"),
        ("serve --rest-port 70000", "argument --rest-port: '70000' is no port; choose 0 to 65535"),
        ("serve --request-log-rate nan", "'nan' is no share; choose above 0 and at most 1"),
        ("serve --request-log-max-mb 0", "'0' is no size; choose above 0 megabytes"),
        ("predict --output x --concurrency 1001", "'1001' is no number of requests; choose 1 to 1000"),
        ("predict --output x --timeout soon", "'soon' is no time to wait; choose 0 or more seconds"),
        ("release canary 0", "argument VERSION: '0' is no whole number of at least 1"),
        ("release status --wait-seconds 0", "'0' is no time to wait; choose more than 0 seconds"),
        ("release canary 1 --min-tau high", "'high' is no number; give one, or none for no bound"),
        ("sweep --data x --alphas 0,a", "'a' is no share; choose 0 to 1"),
        ("runs --last x", "argument --last: 'x' is no whole number of at least 1"),
    ],
)
def test_a_number_that_is_none_is_told_what_it_must_be(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


def test_no_option_is_refused_in_the_name_of_a_function() -> None:
    # Of another error argparse says: invalid NAME_OF_THE_FUNCTION value.
    for option in options_of(_parser()):
        if option.type not in (None, int, float):
            assert callable(option.type)
            with contextlib.suppress(argparse.ArgumentTypeError):
                option.type("no such value")
