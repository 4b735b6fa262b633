from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import ctr
from ctr.components import provenance
from ctr.components.provenance import Provenance, gather

GIT = shutil.which("git")


def git(folder: Path, *arguments: str) -> str:
    if GIT is None:
        pytest.skip("git is not installed")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.check_output((GIT, "-C", str(folder), *identity, *arguments), text=True).strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of a package whose rooms are links, as here."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.py").write_text("a = 1\n")
    (tmp_path / "ctr").mkdir()
    (tmp_path / "ctr" / "__init__.py").touch()
    (tmp_path / "ctr" / "models").symlink_to("../models")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "a")
    return tmp_path


def test_this_process() -> None:
    found = gather()
    assert found.version == ctr.__version__
    assert found.packages["numpy"] == np.__version__
    assert set(found.packages) >= {"tfx", "tensorflow", "apache-beam", "ml-metadata"}
    assert found.python == platform.python_version()
    assert found.cpus >= 1
    assert Provenance.model_validate_json(found.model_dump_json()) == found
    assert found.code.startswith(ctr.__version__)
    assert found.python in found.host


def test_a_checkout_has_a_commit_and_may_have_changes(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance._checkout(checkout / "ctr") == (commit, False)
    # Neither code nor known to Git.
    (checkout / "notes.txt").touch()
    assert provenance._checkout(checkout / "ctr") == (commit, False)
    (checkout / "models" / "a.py").write_text("a = 2\n")
    assert provenance._checkout(checkout / "ctr") == (commit, True)
    git(checkout, "checkout", "--quiet", ".")
    (checkout / "models" / "b.py").touch()
    assert provenance._checkout(checkout / "ctr") == (commit, True)


def test_a_package_installed_within_another_checkout_has_none(checkout: Path) -> None:
    installed = checkout / ".venv" / "ctr"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert provenance._checkout(installed) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance._checkout(checkout / "ctr") == (None, None)


def test_gpus_are_those_that_the_driver_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 42\n")
    monkeypatch.setattr(provenance, "_GPUS", tmp_path)
    assert list(provenance._gpus()) == ["NVIDIA H100 80GB HBM3"] * 2
    here = gather().model_copy(update={"gpus": ("NVIDIA H100",), "commit": "0123456789abcdef", "changed": True})
    assert "NVIDIA H100;" in here.host
    assert here.code == f"{ctr.__version__}, commit 0123456789ab with changes"
