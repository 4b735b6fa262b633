"""The numbers of a run as data: readable without TensorFlow or TFX."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any, Final

from ctr.components.files import open_file
from ctr.components.scoring.baselines import BaselineResults
from ctr.components.scoring.verdict import Verdict
from ctr.models.section import Record

REPORT_JSON: Final = "report.json"
REPORT_MARKDOWN: Final = "report.md"
"""Files in a ``RunReport`` artifact."""


class Report(Record):
    """One run, from the rows of the log to the version that was pushed."""

    config: dict[str, Any]
    """The whole ``PipelineConfig`` of the run."""
    rows_read: int
    rows_kept: int
    quarantined: dict[str, int]
    """Reason -> rows of the log that were set aside."""
    users: int
    impressions: dict[str, int]
    """Split -> impressions."""
    dropped: dict[str, dict[str, int]]
    """Split -> reason -> events that became no impression; for eval, a reason may hold for one negative set alone."""
    items_with_several_categories: int
    vocabulary: dict[str, int]
    """``items`` and ``categories`` that have an index of their own."""
    baselines: BaselineResults
    verdict: Verdict
    pushed_version: int | None
    """None if nothing was pushed."""
    pushed_to: str | None

    @property
    def blessed(self) -> bool:
        """Whether the model passed the gate."""
        return self.verdict.blessed


def read_report(uri: str) -> Report:
    """Reads a ``RunReport`` artifact.

    Raises:
      FileNotFoundError: if there is no report.
    """
    with closing(open_file(os.path.join(uri, REPORT_JSON))) as file:
        return Report.model_validate_json(file.read())
