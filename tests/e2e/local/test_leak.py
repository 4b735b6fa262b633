"""With labels dealt out at random there is nothing to learn, and a model that scores above chance has seen them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from block_files import rows_of, write_blocks
from trained_run import Trained

from ctr.models.impression import CONTEMPORANEOUS, LABEL, NEGATIVE_SET, SPLITS

pytestmark = pytest.mark.slow


def _with_dealt_labels(source: Path, target: Path, rng: np.random.Generator, negative_set: str | None) -> int:
    """Copies a split with the labels of each impression in random order; gives the number of impressions."""
    rows = [row for row in rows_of(source) if negative_set is None or row[NEGATIVE_SET].decode() == negative_set]
    write_blocks(target, (row | {LABEL: rng.permutation(row[LABEL]).tolist()} for row in rows))
    return len(rows)


def test_shuffled_labels_score_like_a_coin(trained: Trained, tmp_path: Path) -> None:
    import keras
    import tensorflow_transform as tft

    from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
    from ctr.components.trainer.fit import TrainingLoop, fit
    from ctr.components.trainer.input_pipeline import read_batches
    from ctr.components.trainer.strategy import training_strategy
    from ctr.models.impression import FIRST_KNOWN_INDEX
    from ctr.models.registry import build_model
    from ctr.models.samplers.random import Random
    from ctr.models.samplers.sampler_config import LossConfig

    rng = np.random.default_rng(5)
    transformed = trained.artifact("ImpressionTransform", "transformed_examples")
    counts = {
        split: _with_dealt_labels(
            transformed / f"Split-{split}", tmp_path / split, rng, CONTEMPORANEOUS if split == "eval" else None
        )
        for split in SPLITS
    }
    config = trained.config.training
    train, validation, evaluation = (
        read_batches(
            [str(tmp_path / split)],
            batch_size=config.batch_size,
            history_length=trained.config.ingest.history_length,
            shuffle_buffer=config.shuffle_buffer if split == "train" else None,
            seed=config.seed,
        )
        for split in SPLITS
    )
    graph = tft.TFTransformOutput(str(trained.artifact("ImpressionTransform", "transform_graph")))
    strategy = training_strategy()
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = build_model(
            trained.config.model,
            item_indices=FIRST_KNOWN_INDEX + graph.vocabulary_size_by_name(ITEM_VOCABULARY),
            category_indices=FIRST_KNOWN_INDEX + graph.vocabulary_size_by_name(CATEGORY_VOCABULARY),
            history_length=trained.config.ingest.history_length,
        )
        sampler = Random(config.seed, trained.config.ingest.training_negatives, "all", catalogue_size=1)
    trainer = TrainingLoop(model, strategy, sampler, LossConfig(), config.learning_rate)
    fit(trainer, lambda number: train, validation, config)
    _, auc = trainer.evaluate(evaluation)
    # Standard deviation of a coin's AUC with as many positives as negatives.
    deviation = math.sqrt((2 * counts["eval"] + 1) / (12 * counts["eval"] ** 2))
    assert counts["eval"] > 1000
    assert auc == pytest.approx(0.5, abs=4 * deviation)
