"""The steps of the pipeline, a folder each.

Artifact types of our own can be taken from here, where their ``TYPE_NAME`` says: ``ctr.components.RunReport``. Vertex
AI knows a type by that name alone and imports it.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    # On demand: most of what imports this package needs no TFX.
    if not name[0].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.artifacts"), name)
