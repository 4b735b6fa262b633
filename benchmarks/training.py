"""What training costs: a step alone, the input alone, and both together, beside other libraries in the same run.

Each side is a process of its own that compiles and warms up; then they take turns, round after round, and medians
count. All of them train on the same impressions: histories of 1 to 50 events, Zipf items, a positive and a uniform
negative.

- ``step``: the Trainer's own loop on batches that lie in memory.
- ``input``: the Trainer's input pipeline alone, from files as Transform leaves them. ``benchmarks.training_input``
  takes it apart.
- ``whole``: that loop, fed by that pipeline.
- ``resident``: a step alone, on a batch that lies on the device: neither the host nor the way to the device is in
  it.
- ``logits``: no time, but by how much the logits of one device's weights differ on another, TF32 off and on.

Sides are this project's ``default`` settings, ``wide`` (these with DeepCTR's default widths) and ``same`` (with those
widths, item and category alone, no auxiliary loss), on each device, compiled or not; and peers (``training_peers.py``),
which have the inputs and widths of ``same``, and whose data lie in memory: they stand beside ``step``.

    python3.10 -m venv peer-2.15 && peer-2.15/bin/pip install -r benchmarks/deepctr_2.15.txt
    .venv/bin/python -m benchmarks.training --models din --batches 128 --sides same --peer deepctr=peer-2.15/bin/python

It imports nothing of TFX. benchmarks/gpu_bundle.sh packs what it needs for a machine without a package registry.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.training_peers import ATTENTION, DIM, FEED_FORWARD, HEADS, HIDDEN, PEERS
from benchmarks.turns import CLOCKS, Clock, Side, Work, answer, take_turns
from ctr.models.registry import MODELS

DEVICES, SETTINGS, WHAT = ("cpu", "gpu"), ("default", "wide", "same"), ("step", "input", "whole", "resident", "logits")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
BATCHES = (256, 1024, 4096, 16_384)
DATA, FEATURES, FILES = "data.npz", "features.npz", "files"
"""In memory, for peers and for sides of this project; and as Transform leaves them."""
SHUFFLE_BUFFER = 10_000
PASSES = {"cpu": 1, "gpu": 8}
"""Over the data in one epoch: to start one takes as long as tens of a GPU's steps."""
RESIDENT_STEPS = 16
REQUIREMENTS = {"deepctr": "deepctr_2.15.txt or deepctr_2.10.txt (DIEN, BST)", "rechub": "torch_2.11.txt"}
"""Of a peer; those of the others are rechub's."""


class Case(NamedTuple):
    """A side of this project."""

    device: str
    compile: str
    settings: str
    model: str
    precision: str
    folder: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT[:3], help="default: step, input and whole")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default: all")
    says = "impressions of two pairs each; default: %(default)s"
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="BATCH", help=says)
    parser.add_argument("--devices", nargs="+", choices=DEVICES, help="default: the GPU where there is one")
    parser.add_argument("--sides", nargs="+", choices=SETTINGS, default=["default"], help="default: %(default)s")
    says = "training.compile; default: auto, which compiles on a GPU"
    parser.add_argument("--compile", nargs="+", choices=("auto", "on", "off"), default=["auto"], help=says)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    says = "models whose sides compile at the same time, on a machine of many cores; default: %(default)s"
    parser.add_argument("--at-once", type=int, default=1, metavar="MODELS", help=says)
    says = f"one of {', '.join(PEERS)} and the Python of its environment; may be repeated"
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help=says)
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a round, at least; default: %(default)s")
    says = "cpu: seconds of the processor, of all threads, for a machine that is not idle; default: %(default)s"
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0], help=says)
    parser.add_argument("--items", type=int, default=2_000_000, help="of the vocabulary; default: %(default)s")
    parser.add_argument("--impressions", type=int, default=65_536, help="in memory; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="DNN and DIN, at a size for two cores")
    parser.add_argument("--side", nargs=len(Case._fields), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        answer(functools.partial(prepare, Case(*options.side)))
        return
    if options.quick:
        options.models, options.batches, options.rounds, options.seconds = ["dnn", "din"], [256, 4096], 2, 3.0
        options.impressions, options.items = 8192, 200_000
    peers = dict(each.partition("=")[::2] for each in options.peer)
    for name, python in peers.items():
        if name not in PEERS or shutil.which(python) is None:
            of = REQUIREMENTS.get(name, REQUIREMENTS["rechub"])
            parser.error(
                f"--peer {name}={python}: "
                + (
                    f"{python} is no program"
                    if name in PEERS
                    else f"there is no such peer; there are {', '.join(PEERS)}"
                )
                + f". Make its environment with\n  python3.10 -m venv peer && peer/bin/pip install -r benchmarks/{of}\n"
                "and give --peer NAME=peer/bin/python"
            )
    options.impressions = max(options.impressions, *options.batches)
    run(options, peers, parser)


def run(options: argparse.Namespace, peers: dict[str, str], parser: argparse.ArgumentParser) -> None:
    """Measures model by model, and prints each batch size as soon as it is done."""
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    devices = options.devices or (["gpu"] if gpus else ["cpu"])
    if "gpu" in devices and not gpus:
        parser.error("--devices gpu: TensorFlow finds no GPU; what it lacks stands above, and --devices cpu needs none")
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else "no GPU"
    print(
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}; {os.cpu_count()} cores, {name}; {options.precision}\n"
        f"{options.impressions:,} impressions of 2 candidates, {options.items:,} items\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_data(options, folder)
        header = HEADER_OF_LOGITS if "logits" in options.what else HEADERS[options.clock]
        print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
        for first in range(0, len(options.models), options.at_once):
            started_sides = [
                sides_of(model, options, peers, devices, folder)
                for model in options.models[first : first + options.at_once]
            ]
            try:
                for batch in options.batches:
                    rows = (logits_of if "logits" in options.what else rates_of)(batch, started_sides, options)
                    for row in rows:
                        print(f"| {' | '.join(row)} |", flush=True)
            finally:
                for sides in started_sides:
                    for side in (*sides.own, *sides.peers):
                        side.close()


RELATIVE = ("relative to the first", "of its own step")
HEADERS = {
    clock: ("model", "batch", "side", "what", f"{kind}ms a step", f"pairs/{kind}s", *RELATIVE)
    for clock, kind in (("wall", ""), ("cpu", "CPU "))
}
HEADER_OF_LOGITS = (
    *("model", "batch", "side", "loss before", "after", "logits apart, TF32 off", "TF32 on", "largest logit"),
)


def write_data(options: argparse.Namespace, folder: str) -> None:
    """The impressions for all sides: arrays for those that have them in memory, and files for input and whole."""
    from benchmarks.samplers import CATEGORIES, impressions, write
    from ctr.models import impression as names

    values = impressions(options.impressions, 1, options.items)
    arrays = {
        "history_item": values[names.INDEX_OF[names.HISTORY_ITEM_ID]],
        "history_category": values[names.INDEX_OF[names.HISTORY_CATEGORY_ID]],
        "candidate_item": values[names.INDEX_OF[names.CANDIDATE_ITEM_ID]],
        "candidate_category": values[names.INDEX_OF[names.CANDIDATE_CATEGORY_ID]],
    }
    indices = names.FIRST_KNOWN_INDEX
    sizes = {"items": indices + options.items, "categories": indices + CATEGORIES}
    np.savez(os.path.join(folder, DATA), **{name: value.astype(np.int32) for name, value in arrays.items()}, **sizes)
    np.savez(os.path.join(folder, FEATURES), **values, known=options.items)
    if set(options.what) & {"input", "whole"}:
        files = os.path.join(folder, FILES)
        os.mkdir(files)
        write(values, files)


class Sides(NamedTuple):
    """What is measured of a model."""

    model: str
    own: list[Side]
    peers: list[Side]


def sides_of(
    model: str, options: argparse.Namespace, peers: dict[str, str], devices: Sequence[str], folder: str
) -> Sides:
    """Starts their processes."""
    cases = itertools.product(devices, options.compile, options.sides)
    command = "-m", "benchmarks.training_peers"
    return Sides(
        model,
        [started(Case(*case, model, options.precision, folder), options.clock) for case in cases],
        [
            Side(peer, [python, *command, peer, model, os.path.join(folder, DATA)], {}, options.clock)
            for peer, python in peers.items()
            if model in PEERS[peer]
        ],
    )


def started(case: Case, clock: Clock) -> Side:
    """A process for one device and one model."""
    # Without a GPU, as a machine without one would be; with one, several processes have to share it.
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if case.device == "cpu" else {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    command = [sys.executable, "-m", "benchmarks.training", "--side", *case]
    # Of ``auto`` the device says it.
    compiled = {"auto": "", "on": ", compiled", "off": ", not compiled"}[case.compile]
    return Side(f"{case.settings}, {case.device}{compiled}", command, hidden, clock)


def rates_of(batch: int, models: Sequence[Sides], options: argparse.Namespace) -> Iterator[Sequence[str]]:
    """Rows of a batch size, of each model peers first."""
    first: dict[str, list[float]] = {}
    steps: dict[tuple[str, str], float] = {}
    for what in options.what:
        turns = {of.model: [*(of.peers if what == "step" else []), *of.own] for of in models}
        for of in models:
            for side in turns[of.model]:
                side.prepare(*([str(batch)] if side in of.peers else [what, str(batch)]))
        # What still compiles would be measured with the first one.
        for side in itertools.chain(*turns.values()):
            side.wait_until_ready()
        for model, sides in turns.items():
            take_turns(sides, options.rounds, options.seconds)
            for side in sides:
                of_first = first.setdefault(model, side.rates)
                rate = statistics.median(side.rates)
                ratio = statistics.median(mine / its for mine, its in zip(side.rates, of_first, strict=True))
                of_step = steps.setdefault((model, side.name), rate)
                cells = [model, f"{batch:,}", side.name, what, f"{batch / rate * 1000:,.2f}", f"{2 * rate:,.0f}"]
                yield [*cells, f"{ratio:.2f}", f"{rate / of_step:.2f}"]


def logits_of(batch: int, models: Sequence[Sides], options: argparse.Namespace) -> Iterator[Sequence[str]]:
    """Rows of a batch size: of each model the first side trains, and all give logits by its weights."""
    for model, own, _ in models:
        for side in own:
            side.prepare("logits", str(batch))
            side.wait_until_ready()
            yield [model, f"{batch:,}", side.name, *side.facts["cells"]]


# --- in the process of a side ----------------------------------------------------------------------------------------


def prepare(case: Case, what: str, batch: str) -> tuple[Work, dict[str, Any]]:
    """What :func:`benchmarks.turns.answer` asks for."""
    import keras

    keras.config.set_dtype_policy(case.precision)
    size = int(batch)
    if what == "input":
        return _reads(_from_files(case, size), size), {}
    trainer = _trainer(case, size)
    if what == "whole":
        return _trains_on(trainer, _from_files(case, size)), {}
    batches = _in_memory(case, size)
    if what == "resident":
        return _resident(trainer, batches, size), {}
    if what == "logits":
        return lambda: 1, {"cells": _logits(case, trainer, batches)}
    return _trains_on(trainer, batches), {"parameters": trainer.model.count_params()}


def _config(case: Case) -> Any:
    from ctr.models.model_config import ModelConfig

    settings: dict[str, Any] = {"name": case.model}
    own: dict[str, dict[str, Any]]
    if case.settings != "default":
        settings |= {"embedding_dim": DIM, "hidden_units": HIDDEN}
        own = {
            "din": {"attention_units": ATTENTION},
            "dien": {"recurrent": {"units": 2 * DIM}},
            "transformer4rec": {"transformer": {"heads": HEADS, "width": 2 * DIM, "feed_forward": FEED_FORWARD * DIM}},
        }
        settings |= own.get(case.model, {})
    if case.settings == "same":
        settings |= dict.fromkeys(("match_features", "behavior_embedding", "age_embedding"), False)
        settings |= {"item_unknown_rate": 0.0, "embedding_l2": 0.0}
        own = {"dien": {"dien": {"auxiliary_weight": 0.0}}, "bert4rec": {"bert4rec": {"cloze_weight": 0.0}}}
        settings |= own.get(case.model, {})
    return ModelConfig.model_validate(settings)


@functools.lru_cache(maxsize=1)
def _trainer(case: Case, batch: int) -> Any:
    """The Trainer's loop around a model, on the devices that the Trainer step would use; ``whole`` goes on with that of
    ``step``, which has been compiled."""
    from benchmarks.samplers import trainer_of
    from ctr.models.samplers.base import TrainingWindow
    from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

    nothing = np.empty(0, np.int64)
    with np.load(os.path.join(case.folder, FEATURES)) as values:
        known = TrainingWindow(int(values["known"]), nothing, nothing, nothing)
    chosen: Any = case.compile
    return trainer_of(_config(case), SamplerConfig(), LossConfig(), known, 1, batch, compile=chosen)


def _in_memory(case: Case, batch: int) -> Any:
    """Whole batches of (inputs, labels), as the input pipeline gives them."""
    import tensorflow as tf

    with np.load(os.path.join(case.folder, FEATURES)) as file:
        values = {name: file[name] for name in file.files if file[name].ndim}
    steps = len(next(iter(values.values()))) // batch
    # To put a batch together of its rows would take longer than a step of a GPU.
    whole = {name: tf.constant(value[: steps * batch].reshape(steps, batch, -1)) for name, value in values.items()}
    labels = tf.tile(tf.constant([[1.0, 0.0]]), [batch, 1])

    def taken(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return {name: value[number] for name, value in whole.items()}, labels

    numbers = tf.data.Dataset.range(steps).repeat(PASSES[case.device])
    return numbers.map(taken, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _from_files(case: Case, batch: int) -> Any:
    """As the Trainer reads them, each file often enough that a pass takes longer than it takes to start."""
    from benchmarks.samplers import LENGTH
    from ctr.components.trainer.input_pipeline import read_batches

    files = [str(path) for path in Path(case.folder, FILES).iterdir()] * 4 * PASSES[case.device]
    return read_batches(
        files, batch_size=batch, history_length=LENGTH, shuffle_buffer=SHUFFLE_BUFFER, seed=1, candidates=2
    )


def _trains_on(trainer: Any, batches: Any) -> Work:
    def epoch() -> int:
        _, impressions = trainer.train_epoch(batches)
        return int(impressions)

    return epoch


def _resident(trainer: Any, batches: Any, batch: int) -> Work:
    import tensorflow as tf

    from ctr.components.trainer.step import of_shapes

    shapes = trainer.shapes_of(batches)
    held = next(iter(trainer.strategy.experimental_distribute_dataset(batches)))

    @tf.function
    def steps(count: tf.Tensor) -> tf.Tensor:
        loss = tf.zeros([])
        for _ in tf.range(count):
            sums = trainer.strategy.run(lambda part: trainer.step.train(of_shapes(part, shapes)), args=(held,))
            loss += trainer.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)[0]
        return loss

    def work() -> int:
        float(steps(tf.constant(RESIDENT_STEPS)))
        return RESIDENT_STEPS * batch

    return work


def _reads(batches: Any, batch: int) -> Work:
    def epoch() -> int:
        return sum(batch for _ in batches)

    return epoch


def _logits(case: Case, trainer: Any, batches: Any) -> list[str]:
    """Cells: the first process that is asked trains and keeps its weights; the others load them."""
    import tensorflow as tf

    kept = Path(case.folder) / f"logits-{case.model}.npz"
    first, _ = next(iter(batches))

    def logits() -> np.ndarray:
        return np.asarray(trainer.model(first, training=False).logits)

    if not kept.exists():
        before, _ = trainer.evaluate(batches)
        trainer.train_epoch(batches)
        after, _ = trainer.evaluate(batches)
        np.savez(kept, *trainer.model.get_weights(), logits=logits())
        return [f"{before:.4f}", f"{after:.4f}", "", "", f"{np.abs(logits()).max():.1f}"]
    with np.load(kept) as file:
        trainer.model.set_weights([file[f"arr_{number}"] for number in range(len(file.files) - 1)])
        theirs = file["logits"]
    apart = []
    for allowed in (False, True):
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
        apart.append(f"{np.abs(logits() - theirs).max():.1e}")
    return ["", "", *apart, f"{np.abs(theirs).max():.1f}"]


if __name__ == "__main__":
    main()
