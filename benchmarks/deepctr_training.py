"""Training speed and size against DeepCTR's DIN, DIEN and BST: same data, shapes and batch, in the same run.

Both sides train on the same random pairs: items and categories of one vocabulary, histories of 1 to 50 events,
embedding dimension 16, batches of 256 pairs (here 128 impressions of 2 candidates), DeepCTR's default widths
(MLP 256-128-64, DIN's attention 80-40, BST with 8 heads and an inner width of 4 x 32), Adam. Each side is a process
of its own that has compiled and warmed up; then they take turns, and the median of their rounds counts.

Rows: "same inputs" has item and category alone on both sides and, as DeepCTR's DIEN without negatives, no auxiliary
loss. "as shipped" is this project's default: behaviour and age of each event, match features, unknown items, and
DIEN's auxiliary loss, which the peer's numbers do not have.

DeepCTR needs environments of its own, one a TensorFlow version (its DIEN fails on 2.15):

    python3.10 -m venv peer-2.15 && peer-2.15/bin/pip install -r benchmarks/deepctr_2.15.txt
    python3.10 -m venv peer-2.10 && peer-2.10/bin/pip install -r benchmarks/deepctr_2.10.txt
    .venv/bin/python -m benchmarks.deepctr_training --peer-2.15 peer-2.15/bin/python --peer-2.10 peer-2.10/bin/python

Without them, --without-peers measures this project's side alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

ITEMS, CATEGORIES, LENGTH, DIM, PAIRS_A_BATCH = 20_000, 1_000, 50, 16, 256
THREADS = 2
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::FutureWarning"}
"""Libraries warn of the Python they run on at each import."""
ROOT = Path(__file__).resolve().parents[1]
MODELS = {"din": "2.15", "dien": "2.10", "transformer4rec": "2.10"}
"""Ours -> the TensorFlow that DeepCTR's counterpart runs on."""


def make_data(pairs: int) -> dict[str, np.ndarray]:
    """[n] targets and [n, 50] histories of items and categories from 1, lengths, and labels; pairs 2k and 2k + 1
    share their history."""
    rng = np.random.default_rng(0)
    length = np.repeat(rng.integers(1, LENGTH + 1, pairs // 2), 2)
    real = np.arange(LENGTH)[None, :] < length[:, None]
    history = np.repeat(rng.integers(1, ITEMS, (pairs // 2, LENGTH)), 2, axis=0) * real
    item = rng.integers(1, ITEMS, pairs)
    return {
        "item": item,
        "category": 1 + item % (CATEGORIES - 1),
        "history_item": history,
        "history_category": np.where(real, 1 + history % (CATEGORIES - 1), 0),
        "length": length,
        "label": (np.arange(pairs) % 2 == 0).astype("float32"),
    }


def peer(name: str, pairs: int) -> tuple[Callable[[], None], int, int]:
    """DeepCTR's model: a function that trains on all pairs once, all parameters, and those outside embeddings."""
    import tensorflow as tf
    from deepctr.feature_column import SparseFeat, VarLenSparseFeat
    from deepctr.models import BST, DIEN, DIN

    data = make_data(pairs)
    target = [SparseFeat("item", ITEMS, DIM), SparseFeat("category", CATEGORIES, DIM)]
    history = [
        VarLenSparseFeat(
            SparseFeat(f"hist_{name}", size, DIM, embedding_name=name), maxlen=LENGTH, length_name="seq_length"
        )
        for name, size in (("item", ITEMS), ("category", CATEGORIES))
    ]
    columns, behaviours = target + history, ["item", "category"]
    if name == "din":
        model = DIN(columns, behaviours)
    elif name == "dien":
        # Its recurrence cannot be built eagerly; DeepCTR's own example does the same.
        tf.compat.v1.disable_eager_execution()
        model = DIEN(columns, behaviours, gru_type="AUGRU", use_negsampling=False)
    else:
        model = BST(columns, behaviours)
    inputs = {
        "item": data["item"],
        "category": data["category"],
        "hist_item": data["history_item"],
        "hist_category": data["history_category"],
        "seq_length": data["length"],
    }
    model.compile("adam", "binary_crossentropy")
    embeddings = sum(int(np.prod(w.shape)) for w in model.weights if "embedding" in w.name and "/" in w.name)

    def epoch() -> None:
        model.fit(inputs, data["label"], batch_size=PAIRS_A_BATCH, epochs=1, verbose=0, shuffle=False)

    return epoch, model.count_params(), model.count_params() - embeddings


def ours(name: str, as_shipped: bool, pairs: int) -> tuple[Callable[[], None], int, int]:
    """This project's model through its own training loop; returns as :func:`peer` does."""
    import tensorflow as tf

    from ctr.components.trainer.fit import TrainingLoop
    from ctr.models import impression as names
    from ctr.models.model_config import ModelConfig
    from ctr.models.negatives import StoredNegatives
    from ctr.models.registry import build_model
    from ctr.models.samplers.base import TrainingWindow
    from ctr.models.samplers.registry import SamplerContext, build_sampler
    from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

    settings: dict[str, Any] = {"transformer": {"heads": 8, "width": 2 * DIM, "feed_forward": 8 * DIM}}
    if not as_shipped:
        settings |= dict.fromkeys(("match_features", "behavior_embedding", "age_embedding"), False)
        settings |= {"item_unknown_rate": 0.0, "embedding_l2": 0.0, "dien": {"auxiliary_weight": 0.0}}
    settings |= {"name": name, "embedding_dim": DIM, "hidden_units": (256, 128, 64), "attention_units": (80, 40)}
    config = ModelConfig.model_validate({**settings, "recurrent": {"units": 2 * DIM}})
    data = make_data(pairs)
    rows = slice(None, None, 2)
    real = data["history_item"][rows] > 0
    inputs = {
        names.HISTORY_ITEM_ID: data["history_item"][rows],
        names.HISTORY_CATEGORY_ID: data["history_category"][rows],
        names.HISTORY_BEHAVIOR: real.astype("int64"),
        names.HISTORY_AGE: np.where(real, (LENGTH - np.arange(LENGTH))[None, :] * 600, 0),
        names.CANDIDATE_ITEM_ID: data["item"].reshape(-1, 2),
        names.CANDIDATE_CATEGORY_ID: data["category"].reshape(-1, 2),
        names.USER_ID: np.arange(pairs // 2)[:, None],
    }
    inputs |= {index: inputs[raw] for raw, index in names.INDEX_OF.items()}
    model = build_model(config, ITEMS, CATEGORIES, LENGTH)
    nothing = np.empty(0, np.int64)
    sampler = build_sampler(
        SamplerContext(
            SamplerConfig(),
            window=TrainingWindow(ITEMS, nothing, nothing, nothing),
            stored=StoredNegatives(uniform=1, same_category=0, contemporaneous=0),
            batch_size=PAIRS_A_BATCH // 2,
            seed=1,
        )
    )
    trainer = TrainingLoop(model, tf.distribute.get_strategy(), sampler, LossConfig(), 1e-3, config.embedding_l2)
    batches = tf.data.Dataset.from_tensor_slices((inputs, data["label"].reshape(-1, 2)))
    batches = batches.batch(PAIRS_A_BATCH // 2, drop_remainder=True).cache().prefetch(tf.data.AUTOTUNE)
    parameters = model.count_params()

    def epoch() -> None:
        trainer.train_epoch(batches)

    return epoch, parameters, parameters - model.embedding.count_params()


def child(side: str, name: str, seconds: float, size: int) -> None:
    """Answers each line on standard input with the pairs a second of a round of at least ``seconds``."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    epoch, parameters, dense = peer(name, size) if side == "peer" else ours(name, side == "shipped", size)
    epoch()
    print(f"READY {parameters} {dense}", flush=True)
    for _ in sys.stdin:
        start, pairs = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds:
            epoch()
            pairs += size
        print(f"RATE {pairs / passed}", flush=True)


class Side:
    """A child process and what it said."""

    def __init__(self, python: str, side: str, name: str, options: argparse.Namespace) -> None:
        sizes = ["--seconds", str(options.seconds), "--batches", str(options.batches)]
        command = [python, "-m", "benchmarks.deepctr_training", "--child", side, name, *sizes]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **QUIET}
        self.rates: list[float] = []
        # What it says on standard error stands among the words of this process.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self._questions = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def wait_until_ready(self) -> None:
        """Until it has compiled and trained once."""
        self.parameters, self.dense = (int(word) for word in self._answer("READY"))

    def round(self) -> None:
        """Trains for a round and keeps its rate."""
        self._questions.write("go\n")
        self._questions.flush()
        self.rates.append(float(self._answer("RATE")[0]))

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self, word: str) -> list[str]:
        for line in self._answers:
            if line.startswith(word):
                return line.split()[1:]
        raise SystemExit(
            f"error: a side ended with code {self._process.wait()} before it said {word}; what it said stands above: "
            f"{' '.join(cast(list[str], self._process.args))}"
        )


def compare(name: str, peer_python: str | None, options: argparse.Namespace) -> list[str]:
    """Rows of the table for one model; without a peer its cells say so."""
    theirs = Side(peer_python, "peer", name, options) if peer_python else None
    sides = {kind: Side(sys.executable, kind, name, options) for kind in ("same", "shipped")}
    everybody = [*([theirs] if theirs else []), *sides.values()]
    try:
        for side in everybody:
            side.wait_until_ready()
        for _ in range(options.rounds):
            for side in everybody:
                side.round()
    finally:
        for side in everybody:
            side.close()
    rows = []
    for kind, side in sides.items():
        cells = [name, "same inputs" if kind == "same" else "as shipped", f"{statistics.median(side.rates):,.0f}"]
        own = f"{side.parameters:,} ({side.dense:,})"
        if theirs:
            ratio = statistics.median(a / b for a, b in zip(side.rates, theirs.rates, strict=True))
            cells += [f"{statistics.median(theirs.rates):,.0f}", f"{ratio:.2f}", own]
            cells.append(f"{theirs.parameters:,} ({theirs.dense:,})")
        else:
            cells += ["not measured", "no peer", own, "not measured"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-2.15", dest="peer_215", help="Python of the environment with TensorFlow 2.15")
    parser.add_argument("--peer-2.10", dest="peer_210", help="Python of the environment with TensorFlow 2.10")
    parser.add_argument("--without-peers", action="store_true", help="measure this project's side alone")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round; default: %(default)s")
    parser.add_argument("--batches", type=int, default=128, help="of the data; default: %(default)s")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        side, name = options.child
        child(side, name, options.seconds, options.batches * PAIRS_A_BATCH)
        return
    given = {"2.15": options.peer_215, "2.10": options.peer_210}
    pythons = {} if options.without_peers else {name: given[MODELS[name]] for name in options.models}
    for name, python in pythons.items():
        version = MODELS[name]
        if not python or shutil.which(python) is None:
            parser.error(
                f"{name} stands beside DeepCTR on TensorFlow {version}, and --peer-{version} "
                f"{f'{python} is no program' if python else 'is missing'}. Make its environment with\n"
                f"  python3.10 -m venv peer-{version} && peer-{version}/bin/pip install -r "
                f"benchmarks/deepctr_{version}.txt\n"
                f"and give --peer-{version} peer-{version}/bin/python, or measure one side --without-peers"
            )
    print("| model | | pairs/s | DeepCTR, pairs/s | ratio | parameters (outside embeddings) | DeepCTR, likewise |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.models:
        print("\n".join(compare(name, pythons.get(name), options)), flush=True)


if __name__ == "__main__":
    main()
