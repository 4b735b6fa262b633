"""What the end-to-end tests share: one run and where its artifacts are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import PipelineConfig
from pipeline.layout import Layout
from pipeline.local_runner import RunResult
from pipeline.runs import node_runs

SETTINGS = ("--set", "training.epochs=2", "--set", "evaluation.min_auc=0.55")


@dataclass(frozen=True)
class Trained:
    """The run that the tests share.

    Attributes:
      config: with absolute paths.
      result: of the run.
      rows: lines of the log.
    """

    config: PipelineConfig
    result: RunResult
    rows: int

    @property
    def output(self) -> Path:
        return Path(self.config.output)

    @property
    def serving(self) -> Path:
        return Path(Layout(self.config.output).model_base(self.config.served_model_name))

    @property
    def version_dir(self) -> Path:
        return self.serving / str(self.result.pushed_version)

    def artifact(self, node: str, key: str) -> Path:
        nodes = node_runs(Layout(self.config.output).metadata_db, self.config.pipeline_name, self.result.run_id)
        return Path(next(n for n in nodes if n.node == node).outputs[key])

    def arguments(self, *extra: str) -> list[str]:
        """Of a ``run`` with the same settings, but for ``extra``."""
        common = ["run", "--data", self.config.data, "--preset", "demo", "--output", self.config.output]
        return [*common, *SETTINGS, *extra]
