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
from ctr.serving.processes import Answer, Plan, Processes


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


@pytest.mark.parametrize("moments", [1, 2])
def test_a_label_may_follow_at_once_where_a_version_has_begun_to_answer(monkeypatch: Any, moments: int) -> None:
    monkeypatch.setattr(processes, "_MOMENT", 0.0)
    before, after = (ModelConfig("ctr", Path("/a")),), (ModelConfig("ctr", Path("/a"), labels={"stable": 2}),)
    several = Processes(Plan(before), 1)
    asked: list[str] = []

    def answers(what: str, *_: Any) -> dict[int, Answer]:
        asked.append(what)
        behind = asked.count("check") <= moments
        return {7: (False, ("FAILED_PRECONDITION", "not yet")) if what == "check" and behind else (True, None)}

    monkeypatch.setattr(several, "_ask_all", answers)
    if moments == 1:
        several.change(after)
        assert (several.models, asked) == (after, ["check", "check", "change"])
    else:
        with pytest.raises(CtrError, match="not yet"):
            several.change(after)
        assert (several.models, asked) == (before, ["check", "check"])
