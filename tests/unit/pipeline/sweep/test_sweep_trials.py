from __future__ import annotations

from typing import get_args

import pytest

from models.config import ModelName
from pipeline.config import ConfigError, PipelineConfig, load_preset
from pipeline.sweep.trials import grid


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return load_preset("sample")


def test_the_grid_is_every_combination_once(config: PipelineConfig) -> None:
    trials = grid(config, ["all"], ["dice", "prelu"], (True, False), seeds=3)
    assert len(trials) == len(set(trials)) == len(get_args(ModelName)) * 2 * 2 * 3
    first_round = {trial.variant for trial in trials[: len(trials) // 3]}
    assert first_round == {trial.variant for trial in trials}


def test_a_name_given_twice_counts_once(config: PipelineConfig) -> None:
    assert len(grid(config, ["dnn", "din", "dnn"], ["relu"], (True,), seeds=1)) == 2


def test_a_trial_changes_what_the_sweep_varies_and_nothing_else(config: PipelineConfig) -> None:
    (_, trial) = grid(config, ["caser"], ["mish"], (False,), seeds=2)
    settled = trial.configure(config)
    assert (settled.model.name, settled.model.activation, settled.model.match_features) == ("caser", "mish", False)
    assert settled.training.seed == config.training.seed + 1
    back = {
        "model.name": config.model.name,
        "model.activation": config.model.activation,
        "model.match_features": config.model.match_features,
        "training.seed": config.training.seed,
    }
    assert settled.with_overrides(back) == config


@pytest.mark.parametrize(
    ("models", "activations", "seeds", "named"),
    [
        (["dnn", "deepfm"], ["relu"], 1, "models: 'deepfm'"),
        (["dnn"], ["gelu"], 1, "activations: 'gelu'"),
        ([""], ["relu"], 1, "models: ''"),
        (["dnn"], ["relu"], 0, "seeds"),
    ],
)
def test_what_is_not_known_is_named(
    config: PipelineConfig, models: list[str], activations: list[str], seeds: int, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        grid(config, models, activations, (True,), seeds)


def test_settings_that_a_model_cannot_have_are_refused_before_anything_runs() -> None:
    config = load_preset("sample", ["model.item_embedding=false"])
    assert grid(config, ["dnn"], ["relu"], (True,), 1)
    with pytest.raises(ConfigError, match="bert4rec"):
        grid(config, ["all"], ["relu"], (True,), 1)
