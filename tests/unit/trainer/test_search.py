"""The search around the trainings, each of which a function stands in for; the end-to-end tests run one that trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctr.components.settings import TunerConfig
from ctr.components.trainer import search as module
from ctr.components.trainer.executor import TunerExecutor
from ctr.components.trainer.fit import TrainingDiverged
from ctr.components.trainer.settings import TrainerSettings, TunerSettings
from ctr.components.tuning import Tuning
from ctr.models.errors import ConfigError, DataError
from ctr.pipeline.settings.pipeline_config import load_preset

SPACE = {
    "model.embedding_dim": (4, 8),
    "model.hidden_units": ([8], [16, 8]),
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}


class Trainings:
    """Stands in for ``train``; the AUC is higher the lower the learning rate."""

    def __init__(self, on_each: Callable[[int], None] = lambda number: None) -> None:
        self.settings: list[TrainerSettings] = []
        self.on_each = on_each

    def __call__(self, settings: TrainerSettings, **_: Any) -> Any:
        self.settings.append(settings)
        self.on_each(len(self.settings))
        auc = 0.9 - settings.training.learning_rate
        return SimpleNamespace(epochs=[SimpleNamespace(validation_auc=a) for a in (auc, auc - 0.1)])


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trainings: Trainings, **changes: Any
) -> tuple[Tuning, dict[str, Any]]:
    config = load_preset("demo", ["training.profile_steps=3"])
    monkeypatch.setattr(module, "train", trainings)
    settings = TunerSettings(
        tuner=TunerConfig.model_validate({"space": SPACE, "trials": 5, **changes}),
        trainer=TrainerSettings.of(config.model, config.sampler, config.training, config.ingest),
    )
    files: dict[str, Any] = {
        "train_files": [],
        "validation_files": [],
        "transform_uri": str(folder),
        "catalogue_size": 9,
    }
    return module.search(settings, folder=str(folder), **files)


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_it_tries_values_of_the_space_and_takes_the_best(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings()

    found, best = run(tmp_path / "one", monkeypatch, trainings, algorithm=algorithm)

    assert len(found.trials) == len(trainings.settings) == 5
    for trial, settings in zip(found.trials, trainings.settings, strict=True):
        assert trial.values == {
            "model.embedding_dim": settings.model.embedding_dim,
            "model.hidden_units": list(settings.model.hidden_units),
            "training.learning_rate": settings.training.learning_rate,
        }
        assert settings.model.embedding_dim in (4, 8)
        assert 1e-4 <= settings.training.learning_rate <= 1e-2
        training = settings.training
        assert (training.epochs, training.calibration, training.profile_steps) == (1, "none", 0)
        assert trial.auc == pytest.approx(0.9 - training.learning_rate)
    assert found.best.auc == max(trial.auc or 0 for trial in found.trials)
    assert best["values"]["training.learning_rate"] == found.best.values["training.learning_rate"]
    again, _ = run(tmp_path / "again", monkeypatch, Trainings(), algorithm=algorithm)
    assert again == found
    other, _ = run(tmp_path / "other", monkeypatch, Trainings(), algorithm=algorithm, seed=2)
    assert other.trials[0] != found.trials[0]


def test_it_steps_through_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {
        "training.batch_size": {"low": 64, "high": 99, "step": 12},
        "model.embedding_dim": {"low": 3, "high": 60, "step": 2, "log": True},
    }
    trainings = Trainings()
    run(tmp_path, monkeypatch, trainings, space=space, trials=12)
    assert {settings.training.batch_size for settings in trainings.settings} == {64, 76, 88}
    assert {settings.model.embedding_dim for settings in trainings.settings} <= {3, 6, 12, 24, 48}


def test_a_search_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    whole, _ = run(tmp_path / "whole", monkeypatch, Trainings())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", monkeypatch, Trainings(stop))
    rest = Trainings()

    found, _ = run(tmp_path / "parts", monkeypatch, rest)

    assert len(rest.settings) == 3
    assert found.trials[:2] == whole.trials[:2]
    assert len(found.trials) == 5


def test_a_training_that_diverges_is_a_trial_without_an_auc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(number: int) -> None:
        if number != 4:
            raise TrainingDiverged("the training loss is nan")

    found, _ = run(tmp_path / "some", monkeypatch, Trainings(diverge))

    assert [trial.auc is None for trial in found.trials] == [True, True, True, False, True]
    assert found.best == found.trials[3]

    def always(number: int) -> None:
        raise TrainingDiverged("the training loss is nan")

    def no_files(number: int) -> None:
        raise DataError("the split has no files")

    with pytest.raises(DataError, match="the split has no files"):
        run(tmp_path / "fatal", monkeypatch, Trainings(no_files))
    with pytest.raises(DataError, match=r"tuner\.space: none of 5 trials came to its end"):
        run(tmp_path / "none", monkeypatch, Trainings(always))


def test_several_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ConfigError, match=r"tuner\.space: .* TF_CONFIG names several workers"):
        TunerExecutor().Do({}, {}, {})
