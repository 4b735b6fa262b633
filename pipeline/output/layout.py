"""Where a run's output folder keeps what: one place for the names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

IMPRESSIONS: Final = ("ImpressionGen", "examples")
CATALOGUE: Final = ("ImpressionGen", "catalogue")
"""The node and its output that hold a run's impressions."""
REPORT: Final = ("RunReport", "report")
"""Likewise, of what the run found."""
PUSHER: Final = "Pusher"
"""The node that pushes a version."""
TRAINER: Final = "Trainer"
EVALUATOR: Final = "Evaluator"
"""Further nodes whose outputs are read after a run."""


@dataclass(frozen=True)
class Layout:
    """Names under the output folder of a run."""

    output: str
    """The folder, as in ``PipelineConfig.output``."""

    @property
    def artifacts(self) -> str:
        """Pipeline root: every artifact of every node."""
        return os.path.join(self.output, "artifacts")

    @property
    def metadata_db(self) -> str:
        """SQLite file of ML Metadata."""
        return os.path.join(self.output, "metadata", "metadata.sqlite")

    @property
    def logs(self) -> str:
        """One log file a run."""
        return os.path.join(self.output, "logs")

    @property
    def runs(self) -> str:
        """A lock file for each run that is under way."""
        return os.path.join(self.output, "runs")

    @property
    def serving(self) -> str:
        """One folder a served model name, with its integer versions below."""
        return os.path.join(self.output, "serving")

    @property
    def reports(self) -> str:
        """One page a run."""
        return os.path.join(self.output, "reports")

    @property
    def sweep(self) -> str:
        """Results, table and plot of sweeps."""
        return os.path.join(self.output, "sweep")

    def model_base(self, served_model_name: str) -> str:
        """The folder that a server watches for versions of this model."""
        return os.path.join(self.serving, served_model_name)
