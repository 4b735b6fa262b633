"""What a training step costs on a GPU and on this machine's CPU, and whether both give the same logits.

Each model trains in the loop of the Trainer step, on the devices that step would choose, with batches from memory:
users' histories of 1 to 50 events, Zipf items of a vocabulary of two million, a positive and a uniform negative. Each
device is a process of its own, and they take turns. Printed: the median over graph calls of 16 steps, the first pass
left out, which traces; the rate relative to the first device's; the loss over the batches before and after; and by how
much the logits of the first device's trained weights differ from that device's, with TF32 off and on (the default).

    .venv/bin/python -m benchmarks.training --devices cpu gpu --models din

It imports nothing of TFX. benchmarks/gpu_bundle.sh packs what it needs for a machine without a package registry.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks.samplers import CATEGORIES, LENGTH, impressions, trainer_of
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS
from ctr.models.samplers.base import TrainingWindow
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

DEVICES = ("cpu", "gpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
DIFFERENT_BATCHES = 16


class Trained(NamedTuple):
    """What training on one device gave.

    Attributes:
      milliseconds: of a step.
      losses: over the batches before and after training, mean over pairs, in nats.
      weights: after it.
      logits: [B, 2] that they give to the first batch.
      others_logits: likewise of the weights of another device, without TF32 and with it; empty where there are none.
    """

    milliseconds: float
    losses: tuple[float, float]
    weights: list[np.ndarray]
    logits: np.ndarray
    others_logits: tuple[np.ndarray, ...]


class Clock(tqdm):
    """A bar that nobody sees: the loop tells it after each graph call how many impressions that trained on."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.calls: list[tuple[float, float]] = [(time.perf_counter(), 0.0)]

    def update(self, n: float | None = 1) -> None:
        """Keeps the time."""
        self.calls.append((time.perf_counter(), n or 0.0))


def use(device: str, precision: str) -> None:
    """In a new process, before anything runs: hides GPUs from a CPU, as a machine without one would be."""
    keras.config.set_dtype_policy(precision)
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")


def train(model: str, options: argparse.Namespace, weights: list[np.ndarray] | None) -> Trained:
    """Trains a new model; ``weights`` are those of the other device, whose logits are wanted here."""
    config, nothing = ModelConfig(name=model), np.empty(0, np.int64)
    known = TrainingWindow(options.items, nothing, nothing, nothing)
    trainer = trainer_of(config, SamplerConfig(), LossConfig(), known, negatives=1, batch_size=options.batch)
    different = min(DIFFERENT_BATCHES, options.steps)
    values = impressions(different * options.batch, 1, options.items)
    values = {feature: value.reshape(different, options.batch, -1) for feature, value in values.items()}
    # Whole batches: to put one together of its rows takes longer than a step of a GPU.
    labels = np.tile(np.array([1, 0], np.float32), (different, options.batch, 1))
    data = tf.data.Dataset.from_tensor_slices((values, labels))
    first, _ = next(iter(data))

    def logits() -> np.ndarray:
        return np.asarray(trainer.model(first, training=False).logits)

    others = []
    if weights is not None:
        own = trainer.model.get_weights()
        trainer.model.set_weights(weights)
        for allowed in (False, True):
            tf.config.experimental.enable_tensor_float_32_execution(allowed)
            others.append(logits())
        trainer.model.set_weights(own)

    def batches(steps: int) -> tf.distribute.DistributedDataset:
        several = data.repeat().take(steps).prefetch(tf.data.AUTOTUNE)
        return trainer.strategy.experimental_distribute_dataset(several)

    before, _ = trainer.evaluate(batches(different))
    trainer.train_epoch(batches(options.steps))
    clock = Clock()
    trainer.train_epoch(batches(options.steps), clock)
    after, _ = trainer.evaluate(batches(different))
    # The last call may find nothing left.
    steps = [
        (end - start) / (count / options.batch)
        for (start, _), (end, count) in zip(clock.calls, clock.calls[1:], strict=False)
        if count
    ]
    own_weights = trainer.model.get_weights()
    return Trained(float(np.median(steps)) * 1000, (before, after), own_weights, logits(), tuple(others))


def row(name: str, device: str, trained: Trained, first: Trained | None, options: argparse.Namespace) -> str:
    """Of the table."""
    pairs = 2 * options.batch / trained.milliseconds * 1000
    cells = [name, device, f"{trained.milliseconds:,.2f}", f"{pairs:,.0f}"]
    cells.append(f"{(first or trained).milliseconds / trained.milliseconds:.2f}")
    cells += [f"{loss:.4f}" for loss in trained.losses]
    if first:
        cells += [f"{np.abs(mine - first.logits).max():.1e}" for mine in trained.others_logits]
        cells.append(f"{np.abs(first.logits).max():.1f}")
    else:
        cells += ["", "", f"{np.abs(trained.logits).max():.1f}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpus = tf.config.list_physical_devices("GPU")
    there = DEVICES if gpus else DEVICES[:1]
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=there, help="default: what is there")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default: all")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=4096, help="impressions of two pairs each; default: %(default)s")
    parser.add_argument("--steps", type=int, default=96, help="of a pass; default: %(default)s")
    parser.add_argument("--items", type=int, default=2_000_000, help="of the vocabulary; default: %(default)s")
    options = parser.parse_args(arguments)
    if "gpu" in options.devices and not gpus:
        parser.error("--devices gpu: TensorFlow finds no GPU; what it lacks stands above, and --devices cpu needs none")
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else "no GPU"
    print(
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}; {os.cpu_count()} cores, {name}; {options.precision}\n"
        f"batches of {options.batch}, {options.items:,} items, {CATEGORIES:,} categories, histories of up to {LENGTH}\n"
    )
    print(
        f"| model | device | ms a step | pairs/s | relative to {options.devices[0]} | loss before | after | "
        "logits apart, TF32 off | TF32 on | largest logit |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    spawn = multiprocessing.get_context("spawn")
    pools = [
        ProcessPoolExecutor(1, mp_context=spawn, initializer=use, initargs=(device, options.precision))
        for device in options.devices
    ]
    try:
        for model in options.models:
            first: Trained | None = None
            for device, pool in zip(options.devices, pools, strict=True):
                weights: Any = first.weights if first else None
                trained = pool.submit(train, model, options, weights).result()
                print(row(model, device, trained, first, options), flush=True)
                first = first or trained
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    main()
