"""The types of artifact that steps hand on beside TFX's own, and what is read off TFX's."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from tfx.types.artifact import Artifact

Artifacts: TypeAlias = dict[str, list[Artifact]]
"""What an executor reads or writes, by name."""
Properties: TypeAlias = dict[str, Any]
"""What it is told, by name."""

EPOCHS_FILE: Final = "epochs.json"
"""What the Trainer says of its epochs, in its model run."""


class ImpressionCatalogue(Artifact):
    """Items and categories of the train split, and the summary of the ingest: ``catalogue.py``, ``summary.py``."""

    TYPE_NAME = "ctr.ImpressionCatalogue"


class ImpressionQuarantine(Artifact):
    """Rows of the log that could not be used; see ``quarantine.py``."""

    TYPE_NAME = "ctr.ImpressionQuarantine"


class DataApproval(Artifact):
    """Says that no split was empty, had an anomaly or had drifted: ``drift.json``, see ``components/drift.py``."""

    TYPE_NAME = "ctr.DataApproval"


class BaselineReport(Artifact):
    """``baselines.json``: :class:`ctr.components.scoring.baselines.BaselineResults`; and a scored shard for each of the
    eval split: :mod:`ctr.components.scoring.scored_shards`."""

    TYPE_NAME = "ctr.BaselineReport"


class SkewReport(Artifact):
    """``skew.json``: :class:`ctr.components.skew.SkewFindings`, of a model that answers alike in every way."""

    TYPE_NAME = "ctr.SkewReport"


class RunReport(Artifact):
    """``report.json`` (:class:`ctr.components.run_report.report.Report`), ``report.md`` and ``report.html``."""

    TYPE_NAME = "ctr.RunReport"


def pushed_version(pushed_model: Artifact) -> int | None:
    """The version that a ``PushedModel`` artifact stands for, None if nothing was pushed."""
    if pushed_model.get_int_custom_property("pushed") != 1:
        return None
    return int(pushed_model.get_string_custom_property("pushed_version"))
