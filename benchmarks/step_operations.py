"""How many operations a training step is: as TensorFlow runs it, and after XLA has compiled it.

Counted is what a step is traced to, without what only names or passes on a tensor (and a loop's body once, so that
recurrent models show less than they run); of the compiled one, what is left in the program's entry. Each of them is a
kernel's launch on a GPU, or more. It runs on a CPU and measures no time.

    .venv/bin/python -m benchmarks.step_operations --models dnn din transformer4rec
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Final

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default: all")
    parser.add_argument("--batch", type=int, default=256, help="impressions; default: %(default)s")
    options = parser.parse_args(arguments)
    tf.config.set_visible_devices([], "GPU")
    nothing = np.empty(0, np.int64)
    known = TrainingWindow(ITEMS, nothing, nothing, nothing)
    labels = np.tile(np.array([1, 0], np.float32), (options.batch, 1))
    batch = tf.nest.map_structure(tf.constant, (impressions(options.batch, 1, ITEMS), labels))
    print("| model | operations of a step | after XLA |\n| --- | --- | --- |")
    for model in options.models:
        trainer = trainer_of(ModelConfig(name=model), SamplerConfig(), LossConfig(), known, 1, options.batch)
        print(f"| {model} | {plain(trainer, batch):,} | {after_xla(trainer, batch):,} |", flush=True)


if __name__ == "__main__":
    main()
