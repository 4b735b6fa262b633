from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ctr
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
