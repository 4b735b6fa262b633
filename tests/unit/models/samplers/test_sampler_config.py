from __future__ import annotations

from typing import Any

import pytest

from ctr.models.errors import ConfigError
from ctr.models.samplers.registry import MixedConfig, NegativesConfig
from ctr.models.samplers.sampler_config import SamplerConfig
from ctr.pipeline.settings.pipeline_config import load_preset, preset_names


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"training.loss.name": "sampled_softmax"}, "sampler.stored=uniform"),
        ({"sampler.stored": "uniform"}, "ingest.training_negatives.uniform above 0"),
        ({"sampler.name": "mixed", "sampler.alpha": 0.5}, "uniform to be at least 2"),
        ({"sampler.name": "hard", "sampler.hard.kind": "same_category"}, "same_category to be at least 2"),
        (
            {
                "sampler.name": "hard",
                "sampler.hard.kind": "same_category",
                "ingest.training_negatives.same_category": 2,
                "training.loss.name": "sampled_softmax",
            },
            "needs log Q of the negatives of sampler hard",
        ),
        ({"sampler.name": "in_batch", "sampler.negatives": 256}, "accumulate_steps must be above"),
        ({"sampler.name": "hard", "sampler.negatives": 40}, "hard.pool is 32"),
        ({"sampler.hard.share": 1.0}, "sampler.hard.share"),
        ({"training.loss.temperature": 0.1}, "temperature belong to sampled_softmax"),
        ({"sampler.hard.kind": "same_category", "sampler.hard.pool": 64}, "pool belongs to kind pool"),
        (
            {
                "sampler.name": "in_batch",
                "ingest.flip_labels": True,
                "ingest.training_negatives": {"uniform": 1, "contemporaneous": 0},
            },
            "ingest.flip_labels",
        ),
        (
            {
                "sampler.stored": "uniform",
                "ingest.flip_labels": True,
                "ingest.training_negatives": {"uniform": 1, "contemporaneous": 0},
            },
            "ingest.flip_labels .* sampler.stored=all",
        ),
    ],
)
def test_pairs_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_preset("demo").with_overrides(settings)


@pytest.mark.parametrize("name", ["in_batch", "streaming_frequency", "hard"])
@pytest.mark.parametrize("loss", ["pointwise", "sampled_softmax"])
def test_samplers_of_the_batch_go_with_any_stored_negatives(name: str, loss: str) -> None:
    load_preset("demo").with_overrides({"sampler.name": name, "training.loss.name": loss})


@pytest.mark.parametrize(
    ("assignments", "refused"),
    [
        (["sampler.alpha=0.3"], "sampler.alpha: belongs to mixed and has no effect with random"),
        (["sampler.negatives=8"], "sampler.negatives: belongs to in_batch, hard, .* with random"),
        (
            ["sampler.name=in_batch", "sampler.stored=uniform"],
            "sampler.stored: belongs to random and has no effect with in_batch",
        ),
        (["sampler.name=in_batch", "sampler.frequencies=streaming"], "sampler.frequencies: belongs to hard, mixed"),
        (["sampler.name=hard", "sampler.frequencies=streaming"], "sampler.frequencies: has no effect .* pointwise"),
        (["sampler.name=streaming_frequency", "sampler.frequency.hashes=1"], "sampler.frequency: has no effect"),
        (["sampler.name=hard", "sampler.frequency.hashes=1"], "sampler.frequency: has no effect .* pointwise"),
        (
            ["sampler.name=hard", "sampler.frequency.hashes=1", "training.loss.name=sampled_softmax"],
            "sampler.frequency: has no effect with sampler hard as it is set",
        ),
        (["sampler={hard: {share: 0.1}}"], "sampler.hard: belongs to hard"),
        (
            ["model.name=dnn", "model.attention_units=[8]"],
            "model.attention_units: belongs to din and has no effect with dnn",
        ),
        (
            ["model.recurrent.units=8"],
            "model.recurrent: belongs to rnn, lstm, gru4rec, dien and has no effect with din",
        ),
        (
            ["model.activation=mish", "model.dice.momentum=0.5"],
            "model.dice: belongs to dice and has no effect with mish",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(assignments: list[str], refused: str) -> None:
    with pytest.raises(ConfigError, match=refused):
        load_preset("demo", assignments)


@pytest.mark.parametrize(
    "assignments",
    [
        ["sampler.alpha=0.5", "sampler.negatives=4", "sampler.stored=all", "model.recurrent.units=32"],
        ["model.recurrent.units=8", "also_train=[gru4rec]"],
        ["sampler.name=hard", "sampler.frequencies=streaming", "training.loss.name=sampled_softmax"],
        ["sampler.name=streaming_frequency", "sampler.frequency.hashes=1", "training.loss.name=sampled_softmax"],
    ],
)
def test_a_default_and_a_setting_with_effect_are_not(assignments: list[str]) -> None:
    assert load_preset("demo", assignments)


def test_another_choice_forgets_what_belonged_to_the_former_one() -> None:
    assert load_preset("samplers", ["sampler.name=in_batch"]).sampler == SamplerConfig(name="in_batch")
    mixed = load_preset("samplers", ["sampler.name=mixed", "sampler.alpha=0.25", "sampler.negatives=8"])
    again = mixed.with_overrides({"sampler.name": "in_batch", "data": "log.csv"}).sampler
    assert again.section(NegativesConfig).negatives == 8
    assert again.section(MixedConfig).alpha == 0.5
    assert mixed.with_overrides({"data": "log.csv"}).sampler == mixed.sampler


@pytest.mark.parametrize("preset", preset_names())
def test_no_preset_has_a_setting_without_effect(preset: str) -> None:
    config = load_preset(preset)
    assert config.with_overrides({"model.name": config.model.name}) == config


def test_the_preset_of_the_samplers_holds_all_of_them() -> None:
    config = load_preset("samplers")
    for name in ("random", "in_batch", "streaming_frequency", "hard", "mixed"):
        for loss in ("pointwise", "sampled_softmax"):
            for settings in ({"sampler.alpha": 0}, {"sampler.alpha": 1}) if name == "mixed" else ({},):
                config.with_overrides({"sampler.name": name, "training.loss.name": loss, **settings})
