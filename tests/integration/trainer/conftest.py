"""What the tests of training share."""

from __future__ import annotations

from graph_passes import _without_graph_passes

__all__ = ["_without_graph_passes"]
