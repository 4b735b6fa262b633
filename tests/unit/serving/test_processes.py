"""The process above several that serve, where one of them hangs; what they do together is in tests/integration."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctr.models.errors import CtrError
from ctr.serving import processes
from ctr.serving.models_config import ModelConfig
from ctr.serving.processes import Plan, Processes


def test_one_that_hangs_neither_ends_the_others_nor_keeps_them_waiting(monkeypatch: Any) -> None:
    monkeypatch.setattr(processes, "_STEP_SECONDS", 0.05)
    monkeypatch.setattr(processes, "_COUNT_SECONDS", 0.05)
    before = (ModelConfig("ctr", Path("/a")),)
    several = Processes(Plan(before), 1)
    mine, _its = multiprocessing.Pipe()
    hangs = processes._Process(SimpleNamespace(pid=7), mine, first=True, counted="what it last said")
    several._processes.append(hangs)
    with pytest.raises(CtrError, match=r"process 7 of the server did not answer within 0\.05 s"):
        several.change([ModelConfig("ctr", Path("/b"))])
    assert several.models == before
    assert several._count_all() == ["what it last said"]
