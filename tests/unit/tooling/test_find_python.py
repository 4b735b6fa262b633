from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "find-python"
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A home and a PATH with the script's own tools and a compiler, and no Python."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("cat", "tail", "cc"):
        (commands / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    (tmp_path / "home").mkdir()
    return {"PATH": str(commands), "HOME": str(tmp_path / "home"), "CC": "cc", "CXX": "cc"}


def find(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)


def install(python: Path) -> str:
    """Puts the interpreter of this test at a path; a symbolic link keeps its headers and library."""
    python.parent.mkdir(parents=True)
    python.symlink_to(PYTHON)
    return f"{python}\n"


def test_pyenv_interpreter_is_found_behind_a_shim_that_refuses(machine: dict[str, str]) -> None:
    shim = Path(machine["PATH"]) / "python3.10"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    expected = install(Path(machine["HOME"], ".pyenv/versions/3.10.13/bin/python"))

    result = find(machine)

    assert (result.returncode, result.stdout) == (0, expected), result.stderr


def test_pyenv_root_is_respected(machine: dict[str, str], tmp_path: Path) -> None:
    expected = install(tmp_path / "elsewhere/versions/3.10.1/bin/python")

    assert find(machine | {"PYENV_ROOT": str(tmp_path / "elsewhere")}).stdout == expected


def test_interpreter_of_uv_is_found(machine: dict[str, str]) -> None:
    folder = "cpython-3.10.16-linux-x86_64-gnu"
    expected = install(Path(machine["HOME"], ".local/share/uv/python", folder, "bin/python3.10"))

    assert find(machine).stdout == expected


def test_given_python_is_used_or_refused_but_never_replaced(machine: dict[str, str]) -> None:
    install(Path(machine["HOME"], ".pyenv/versions/3.10.13/bin/python"))

    assert find(machine | {"PYTHON": PYTHON}).stdout == f"{PYTHON}\n"
    refused = find(machine | {"PYTHON": "/no/such/python"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "/no/such/python" in refused.stderr


def test_without_any_python_it_says_what_to_install(machine: dict[str, str]) -> None:
    result = find(machine)

    assert (result.returncode, result.stdout) == (1, "")
    for needed in ("Debian 12 and 13", "apt-get install -y make g++", "pyenv install 3.10", "uv python install 3.10"):
        assert needed in result.stderr


def test_missing_compiler_is_named(machine: dict[str, str]) -> None:
    result = find(machine | {"PYTHON": PYTHON, "CXX": "no-such-compiler -pthread"})

    assert result.returncode == 1
    assert "needs the compiler 'no-such-compiler -pthread'" in result.stderr
    assert "apt-get install g++" in result.stderr
