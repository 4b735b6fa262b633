from __future__ import annotations

import re
import sysconfig
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()


def direct_dependencies() -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.in").read_text().splitlines())
    return [re.split(r"[\[<>=!~ ]", line)[0] for line in lines if line]


def locked() -> dict[str, str]:
    return {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK, re.MULTILINE)}


def test_every_direct_dependency_is_locked_and_has_a_reason() -> None:
    reasons = [line.split("|")[1] for line in (ROOT / "docs/dependencies.md").read_text().splitlines() if "|" in line]
    documented = {re.split(r"\[", name)[0] for cell in reasons for name in re.findall(r"`([^`]+)`", cell)}

    assert set(direct_dependencies()) == documented
    assert {name.lower() for name in direct_dependencies()} <= locked().keys()


def test_every_package_has_a_hash() -> None:
    entries = re.split(r"^(?=[A-Za-z])", LOCK, flags=re.MULTILINE)[1:]

    assert len(entries) == len(locked())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_lock_names_no_address_and_no_path() -> None:
    assert re.findall(r"^.*(?:://|index-url|find-links|@ file|-e ).*$", LOCK, re.MULTILINE) == []
    assert re.findall(r"-r (?!requirements\.in$).*$", LOCK, re.MULTILINE) == []


def test_this_environment_is_the_lock() -> None:
    # Tests that ran before may have put setuptools' vendored packages on the path; they are not installed ones.
    installed = {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
        for distribution in metadata.distributions(path=[sysconfig.get_path("purelib")])
    }

    versions = {name: (version, installed.get(name)) for name, version in locked().items()}
    assert {name: pair for name, pair in versions.items() if pair[0] != pair[1]} == {}, "run make env"
