from __future__ import annotations

import re
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "requirements"
STACKS = ("tfx-1.16", "tfx-1.21")
# The stack of the environment that this runs in.
STACK = "tfx-" + ".".join(metadata.version("tfx").split(".")[:2])


def listed(name: str) -> list[str]:
    """The packages that a file of requirements names, with those of the files that it includes."""
    lines = (line.split("#")[0].strip() for line in (FOLDER / name).read_text().splitlines())
    names: list[str] = []
    for line in filter(None, lines):
        names += listed(line[3:]) if line.startswith("-r ") else [re.split(r"[\[<>=!~ ]", line)[0]]
    return names


def text(stack: str) -> str:
    return (FOLDER / f"{stack}.lock").read_text()


def locked(stack: str) -> list[tuple[str, str]]:
    """Name and version of what the lock installs into this Python."""
    return [
        (name.lower(), version)
        for name, version, marker in re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*))? \\$", text(stack), re.MULTILINE)
        if not marker or Marker(marker).evaluate()
    ]


def test_every_direct_dependency_has_a_reason() -> None:
    reasons = [line.split("|")[1] for line in (ROOT / "docs/dependencies.md").read_text().splitlines() if "|" in line]
    documented = {re.split(r"\[", name)[0] for cell in reasons for name in re.findall(r"`([^`]+)`", cell)}

    # Of an extra that no environment of ours has.
    assert {name for stack in STACKS for name in listed(f"{stack}.in")} | {"boto3"} == documented


@pytest.mark.parametrize("stack", STACKS)
def test_lock_holds_what_is_asked_for_and_nothing_that_is_left_out(stack: str) -> None:
    packages = {name for name, _ in locked(stack)}

    assert {name.lower() for name in listed(f"{stack}.in")} <= packages
    assert not packages & set(listed("left-out.txt"))


@pytest.mark.parametrize("stack", STACKS)
def test_every_package_has_a_hash(stack: str) -> None:
    entries = re.split(r"^(?=[A-Za-z])", text(stack), flags=re.MULTILINE)[1:]

    assert len(entries) == len(re.findall(r"^[\w.-]+==", text(stack), re.MULTILINE)) > 100
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("stack", STACKS)
def test_lock_names_no_address_and_no_path(stack: str) -> None:
    assert re.findall(r"^.*(?:://|index-url|find-links|@ file|-e ).*$", text(stack), re.MULTILINE) == []
    assert re.findall(rf"-r (?!requirements/(?:{stack}|project|tests)\.in).*$", text(stack), re.MULTILINE) == []


def test_this_environment_is_the_lock() -> None:
    # Tests that ran before may have put setuptools' vendored packages on the path; they are not installed ones.
    installed = {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
        for distribution in metadata.distributions(path=[sysconfig.get_path("purelib")])
    }

    versions = {name: (version, installed.get(name)) for name, version in locked(STACK)}
    assert {name: pair for name, pair in versions.items() if pair[0] != pair[1]} == {}, "run make env"


@pytest.mark.parametrize(
    ("complaint", "missing"),
    [("tensorflow 2.16.2 requires libclang, which is not installed.", False),
     ("tensorflow 2.16.2 requires numpy, which is not installed.", True),
     ("tensorflow 2.16.2 has requirement libclang>=13, but you have libclang 12.", True)],
)  # fmt: skip
def test_check_allows_what_is_left_out_to_be_missing_and_nothing_else(
    tmp_path: Path, complaint: str, missing: bool
) -> None:
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\necho '{complaint}'\nexit 1\n")
    python.chmod(0o755)

    result = subprocess.run([FOLDER / "check", tmp_path], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == ((1, f"{complaint}\n") if missing else (0, "")), result.stderr


def test_check_fails_where_pip_cannot_say_anything(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/bin/false")

    assert subprocess.run([FOLDER / "check", tmp_path], capture_output=True, check=False).returncode == 1


def test_licence_of_every_locked_package_is_listed_and_what_is_shipped_is_not_under_the_gpl() -> None:
    rows = (line.split("\t") for line in (FOLDER / "licences.txt").read_text().splitlines())
    licences = dict(rows)
    packages = re.findall(r"^([\w.-]+)==", "".join(lock.read_text() for lock in FOLDER.glob("*.lock")), re.MULTILINE)

    assert list(licences) == sorted(set(packages)), "run requirements/licences.py"
    assert [name for name, licence in licences.items() if licence == "unknown"] == []
    assert {name for name, licence in licences.items() if "GPL" in licence} <= set(listed("tests.in"))
