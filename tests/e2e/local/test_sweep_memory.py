"""What a trial leaves in memory for those that follow."""

from __future__ import annotations

import os
from multiprocessing import active_children
from pathlib import Path

import pytest
from trained_run import Trained

from pipeline.commands import cli
from pipeline.sweep.results import Journal, TrialResult

MOST_GROWTH_MB = 30
"""From the first trial to the second: the table and the plot take 3; in the sweep's own process it was 99."""


def test_a_trial_leaves_nothing_behind(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    used: list[float] = []
    append = Journal.append

    def weigh(self: Journal, result: TrialResult) -> None:
        append(self, result)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        assert not active_children()

    monkeypatch.setattr(Journal, "append", weigh)
    where = ("--data", trained.config.data, "--preset", "demo", "--output", trained.config.output)
    what = ("--set", "training.epochs=1", "--set", "training.learning_rate=0.002", "--models", "din")
    assert cli.main(["sweep", *where, *what, "--match-features", "with", "--seeds", "2"]) == 0
    assert len(used) == 2
    assert used[1] - used[0] < MOST_GROWTH_MB
    # Libraries that the trials' processes import have nothing to say on a terminal.
    assert "Warning" not in capfd.readouterr().err
