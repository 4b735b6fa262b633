from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("make") or pytest.skip("no make here"), "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The build files, beside an environment that claims to hold what the lock says."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "requirements").mkdir()
    for name in ("requirements/tfx-1.16.lock", ".venv/installed.lock"):
        (tmp_path / name).write_text("installed==1\n")
    (tmp_path / ".venv/bin").mkdir()
    (tmp_path / ".venv/bin/ctr").touch(mode=0o755)
    return tmp_path


def test_make_alone_lists_every_target() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None

    result = make(ROOT)

    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()] == declared[1].split()
    assert all(len(line.split()) > 2 for line in result.stdout.splitlines())


def test_environment_that_holds_the_lock_is_left_alone(copy: Path) -> None:
    # Newer by its time, equal by its content: as after a checkout.
    (copy / "requirements/tfx-1.16.lock").touch()

    result = make(copy, "env")

    assert (result.returncode, result.stdout) == (0, "")


def test_other_lock_is_installed_and_a_missing_python_stops_it(copy: Path) -> None:
    (copy / "requirements/tfx-1.16.lock").write_text("other==1\n")

    result = make(copy, "env", "PYTHON=/no/such/python")

    assert result.returncode != 0
    assert "/no/such/python" in result.stderr
    assert (copy / ".venv/installed.lock").read_text() == "installed==1\n"


def test_clean_keeps_the_environment_and_trained_models(copy: Path) -> None:
    kept = [copy / "output/serving/ctr/1/saved_model.pb", copy / ".venv/lib/__pycache__/module.pyc"]
    removed = [copy / "output/demo/log.csv", copy / "models/__pycache__/din.pyc", copy / ".mypy_cache/x"]
    for file in kept + removed:
        file.parent.mkdir(parents=True)
        file.touch()

    assert make(copy, "clean").returncode == 0

    assert all(file.exists() for file in kept)
    assert not any(file.exists() for file in removed)


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [("getconf", "echo glibc 2.41", "this system is new enough for the stack: make test ran on it"),
     ("getconf", "echo glibc 3.0", "this system is new enough for the stack: make test ran on it"),
     ("getconf", "exit 1", "no glibc here, and a chroot of Debian 13 needs Linux"),
     ("id", "echo 1000", "only root may make a chroot"),
     ("unshare", "exit 1", "this container may not mount")],
)  # fmt: skip
def test_next_stack_is_skipped_with_a_reason(tmp_path: Path, command: str, answer: str, reason: str) -> None:
    answers = {"getconf": "echo glibc 2.36", "id": "echo 0", "unshare": "exit 0"} | {command: answer}
    for name, text in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    result = subprocess.run(
        [ROOT / ".ci/test-next"], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout) == (0, f"test-next: skipped: {reason}\n"), result.stderr
