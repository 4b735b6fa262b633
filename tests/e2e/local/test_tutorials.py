"""The tutorials on one machine, typed as they stand, on the shared run in the place of a training of their own.

docs/tutorials/add-a-model.md is run by ``test_plugins.py``, to-a-cluster.md by ``test_kubeflow_client.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Forks
from pages import ROOT, blocks, ctr_commands, write_presets
from trained_run import SETTINGS, Trained

from ctr.components.impression_gen.look import look_at
from ctr.models.string_ids import id_of
from ctr.pipeline.commands import cli
from ctr.pipeline.commands.cli import _parser
from ctr.pipeline.commands.command_line import configuration
from ctr.pipeline.settings.datasets import read_dataset

pytestmark = pytest.mark.slow

FIRST_RUN = ROOT / "docs/tutorials/first-run.md"
OWN_LOG = ROOT / "docs/tutorials/your-own-log.md"


@pytest.fixture(scope="module")
def port(trained: Trained, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of the server that the first run's tutorial starts, here on the shared run's folder and a free port."""
    serve = next(words for words in ctr_commands(FIRST_RUN) if words[0] == "serve")
    with forks.serving([*serve, "--output", str(trained.output)], tmp_path_factory.mktemp("server")) as port:
        yield port


def test_the_first_run_is_asked(
    trained: Trained,
    port: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (impression,) = (block.text for block in blocks(FIRST_RUN) if block.language == "json")
    Path("impression.json").write_text(impression)
    _, of_the_run, of_a_file, as_json = ctr_commands(FIRST_RUN)

    assert cli.main([*of_the_run, "--output", str(trained.output), *port]) == 0
    assert "<- chosen" in capsys.readouterr().out
    assert cli.main([*of_a_file, *port]) == 0
    assert capsys.readouterr().out.startswith("ctr version")
    assert cli.main([*as_json, *port]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["history_length"] == 2
    assert len(answer["candidates"]) == 3


def test_a_log_of_ones_own_is_looked_at_and_trained_on(
    trained: Trained,
    port: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_presets(tmp_path)
    generate, inspect, check, show, run, another, _, serve, predict, ids = ctr_commands(OWN_LOG)

    assert cli.main([*generate, "--users", "60"]) == 0
    assert cli.main(inspect) == 0
    # What is guessed is what the page mends in one line.
    mended = read_dataset("shop.yaml")
    assert read_dataset("guessed.yaml") == mended.model_copy(update={"window": None})
    assert cli.main(check) == 0
    checked = capfd.readouterr().out
    assert "columns that are not used: channel\na run would take it" in checked
    for command in (run, another):
        config = configuration(_parser().parse_args(command))
        catalogue = look_at(config.data, config.ingest)
        assert catalogue is not None
        assert len(catalogue.item_ids) > 100
    assert cli.main(show) == 0
    assert "epochs: 2" in capfd.readouterr().out

    # The shared run's log is of the public form; the rest is the shared run's, so nothing is repeated.
    shared = ["--data", trained.config.data, "--dataset", "public", "--output", str(trained.output), *SETTINGS]
    assert cli.main([*run, *shared]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith("din, preset mine: BLESSED, version")
    steps = [line.split("]")[1].split() for line in shown.err.splitlines() if line.startswith("[")]
    done = {step for step, took, *_ in steps if took != "cached"}
    assert done == {"LastApproval", "LatestBlessedModel", "RunReport"}
    # Both pages start the same server.
    assert serve == ["serve", "--output", run[run.index("--output") + 1]]
    assert cli.main([*predict, "--output", str(trained.output), *port]) == 0
    assert "<- chosen" in capfd.readouterr().out
    assert cli.main(ids) == 0
    assert capfd.readouterr().out.split() == [word for name in ids[1:] for word in (str(id_of(name)), name)]
