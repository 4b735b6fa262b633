"""The commands of the program that a person is shown, in their order."""

from __future__ import annotations

LISTED = (
    *("run", "report", "sweep", "runs", "compare", "lineage"),
    *("serve", "predict", "release", "inspect", "ids", "check-data", "generate", "show-config", "clean", "demo"),
    *("compile", "submit", "schedule", "completion"),
)
