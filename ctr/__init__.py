"""The root that every import starts from, ``ctr.models.din`` for instance; its rooms lie beside this folder.

Artifact types of our own can be taken from here, where their ``TYPE_NAME`` says: ``ctr.RunReport``. Vertex AI knows a
type by that name alone, which may have one dot, and imports it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand: most of what imports this package needs no TFX.
    if not name[0].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("ctr.components.artifacts"), name)
