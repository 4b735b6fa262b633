from __future__ import annotations

from typing import Any

import pytest

from ctr.models.errors import ConfigError
from ctr.models.registry import MODELS, RecurrentConfig
from ctr.models.samplers.registry import CorrectionConfig, MixedConfig, NegativesConfig, RandomConfig
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset
from ctr.pipeline.sweep.trials import grid


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return load_preset("sample")


def test_the_grid_is_every_combination_once(config: PipelineConfig) -> None:
    trials = grid(config, ["all"], ["dice", "prelu"], (True, False), seeds=3)
    assert len(trials) == len(set(trials)) == len(tuple(MODELS)) * 2 * 2 * 3
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
        "also_train": config.also_train,
    }
    assert settled.with_overrides(back) == config


def test_alphas_are_of_the_mixed_sampler_and_stored_kinds_of_the_random_one() -> None:
    config = load_preset("samplers")
    axes: dict[str, Any] = {"samplers": ["all"], "stored": ["uniform", "contemporaneous"], "alphas": [0, 0.5, 1]}
    trials = grid(config, ["dnn"], ["relu"], (True,), 1, **axes)
    names = [trial.variant.negatives for trial in trials]
    assert names == [
        "random uniform",
        "random contemporaneous",
        "in-batch",
        "hard",
        "streaming-frequency",
        "mixed 0",
        "mixed 0.5",
        "mixed 1",
    ]
    settled = [trial.configure(config).sampler for trial in trials]
    assert [s.section(RandomConfig).stored for s in settled[:2]] == ["uniform", "contemporaneous"]
    assert [s.section(MixedConfig).alpha for s in settled[-3:]] == [0, 0.5, 1]


def test_settings_of_any_swept_name_reach_what_reads_them_alone() -> None:
    assignments = ["model.recurrent.units=8", "sampler.negatives=2", "sampler.frequencies=streaming"]
    swept = {"model.name": ["dnn", "rnn"], "sampler.name": ["random", "mixed"]}
    config = load_preset("samplers", assignments, swept=swept).with_overrides({"data": "log.csv"})
    trials = grid(config, ["dnn", "rnn"], ["relu"], (True,), 1, samplers=["random", "mixed"], losses=["all"])
    for settled in (trial.configure(config) for trial in trials):
        assert settled.model.section(RecurrentConfig).units == (8 if settled.model.name == "rnn" else 32)
        mixed = settled.sampler.name == "mixed"
        assert settled.sampler.section(NegativesConfig).negatives == (2 if mixed else 4)
        streaming = settled.sampler.section(CorrectionConfig).frequencies == "streaming"
        assert streaming == (mixed and settled.training.loss.name == "sampled_softmax")
    with pytest.raises(ConfigError, match="model.caser: belongs to caser and has no effect with dnn, rnn"):
        load_preset("samplers", ["model.caser.events=3"], swept=swept)
    assert load_preset("samplers", ["model.caser.events=3"], swept={"model.name": ["all"]})


def test_a_loss_of_its_own_has_its_own_settings_and_the_configured_one_keeps_them() -> None:
    config = load_preset(
        "samplers", ["training.loss.name=sampled_softmax", "training.loss.temperature=0.5", "sampler.name=in_batch"]
    )
    pointwise, softmax = (t.configure(config) for t in grid(config, ["dnn"], ["relu"], (True,), 1, losses=["all"]))
    assert (pointwise.training.loss.name, pointwise.training.loss.temperature) == ("pointwise", 1.0)
    assert (softmax.training.loss.name, softmax.training.loss.temperature) == ("sampled_softmax", 0.5)


def test_pairs_that_make_no_sense_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="uniform to be at least 2"):
        grid(load_preset("demo"), ["dnn"], ["relu"], (True,), 1, samplers=["all"])
    with pytest.raises(ConfigError, match="samplers: 'best'"):
        grid(load_preset("demo"), ["dnn"], ["relu"], (True,), 1, samplers=["best"])


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
