"""What the end-to-end tests share: one run and where its artifacts are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import node_runs
from ctr.pipeline.runners.local import RunResult
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from ctr.models.contract import Ranker

SETTINGS = (
    "--set",
    "training.epochs=2",
    "--set",
    "evaluation.bounds.auc.min=0.55",
    "--set",
    "evaluation.bounds.auc.min_margin=null",
    "--set",
    "sampler.name=streaming_frequency",
    "--set",
    "training.auc_fractions=2",
    "--set",
    "training.profile_steps=2",
)
"""A sampler that keeps variables, so that all that follows shows that they stay in training. Trained as little as
this, a model may be below the logistic regression. Followed as closely as can be."""


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
        return self.serving / str(self.result.report.pushed_version)

    def artifact(self, node: str, key: str) -> Path:
        nodes = node_runs(Layout(self.config.output).metadata_db, self.config.pipeline_name, self.result.run_id)
        return Path(next(n for n in nodes if n.node == node).outputs[key])

    def arguments(self, *extra: str) -> list[str]:
        """Of a ``run`` with the same settings, but for ``extra``."""
        common = ["run", "--data", self.config.data, "--preset", "demo", "--output", self.config.output]
        return [*common, *SETTINGS, *extra]


def restored_model(trained: Trained) -> Ranker:
    """The pushed model as an object of this project."""
    import tensorflow_transform as tft

    from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
    from ctr.components.skew_check.check import with_exported_weights
    from ctr.models.impression import FIRST_KNOWN_INDEX
    from ctr.models.registry import build_model

    graph = tft.TFTransformOutput(str(trained.artifact("ImpressionTransform", "transform_graph")))
    model = build_model(
        trained.config.model,
        item_indices=FIRST_KNOWN_INDEX + graph.vocabulary_size_by_name(ITEM_VOCABULARY),
        category_indices=FIRST_KNOWN_INDEX + graph.vocabulary_size_by_name(CATEGORY_VOCABULARY),
        history_length=trained.config.ingest.history_length,
    )
    assert with_exported_weights(model, str(trained.version_dir))
    return model
