"""The demo's last step, on the shared run: it waits as long as a busy machine needs, and ends in words."""

from __future__ import annotations

import pytest
from trained_run import Trained

from ctr.pipeline.commands import cli
from ctr.pipeline.commands import demo as demo_command
from ctr.pipeline.commands.command_line import FAILED, OK

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A demo whose training has been done already."""
    monkeypatch.setattr(demo_command, "train", lambda config, terminal: OK)
    return ["demo", "--users", "20", "--output", str(trained.output)]


def test_it_ranks_an_impression(demo: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(demo) == OK
    assert "<- chosen" in capsys.readouterr().out


def test_a_server_that_is_not_ready_in_time_is_no_traceback(
    demo: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_command, "_PATIENCE_SECONDS", 0.01)
    assert cli.main(demo) == FAILED
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: the model was trained and pushed, but not served: no version after 0.01 s of model 'ctr'"
    )
