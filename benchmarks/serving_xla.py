"""Whether XLA would make a served model faster on a CPU: the part of ``rank`` that it can compile, with one thread.

The signature as a whole cannot be compiled: it looks ids up in tables, checks requests in words and has ragged tensors.
What is behind those is the model's own call on dense features, [B, L] and [B, N]. It is called here as it is exported,
for any B and N, and compiled, where each B and N is a program of its own. Printed: milliseconds of CPU of a row, and
the seconds that one program takes to compile.

    .venv/bin/python -m benchmarks.serving_xla
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

from ctr.models.impression import CANDIDATE_FEATURES, INDEX_OF, MODEL_INPUTS
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS, build_model

ITEMS: Final = 50_000
CATEGORIES: Final = 5_000
LENGTH: Final = 50
CANDIDATES: Final = 100


def features(rows: int) -> dict[str, tf.Tensor]:
    """What a model gets: no padding, any ids."""
    draw = np.random.default_rng(1)
    of_candidates = {*CANDIDATE_FEATURES, *(INDEX_OF[name] for name in CANDIDATE_FEATURES if name in INDEX_OF)}
    shapes = {name: (rows, CANDIDATES if name in of_candidates else LENGTH) for name in MODEL_INPUTS}
    return {
        name: tf.constant(draw.integers(1, 5 if "behavior" in name else CATEGORIES, shape))
        for name, shape in shapes.items()
    }


def milliseconds(
    call: Callable[[dict[str, tf.Tensor]], Any], inputs: dict[str, tf.Tensor], rows: int, seconds: float
) -> float:
    """CPU of a row."""
    for _ in range(3):
        call(inputs)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        call(inputs)
        count += 1
    return (time.process_time() - start) / count / rows * 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["dnn", "din"], help="default: dnn din")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 16], help="of a request; default: 1 16")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round, at least; default: %(default)s")
    options = parser.parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print("| model | rows | as exported, ms | compiled, ms | ratio | s to compile |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.models:
        model = build_model(ModelConfig(name=name), ITEMS, CATEGORIES, LENGTH)
        model(features(1))
        for rows in options.rows:
            inputs = features(rows)

            def call(given: dict[str, tf.Tensor], model: Any = model) -> tf.Tensor:
                logits: tf.Tensor = model(given, training=False).logits
                return logits

            any_size = [{key: tf.TensorSpec([None, None], tf.int64) for key in inputs}]
            exported = tf.function(call, input_signature=any_size)
            compiled = tf.function(call, jit_compile=True)
            start = time.perf_counter()
            np.testing.assert_allclose(compiled(inputs), exported(inputs), rtol=1e-4, atol=1e-5)
            compiling = time.perf_counter() - start
            pairs = [
                tuple(milliseconds(way, inputs, rows, options.seconds) for way in (exported, compiled))
                for _ in range(options.rounds)
            ]
            plain, fast = np.median(pairs, axis=0)
            ratio = np.median([after / before for before, after in pairs])
            print(f"| {name} | {rows} | {plain:.3f} | {fast:.3f} | {ratio:.2f} | {compiling:.1f} |", flush=True)


if __name__ == "__main__":
    main()
