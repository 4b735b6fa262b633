"""How many operations a training step is: as TensorFlow runs it, and after XLA has compiled it.

Counted is what a step is traced to, without what only names or passes on a tensor (and a loop's body once, so that
recurrent models show less than they run); of the compiled one, what is left in the program's entry. Each of them is a
kernel's launch on a GPU, or more.

With ``--time`` it says instead where the time of a step goes that a CPU runs operation by operation, of TensorFlow's
profiler with one thread: the processor's time of a step, that of each kind of operation (the median of each operation
times its calls), and what is left, between operations. It all runs on a CPU.

    .venv/bin/python -m benchmarks.step_operations --models dnn din transformer4rec
    .venv/bin/python -m benchmarks.step_operations --models dnn din --batch 128 --time
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from benchmarks.samplers import impressions, trainer_of
from ctr.components.trainer.fit import TrainingLoop
from ctr.components.trainer.step import Batch
from ctr.models.compiled import compiled
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS
from ctr.models.samplers.base import TrainingWindow
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

NOTHING: Final = {"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "StopGradient", "_Arg", "_Retval"}
NOTHING_COMPILED: Final = {"parameter", "tuple", "get-tuple-element", "constant", "bitcast"}
ITEMS: Final = 20_000
BATCHES, WARM_UP, ROUNDS = 64, 8, 5
"""Of ``--time``: different ones, as in training, since what is not padding differs; and passes over them."""
KINDS: Final = {
    "products": "MatMul|Einsum",
    "elementwise": "Mul|Add|AddV2|AddN|Sub|Neg|Square|Sqrt|Rsqrt|RealDiv|Sigmoid|SigmoidGrad|Tanh|TanhGrad|Exp|Log1p|"
    "Relu|ReluGrad|Maximum|Minimum|SelectV2|Cast|Equal|NotEqual|Pow|BiasAdd",
    "sums": "Sum|Max|Min|Cumsum|BiasAddGrad|Mean",
    "rows": "ResourceGather|Gather|GatherV2|GatherNd|ScatterNd|Unique|UniqueV2|UnsortedSegmentSum|UnsortedSegmentMax|"
    "Where|ResourceScatterUpdate|ResourceScatterAdd",
    "layout": "Concat|ConcatV2|Split|SplitV|Slice|StridedSlice|StridedSliceGrad|Tile|Transpose|Pack|Unpack|Pad|"
    "BroadcastTo|Reshape|ZerosLike",
    "update of what is dense": "ResourceApplyAdam|AssignVariableOp|AssignSubVariableOp|AssignAddVariableOp",
}


def plain(trainer: TrainingLoop, batch: Batch) -> int:
    """Operations of a step that is not compiled."""
    step = tf.function(lambda batch: trainer.strategy.run(trainer.step.train, args=(batch,)), autograph=False)
    graph = step.get_concrete_function(batch).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return sum(node.op not in NOTHING for node in nodes)


def after_xla(trainer: TrainingLoop, batch: Batch) -> int:
    """Instructions of the compiled program."""

    def traced(batch: Batch) -> tf.Tensor:
        with compiled():
            return trainer.step.train(batch)

    step = tf.function(traced, jit_compile=True, autograph=False)
    program = step.experimental_get_compiler_ir(batch)(stage="optimized_hlo")
    entry = program[program.index("\nENTRY ") :]
    kinds = re.findall(r"^  (?:ROOT )?\S+ = .*?\s([a-z][a-z0-9-]*)\(", entry, re.MULTILINE)
    return sum(kind not in NOTHING_COMPILED for kind in kinds)


def times_of(trainer: TrainingLoop, batches: Sequence[Batch]) -> dict[str, float]:
    """Milliseconds of the processor: a whole step, each of :data:`KINDS`, others, and between operations."""
    run: Callable[[Batch], Any] = tf.function(lambda batch: trainer.strategy.run(trainer.step.train, args=(batch,)))
    for batch in batches[:WARM_UP]:
        run(batch)

    def taken() -> float:
        start = time.process_time()
        for batch in batches:
            run(batch)
        return (time.process_time() - start) / len(batches) * 1000

    whole = statistics.median(taken() for _ in range(ROUNDS))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        taken()
        tf.profiler.experimental.stop()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        found = dict.fromkeys([*KINDS, "others"], 0.0)
        for kind, durations in _operations(trace.read_bytes()).values():
            bare = re.sub("^_Mkl(Native)?(Fused|Batch)?|^_Fused|^Batch|V2$", "", kind)
            group = next((name for name, kinds in KINDS.items() if {kind, bare} & set(kinds.split("|"))), "others")
            found[group] += statistics.median(durations) * len(durations) / len(batches)
    return {"a step": whole, **found, "between operations": whole - sum(found.values())}


def _operations(trace: bytes) -> dict[str, tuple[str, list[float]]]:
    """Name of an operation in the graph -> its kind, and the milliseconds of its calls."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    found: dict[str, tuple[str, list[float]]] = defaultdict(lambda: ("", []))
    for plane in XSpace.FromString(trace).planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if called := re.fullmatch(r"[^:]+:(_?[A-Z]\w*)", name):
                found[name] = called[1], [*found[name][1], event.duration_ps / 1e9]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default: all")
    parser.add_argument("--batch", type=int, default=256, help="impressions; default: %(default)s")
    parser.add_argument("--time", action="store_true", help="where the time of a step goes on a CPU")
    options = parser.parse_args(arguments)
    tf.config.set_visible_devices([], "GPU")
    if options.time:
        # With one thread an operation takes as long as the processor works at it.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    nothing = np.empty(0, np.int64)
    known = TrainingWindow(ITEMS, nothing, nothing, nothing)
    labels = np.tile(np.array([1, 0], np.float32), (options.batch, 1))
    batches: list[Batch] = [
        tf.nest.map_structure(tf.constant, (impressions(options.batch, 1, ITEMS, seed), labels))
        for seed in range(BATCHES if options.time else 1)
    ]
    columns = (
        ["a step", *KINDS, "others", "between operations"] if options.time else ["operations of a step", "after XLA"]
    )
    print(f"| model | {' | '.join(columns)} |\n|{' --- |' * (1 + len(columns))}")
    for model in options.models:
        trainer = trainer_of(ModelConfig(name=model), SamplerConfig(), LossConfig(), known, 1, options.batch)
        if options.time:
            cells = [f"{milliseconds:.2f}" for milliseconds in times_of(trainer, batches).values()]
        else:
            cells = [f"{plain(trainer, batches[0]):,}", f"{after_xla(trainer, batches[0]):,}"]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
