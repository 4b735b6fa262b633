from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.command_line import program

ROOT = Path(__file__).parents[4]


def test_the_program_is_named_as_it_is_called_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert program() == ".venv/bin/python -m pipeline"
    monkeypatch.chdir("/")
    assert program() == f"{python.relative_to('/')} -m pipeline"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert program() == f"{python} -m pipeline"
    # In an activated environment, and in a container.
    monkeypatch.setenv("PATH", str(python.parent))
    assert program() == "python -m pipeline"


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == f"ctr-pipeline {version}\n"
