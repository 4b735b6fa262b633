"""docs/tutorials/three-logs.md and add-a-feature.md, typed as they stand at a small size."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Forks
from pages import ROOT, blocks, ctr_commands, write_presets
from trained_run import Trained

from ctr.components.dataset import PUBLIC_LOG
from ctr.pipeline.commands import cli
from ctr.pipeline.settings.datasets import read_dataset

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/tutorials/three-logs.md"
FEATURE = ROOT / "docs/tutorials/add-a-feature.md"

PUBLIC, REVIEWS, EXPOSURES = (ctr_commands(PAGE)[first : first + 5] for first in (0, 5, 10))
"""generate, inspect, run, serve, predict."""
SMALL_REVIEWS = (
    "--set=model.name=dnn",
    "--set=training.epochs=1",
    "--set=ingest.targets_per_user=4",
    "--set=evaluation.bounds.auc={min: 0.3, min_margin: null}",
)
SMALL_EXPOSURES = (
    "--set=model.name=dnn",
    "--set=training.learning_rate=0.003",
    "--set=evaluation.bounds.auc={min: 0.6, min_margin: null}",
)
"""Nothing of what is shown, but how much is learnt, and what is asked of it."""


def test_the_public_log(
    trained: Trained,
    forks: Forks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On the run that all share, which is repeated from its cache."""
    monkeypatch.chdir(tmp_path)
    _, inspect, _, serve, predict = PUBLIC
    assert cli.main([*inspect[:1], trained.config.data, *inspect[2:]]) == 0
    assert read_dataset("events.yaml").columns == PUBLIC_LOG.columns, "in spite of some dirt"
    assert cli.main(trained.arguments()) == 0
    assert "BLESSED, version" in capfd.readouterr().out
    with forks.serving([*serve, "--output", str(trained.output)], tmp_path) as port:
        assert cli.main([*predict, "--output", str(trained.output), *port]) == 0
    assert "<- chosen" in capfd.readouterr().out


def test_reviews(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generate, inspect, run, serve, predict = REVIEWS
    assert cli.main([*generate, "--users", "120"]) == 0
    assert cli.main(inspect) == 0
    guessed, shipped = read_dataset("reviews.yaml"), read_dataset("amazon-reviews")
    assert (guessed.columns, guessed.ids, guessed.ratings) == (shipped.columns, shipped.ids, shipped.ratings)
    assert cli.main([*run, *SMALL_REVIEWS]) == 0
    assert "BLESSED, version" in capfd.readouterr().out
    with forks.serving([*serve, "--output", str(tmp_path / "output/reviews")], tmp_path) as port:
        assert cli.main([*predict, *port]) == 0
    assert "<- chosen" in capfd.readouterr().out


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tutorial's log was generated, described and trained on."""
    folder = tmp_path_factory.mktemp("shown")
    write_presets(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        generate, inspect, check, show, run, *_ = ctr_commands(FEATURE)
        for words in ([*generate, "--users", "200"], inspect, check, show, [*run, *SMALL_EXPOSURES]):
            assert cli.main(words) == 0
        yield folder
    finally:
        os.chdir(before)


def test_exposures_with_features(
    shown: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The tutorial's log is that of the third transcript, whose commands are the tutorial's but for names."""
    monkeypatch.chdir(shown)
    guessed, described, shipped = (read_dataset(name) for name in ("guessed_shown.yaml", "shown.yaml", "exposures"))
    assert guessed.columns == described.columns
    assert described == shipped
    *_, serve, predict, of_a_file = ctr_commands(FEATURE)
    assert [words[0] for words in EXPOSURES] == ["generate", "inspect", "run", "serve", "predict"]
    (request,) = (block.text for block in blocks(FEATURE) if block.language == "json")
    Path("shown.json").write_text(request)
    with forks.serving([*serve, "--output", str(shown / "output/shown")], shown) as port:
        assert cli.main([*predict, *port]) == 0
        assert "<- chosen" in capfd.readouterr().out
        assert cli.main([*of_a_file, *port]) == 0
        first = capfd.readouterr().out
        other = json.loads(request)
        other["age_band"] = 20
        Path("shown.json").write_text(json.dumps(other))
        assert cli.main([*of_a_file, *port]) == 0
    assert capfd.readouterr().out != first, "the age has a say"
