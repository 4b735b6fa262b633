"""What the tests of training share."""

from __future__ import annotations

import os

from graph_passes import _without_graph_passes

__all__ = ["_without_graph_passes"]

# LLVM's optimiser takes a third of the time of a step's first call, and what it makes of a step runs a few times here.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
