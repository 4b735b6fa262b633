from __future__ import annotations

from typing import Any

import pytest

from pipeline.settings.pipeline_config import ConfigError, load_preset


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
            "no known probability",
        ),
        ({"sampler.name": "in_batch", "sampler.negatives": 256}, "batch_size must be above"),
        ({"sampler.name": "hard", "sampler.negatives": 40}, "hard.pool is 32"),
        ({"sampler.hard.share": 1.0}, "sampler.hard.share"),
        ({"training.loss.temperature": 0.1}, "temperature belong to sampled_softmax"),
        (
            {
                "sampler.name": "in_batch",
                "ingest.flip_labels": True,
                "ingest.training_negatives": {"uniform": 1, "contemporaneous": 0},
            },
            "ingest.flip_labels",
        ),
    ],
)
def test_pairs_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_preset("demo").with_overrides(settings)


@pytest.mark.parametrize("name", ["in_batch", "frequency", "hard"])
@pytest.mark.parametrize("loss", ["pointwise", "sampled_softmax"])
def test_samplers_of_the_batch_go_with_any_stored_negatives(name: str, loss: str) -> None:
    load_preset("demo").with_overrides({"sampler.name": name, "training.loss.name": loss})


def test_the_preset_of_the_samplers_holds_all_of_them() -> None:
    config = load_preset("samplers")
    for name in ("random", "in_batch", "frequency", "hard", "mixed"):
        for loss in ("pointwise", "sampled_softmax"):
            for alpha in (0, 1):
                config.with_overrides({"sampler.name": name, "sampler.alpha": alpha, "training.loss.name": loss})
