"""The step that scores the trivial baselines."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.utils import io_utils

from ctr.components.artifacts import BaselineReport, ImpressionCatalogue
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import list_shards
from ctr.components.scoring.baselines import FILE_NAME
from ctr.models.impression import SPLITS
from ctr.models.section import Section


class BaselinesSettings(Section):
    """What the baselines depend on."""

    training_impressions: int
    """``evaluation.baseline_training_impressions``."""
    seed: int
    """Of the sample that the regression is fitted on."""


@component
def Baselines(
    transformed_examples: InputArtifact[Examples],
    catalogue: InputArtifact[ImpressionCatalogue],
    report: OutputArtifact[BaselineReport],
    settings: Parameter[str],
) -> None:
    """AUC of the trivial baselines on the pairs of the eval split.

    See :func:`ctr.components.baselines.compute.compute`.

    Args:
      transformed_examples: impressions as Transform leaves them, splits train, validation, eval.
      catalogue: of the train split.
      report: gets ``baselines.json``.
      settings: JSON of :class:`BaselinesSettings`.
    """
    from ctr.components.baselines.compute import compute

    given = BaselinesSettings.model_validate_json(settings)
    files = {split: list_shards(artifact_utils.get_split_uri([transformed_examples], split)) for split in SPLITS}
    results = compute(files, Catalogue.read(catalogue.uri), given.training_impressions, given.seed)
    io_utils.write_string_file(os.path.join(report.uri, FILE_NAME), results.model_dump_json(indent=2))
