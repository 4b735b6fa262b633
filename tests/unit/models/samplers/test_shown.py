"""Samplers and losses on what was shown, whose clicks stand anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sampler_batches import no_score, stored, window_of

from ctr.models.errors import ConfigError
from ctr.models.impression import CANDIDATE_CATEGORY_ID, CANDIDATE_ITEM_ID
from ctr.models.losses import counted, training_loss
from ctr.models.negatives import StoredNegatives
from ctr.models.samplers.base import Sampled
from ctr.models.samplers.registry import SamplerContext, build_sampler
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

ITEMS = np.array([[11, 12, 13], [21, 22, 0], [31, 32, 33], [41, 0, 0], [0, 0, 0]])
LABELS = np.array([[0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], np.float32)
USERS = np.arange(5)
CLICKED = np.array([[13], [0], [32], [41], [0]])
NOTHING_DRAWN = StoredNegatives(**dict.fromkeys(StoredNegatives.model_fields, 0))


def draw(**settings: Any) -> Sampled:
    window = window_of(CLICKED, USERS)
    config = SamplerConfig(**settings)
    sampler = build_sampler(SamplerContext(config, window, NOTHING_DRAWN, len(ITEMS), 1, True))
    return sampler.sample(stored(ITEMS), tf.constant(LABELS), tf.constant(USERS, tf.int64), no_score)


def test_what_was_shown_keeps_its_labels() -> None:
    drawn = draw()
    items, labels = drawn.features[CANDIDATE_ITEM_ID].numpy(), drawn.labels.numpy()
    for row, clicked, found, label in zip(ITEMS, LABELS, items, labels, strict=True):
        assert sorted(zip(found, label, strict=True)) == sorted(zip(row, clicked, strict=True))
    np.testing.assert_array_equal(drawn.features[CANDIDATE_CATEGORY_ID].numpy(), 2 * items)
    np.testing.assert_array_equal(drawn.mask.numpy(), items != 0)
    assert counted(LossConfig(), drawn) == 3 + 2 + 3 + 1


def test_a_softmax_is_over_what_was_shown_and_leaves_out_requests_without_a_click() -> None:
    drawn = draw()
    config = LossConfig(name="sampled_softmax", correction=False)
    items = drawn.features[CANDIDATE_ITEM_ID].numpy()
    logits = tf.constant(np.where(items > 0, items / 10.0, 99.0), tf.float32)
    total, rows = training_loss(config, logits, drawn)
    # Of two clicks the first, without the second one; a lone click is certain.
    expected = [
        np.log(np.exp([1.3, 1.1, 1.2]).sum()) - 1.3,
        np.log(np.exp([3.2, 3.1]).sum()) - 3.2,
        0.0,
    ]
    assert rows == counted(config, drawn) == 3
    assert total.numpy() == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["in_batch", "streaming_frequency", "mixed"])
def test_what_is_drawn_from_the_batch_are_the_clicks(name: str) -> None:
    drawn = draw(name=name, negatives=2, **({"alpha": 0.0} if name == "mixed" else {}))
    items, mask = drawn.features[CANDIDATE_ITEM_ID].numpy(), drawn.mask.numpy()
    np.testing.assert_array_equal(items[:, :1], CLICKED)
    np.testing.assert_array_equal(mask[:, 0], CLICKED[:, 0] > 0)
    for row in (0, 2, 3):
        assert set(items[row, 1:]) == {13, 32, 41} - {CLICKED[row, 0]}
    assert not mask[[1, 4]].any()
    for loss in (LossConfig(), LossConfig(name="sampled_softmax")):
        total, _ = training_loss(loss, tf.zeros(items.shape), drawn)
        assert np.isfinite(total.numpy())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["sampler.stored=uniform", "ingest.training_negatives.uniform=2"], "sampler.stored=uniform takes negatives"),
        (["sampler.name=mixed", "ingest.training_negatives.uniform=4"], "mixed with alpha above 0 takes negatives"),
        (
            ["sampler.name=hard", "sampler.hard.kind=same_category", "ingest.training_negatives.same_category=4"],
            "hard.kind=same_category takes negatives",
        ),
        (["training.loss.name=sampled_softmax"], "training.loss.correction=false"),
        (["ingest.targets=last"], "targets is of logs without exposures"),
        (["ingest.flip_labels=true"], "flip_labels is of logs without exposures"),
        (["ingest.evaluation_sets=[uniform]"], "name shown, which the gate judges on"),
    ],
)
def test_what_needs_a_positive_in_front_is_refused_in_words(settings: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_preset("demo", settings, dataset="exposures")


def test_nothing_is_drawn_unless_asked_and_settings_travel_as_they_are() -> None:
    plain = load_preset("demo", dataset="exposures")
    assert (plain.ingest.training_negatives.total, plain.ingest.evaluation_sets) == (0, ("shown",))
    asked = load_preset("demo", ["ingest.training_negatives.contemporaneous=1"], dataset="exposures")
    assert asked.ingest.training_negatives.total == 1
    load_preset("demo", ["training.loss.name=sampled_softmax", "training.loss.correction=false"], dataset="exposures")
    for config in (plain, asked):
        for text in (config.to_json(), config.changes_json()):
            assert PipelineConfig.from_json(text) == config
    with pytest.raises(ConfigError, match=r"evaluation_sets: shown is of a log of exposures"):
        load_preset("demo", ["ingest.evaluation_sets=[shown]"])
