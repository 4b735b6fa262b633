from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ctr.components import locks
from ctr.components.locks import Owner, held, taken_over

_HOLDS = """
import sys, time
from ctr.components.locks import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def _owner(path: Path) -> Owner:
    with taken_over(str(path)) as owner:
        return owner


def _holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLDS, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = _holder(path)
    try:
        assert _owner(path) is Owner.LIVING
    finally:
        holder.kill()
        holder.communicate()
    assert _owner(path) is Owner.DEAD


def test_of_two_heirs_one_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(str(path)):
        pass
    with taken_over(str(path)) as first, taken_over(str(path)) as second:
        assert (first, second) == (Owner.DEAD, Owner.LIVING)


def test_another_machines_lock_may_be_held_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    with monkeypatch.context() as patch:
        patch.setattr(locks, "_machine", lambda: ("another kernel", "another-host"))
        with held(str(path)):
            pass
    assert _owner(path) is Owner.UNKNOWN


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_without_a_lock_nothing_is_known(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "lock"
    if text is not None:
        path.write_text(text)
    assert _owner(path) is Owner.UNKNOWN
