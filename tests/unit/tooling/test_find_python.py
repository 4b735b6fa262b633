from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "find-python"
PYTHON = os.path.realpath(sys.executable)
# The stack of this interpreter, a C library that it is for, and the version that would be fetched for it.
VERSION = "{}.{}".format(*sys.version_info)
STACK, LIBC, NEWEST = ("tfx-1.16", "glibc 2.36", "3.10") if VERSION == "3.10" else ("tfx-1.21", "glibc 2.41", "3.13")


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A home and a PATH with the script's own tools, a compiler and the C library of its stack, and no Python."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("cat", "tail", "cc", "dirname", "sed", "mkdir"):
        (commands / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    libc(commands, LIBC)
    (tmp_path / "home").mkdir()
    return {"PATH": str(commands), "HOME": str(tmp_path / "home"), "CC": "cc", "CXX": "cc"}


def find(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def libc(commands: Path, version: str) -> None:
    script(commands / "getconf", f"echo {version}")


def install(python: Path) -> str:
    """Puts the interpreter of this test at a path; a symbolic link keeps its headers and library."""
    python.parent.mkdir(parents=True)
    python.symlink_to(PYTHON)
    return f"{STACK} {python}\n"


def pretend(python: Path, version: str) -> str:
    """Puts an interpreter there that is suitable where its version is asked for."""
    script(python, f'shift 2; case " $* " in *" {version} "*) ;; *) echo "is Python {version}, not $*"; exit 1 ;; esac')
    return f"{python}\n"


def test_pyenv_interpreter_is_found_behind_a_shim_that_refuses(machine: dict[str, str]) -> None:
    script(Path(machine["PATH"]) / f"python{VERSION}", "echo 'pyenv: python: command not found' >&2; exit 127")
    expected = install(Path(machine["HOME"], f".pyenv/versions/{VERSION}.13/bin/python"))

    result = find(machine)

    assert (result.returncode, result.stdout) == (0, expected), result.stderr


def test_pyenv_root_is_respected(machine: dict[str, str], tmp_path: Path) -> None:
    expected = install(tmp_path / f"elsewhere/versions/{VERSION}.1/bin/python")

    assert find(machine | {"PYENV_ROOT": str(tmp_path / "elsewhere")}).stdout == expected


def test_interpreter_of_uv_is_found(machine: dict[str, str]) -> None:
    folder = f"cpython-{VERSION}.16-linux-x86_64-gnu"
    expected = install(Path(machine["HOME"], ".local/share/uv/python", folder, f"bin/python{VERSION}"))

    assert find(machine).stdout == expected


def test_given_python_is_used_or_refused_but_never_replaced(machine: dict[str, str]) -> None:
    install(Path(machine["HOME"], f".pyenv/versions/{VERSION}.13/bin/python"))

    assert find(machine | {"PYTHON": PYTHON}).stdout == f"{STACK} {PYTHON}\n"
    refused = find(machine | {"PYTHON": "/no/such/python"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "/no/such/python" in refused.stderr


@pytest.mark.parametrize(
    ("glibc", "pythons", "answer"),
    [("glibc 2.41", ("3.10", "3.13"), "tfx-1.21 3.13"), ("glibc 2.39", ("3.11", "3.12"), "tfx-1.21 3.12"),
     ("glibc 3.0", ("3.13",), "tfx-1.21 3.13"), ("glibc 2.41", ("3.10", "3.14"), "tfx-1.16 3.10"),
     ("glibc 2.38", ("3.10", "3.13"), "tfx-1.16 3.10"), ("glibc 2.9", ("3.10", "3.13"), "tfx-1.16 3.10")],
)  # fmt: skip
def test_c_library_and_pythons_decide_the_stack(
    machine: dict[str, str], glibc: str, pythons: tuple[str, ...], answer: str
) -> None:
    commands = Path(machine["PATH"])
    libc(commands, glibc)
    for version in pythons:
        pretend(commands / f"python{version}", version)

    result = find(machine)

    stack, version = answer.split()
    assert result.stdout == f"{stack} {commands}/python{version}\n", result.stderr
    assert result.stderr == (
        f"This machine has {glibc}: stack {stack} (requirements/{stack}.lock) with {commands}/python{version}\n"
    )


def test_stack_can_be_chosen(machine: dict[str, str]) -> None:
    expected = pretend(Path(machine["PATH"], "python3.12"), "3.12")

    assert find(machine | {"STACK": "tfx-1.21"}).stdout == f"tfx-1.21 {expected}"
    refused = find(machine | {"STACK": "tfx-2"})
    assert (refused.returncode, refused.stderr) == (1, "STACK is 'tfx-2': give tfx-1.21 or tfx-1.16\n")


def test_missing_python_is_fetched_by_the_locks_own_uv(machine: dict[str, str], tmp_path: Path) -> None:
    commands, home = Path(machine["PATH"]), Path(machine["HOME"])
    tools, fetched = home / ".cache/ctr-pipeline/uv", home / f".local/share/uv/python/cpython-{NEWEST}.1-linux/bin"
    asked = tmp_path / "asked"
    # Any python3 makes the environment and installs uv into it, which then "downloads" the interpreter.
    script(
        commands / "python3",
        f"""case "$*" in
        "-m venv "*) {shutil.which("cp")} -r {tmp_path}/tools/. {tools} ;;
        *) echo "is Python 3.9"; exit 1 ;;
        esac""",
    )
    (tmp_path / "tools/bin").mkdir(parents=True)
    script(tmp_path / "tools/bin/python", f'echo "$*" >> {asked}')
    script(
        tmp_path / "tools/bin/uv",
        f'echo "$*" >> {asked}; mkdir -p {fetched}; {shutil.which("ln")} -s {PYTHON} {fetched}/python{NEWEST}',
    )

    result = find(machine)

    assert result.stdout == f"{STACK} {fetched}/python{NEWEST}\n", result.stderr
    pip, uv = asked.read_text().splitlines()
    assert re.fullmatch(rf"-m pip install .*--require-hashes -r {tools}/uv.lock", pip)
    assert uv == f"python install --no-bin {NEWEST}"
    lock = (tools / "uv.lock").read_text()
    assert re.match(r"uv==\S+ \\\n +--hash=sha256:", lock)
    assert len(re.findall("^\\w", lock, re.MULTILINE)) == 1


def test_without_any_python_it_says_what_to_install(machine: dict[str, str]) -> None:
    result = find(machine)

    assert (result.returncode, result.stdout) == (1, "")
    for needed in (LIBC, "python3-venv python3-dev", "apt-get install -y make g++", "pyenv install 3.10"):
        assert needed in result.stderr


def test_missing_compiler_is_named(machine: dict[str, str]) -> None:
    result = find(machine | {"PYTHON": PYTHON, "CXX": "no-such-compiler -pthread"})

    assert result.returncode == 1
    assert "needs the compiler 'no-such-compiler -pthread'" in result.stderr
    assert "apt-get install g++" in result.stderr
