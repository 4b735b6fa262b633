"""The steps of the pipeline, a folder each.

Artifact types of our own can be taken from here, where their ``TYPE_NAME`` says: ``components.RunReport``. Vertex AI
knows a type by that name alone and imports it.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

_ARTIFACT_TYPES: Final = {
    "BaselineReport": ("baselines", "BaselineReport"),
    "DataApproval": ("anomaly_gate", "DataApproval"),
    "ImpressionCatalogue": ("impression_gen", "Catalogue"),
    "ImpressionQuarantine": ("impression_gen", "Quarantine"),
    "RunReport": ("run_report", "RunReportArtifact"),
}


def __getattr__(name: str) -> Any:
    # On demand: most of what imports this package needs no TFX.
    if name not in _ARTIFACT_TYPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    folder, attribute = _ARTIFACT_TYPES[name]
    return getattr(importlib.import_module(f"{__name__}.{folder}.component"), attribute)
