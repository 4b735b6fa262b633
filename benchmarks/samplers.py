"""What each sampler costs: training impressions/s relative to random negatives of the same number.

One process trains the same model on the same batches from memory (users' histories of 1 to 50 events, Zipf items) with
each sampler in turn, round after round; a round is a pass over the data. Printed: the median of the rates and of the
ratios to random in the same round. The pass over the training split that samplers of the batch need before training is
not part of them: it is timed by itself, on the same impressions written to a temporary folder.

    .venv/bin/python -m benchmarks.samplers --models dnn,din --rounds 7
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ctr.components.examples import blocks
from ctr.components.trainer.fit import TrainingLoop
from ctr.components.trainer.step import Compile
from ctr.components.trainer.strategy import training_strategy
from ctr.components.trainer.window import read_window
from ctr.models.impression import (
    CANDIDATE_CATEGORY_ID,
    CANDIDATE_ITEM_ID,
    FIRST_KNOWN_INDEX,
    HISTORY_AGE,
    HISTORY_BEHAVIOR,
    HISTORY_CATEGORY_ID,
    HISTORY_INPUTS,
    HISTORY_ITEM_ID,
    INDEX_OF,
    LABEL,
    USER_ID,
)
from ctr.models.model_config import ModelConfig
from ctr.models.negatives import StoredNegatives
from ctr.models.registry import build_model
from ctr.models.samplers.base import TrainingWindow
from ctr.models.samplers.registry import SamplerContext, build_sampler
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

ITEMS, CATEGORIES, LENGTH = 100_000, 1_000, 50
FILES, PASS_REPEATS = 8, 10
SAMPLERS: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "in-batch": {"name": "in_batch"},
    "streaming-frequency": {"name": "streaming_frequency"},
    "mixed 0.5": {"name": "mixed", "alpha": 0.5},
    "hard, pool of 32": {"name": "hard", "hard": {"pool": 32, "curriculum_steps": 0}},
}


def impressions(count: int, negatives: int, items: int = ITEMS, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw and index features of ``count`` impressions with uniform negatives."""
    rng = np.random.default_rng(seed)
    popular = np.minimum((items ** rng.random((count, LENGTH + 1))).astype(np.int64), items)
    real = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, count)[:, None]
    candidates = np.concatenate([popular[:, -1:], rng.integers(1, items + 1, (count, negatives))], axis=1)
    values = {
        HISTORY_ITEM_ID: popular[:, :-1] * real,
        HISTORY_BEHAVIOR: rng.integers(1, 5, real.shape) * real,
        HISTORY_AGE: np.sort(rng.integers(1, 500_000, real.shape))[:, ::-1] * real,
        CANDIDATE_ITEM_ID: candidates,
        USER_ID: np.arange(1, count + 1)[:, None],
    }
    values[HISTORY_CATEGORY_ID] = np.where(real, values[HISTORY_ITEM_ID] % CATEGORIES + 1, 0)
    values[CANDIDATE_CATEGORY_ID] = candidates % CATEGORIES + 1
    for name, index in INDEX_OF.items():
        values[index] = np.where(values[name] > 0, values[name] + FIRST_KNOWN_INDEX - 1, 0)
    return values


def write(values: dict[str, np.ndarray], folder: str) -> list[str]:
    """The impressions as Transform leaves them: in blocks, histories without padding, the first candidate chosen."""
    labels = np.tile(np.arange(values[CANDIDATE_ITEM_ID].shape[1]) == 0, (len(values[USER_ID]), 1)).astype(np.int64)
    values = {**values, LABEL: labels}
    paths = [os.path.join(folder, str(number)) for number in range(FILES)]
    events = (values[HISTORY_ITEM_ID] > 0).sum(axis=1)
    for path, rows in zip(paths, np.array_split(np.arange(len(events)), FILES), strict=True):
        features = {}
        for name, value in values.items():
            of_rows = value[rows]
            real = np.arange(LENGTH) < events[rows, None] if name in HISTORY_INPUTS else np.ones(of_rows.shape, bool)
            features[name] = real.sum(axis=1), of_rows[real]
        with blocks.new_file(path, folder) as writer:
            for block in blocks.encode(features):
                writer.write(block)
    return paths


def pass_over(values: dict[str, np.ndarray], rounds: int) -> tuple[TrainingWindow, float]:
    """What the pass over the training split finds, and the median of its impressions/s.

    The split that is timed is the same files over and over: of a short one, most of the time goes to the start.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = write(values, folder)
        known = read_window(files, ITEMS)
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            read_window(files * PASS_REPEATS, ITEMS)
            seconds.append(time.perf_counter() - start)
    return known, len(values[USER_ID]) * PASS_REPEATS / float(np.median(seconds))


def trainer_of(
    config: ModelConfig,
    sampler: SamplerConfig,
    loss: LossConfig,
    known: TrainingWindow,
    negatives: int,
    batch_size: int,
    compile: Compile = "auto",
) -> TrainingLoop:
    """A trainer of a new model of the catalogue's items, on the devices that the Trainer step would use."""
    keras.utils.set_random_seed(1)
    strategy = training_strategy()
    with strategy.scope():
        model = build_model(config, FIRST_KNOWN_INDEX + known.catalogue_size, FIRST_KNOWN_INDEX + CATEGORIES, LENGTH)
        stored = StoredNegatives(uniform=negatives, contemporaneous=0)
        drawn = build_sampler(SamplerContext(sampler, window=known, stored=stored, batch_size=batch_size, seed=1))
    return TrainingLoop(model, strategy, drawn, loss, 1e-3, config.embedding_l2, compile=compile)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="dnn,din", help="comma-separated, or none; default: %(default)s")
    parser.add_argument(
        "--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS), help="the first is the ratios' floor"
    )
    parser.add_argument("--loss", default="sampled_softmax", help="default: %(default)s")
    parser.add_argument("--negatives", type=int, default=4, help="K; default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--impressions", type=int, default=20_480, help="of a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    options = parser.parse_args()

    values = impressions(options.impressions, options.negatives)
    known, rate = pass_over(values, options.rounds)
    labels = np.eye(1 + options.negatives, dtype=np.float32)[np.zeros(options.impressions, int)]
    data = tf.data.Dataset.from_tensor_slices((values, labels)).batch(options.batch_size, True).cache()
    print(
        f"K = {options.negatives}, batch {options.batch_size}, {options.loss}, "
        f"{options.rounds} rounds of {options.impressions:,} impressions"
    )
    print(f"the pass before training: {rate:,.0f} impressions/s of {options.impressions * PASS_REPEATS:,}", flush=True)
    if options.models == "none":
        return
    print(f"\n| model | sampler | impressions/s | relative to {options.samplers[0]} |\n| --- | --- | --- | --- |")
    chosen = {name: SAMPLERS[name] for name in options.samplers}
    for model_name in options.models.split(","):
        config, loss = ModelConfig(name=model_name, embedding_l2=0.0), LossConfig(name=options.loss)
        trainers = {}
        for name, settings in chosen.items():
            sampler = SamplerConfig.model_validate({"negatives": options.negatives, **settings})
            trainers[name] = trainer_of(config, sampler, loss, known, options.negatives, options.batch_size)
        rates: dict[str, list[float]] = {name: [] for name in trainers}
        for number in range(1 + options.rounds):
            for name, trainer in trainers.items():
                start = time.perf_counter()
                _, seen = trainer.train_epoch(data)
                # The first round traces.
                if number:
                    rates[name].append(seen / (time.perf_counter() - start))
        for name, measured in rates.items():
            ratio = np.median(np.divide(measured, rates[options.samplers[0]]))
            print(f"| {model_name} | {name} | {np.median(measured):,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
