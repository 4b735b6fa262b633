"""The step that scores the trivial baselines."""

import os
from zoneinfo import ZoneInfo

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.utils import io_utils

from ctr.components.artifacts import BaselineReport, ImpressionCatalogue
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import list_shards, unfinished_folder
from ctr.components.examples.summary import IngestSummary
from ctr.components.scoring.baselines import FILE_NAME
from ctr.components.settings import EvaluationConfig, IngestConfig
from ctr.models.impression import SPLITS
from ctr.models.section import Section


class BaselinesSettings(Section):
    """What the baselines depend on."""

    training_impressions: int
    """``evaluation.baseline_training_impressions``."""
    seed: int
    """Of the sample that the regression is fitted on."""
    slices: tuple[str, ...]
    """``evaluation.slices``."""
    bounds: tuple[str, ...]
    """Keys of ``evaluation.bounds``: that there are such impressions, not what a model must reach."""
    judged_set: str
    """``ingest.judged_set``."""
    zone: str
    """``ingest.dataset.time.zone``, which hours of the day are of."""

    @classmethod
    def of(cls, evaluation: EvaluationConfig, ingest: IngestConfig) -> "BaselinesSettings":
        """Of the sections of a run."""
        return cls(
            training_impressions=evaluation.baseline_training_impressions,
            # Not the training's seed: the same baselines stand beside every seed of the model.
            seed=ingest.seed,
            slices=evaluation.slices,
            bounds=tuple(key for key, bounds in evaluation.bounds if any(True for _ in bounds.given())),
            judged_set=ingest.judged_set,
            zone=ingest.dataset.time.zone,
        )


@component
def Baselines(
    transformed_examples: InputArtifact[Examples],
    catalogue: InputArtifact[ImpressionCatalogue],
    report: OutputArtifact[BaselineReport],
    settings: Parameter[str],
) -> None:
    """Scores of the trivial baselines on the pairs of the eval split, and their AUC.

    See :func:`ctr.components.baselines.compute.compute`.

    Args:
      transformed_examples: impressions as Transform leaves them, splits train, validation, eval.
      catalogue: of the train split, with the summary of the ingest.
      report: gets ``baselines.json`` and the scored impressions, see :mod:`ctr.components.scoring.scored_shards`.
      settings: JSON of :class:`BaselinesSettings`.

    Raises:
      DataError: if a bound of the gate is about impressions that are not there, or a feature has too many values to
        slice by.
    """
    from ctr.components.baselines.bounds import SlicesCheck
    from ctr.components.baselines.columns import Columns
    from ctr.components.baselines.compute import compute
    from ctr.components.scoring.scored_shards import ScoredShard, scored_path

    given = BaselinesSettings.model_validate_json(settings)
    files = {split: list_shards(artifact_utils.get_split_uri([transformed_examples], split)) for split in SPLITS}
    of_train = Catalogue.read(catalogue.uri)
    start = IngestSummary.read(catalogue.uri).validation_start
    columns = Columns(of_train, start, given.slices, zone=ZoneInfo(given.zone))
    check = SlicesCheck(given.bounds, given.judged_set, given.slices)

    def write(file: str, shard: ScoredShard) -> None:
        shard.write(scored_path(report.uri, file), report.uri)
        check.add(shard.scored)

    results = compute(files, of_train, given.training_impressions, given.seed, columns, write)
    check.check()
    fileio.rmtree(unfinished_folder(report.uri))
    io_utils.write_string_file(os.path.join(report.uri, FILE_NAME), results.model_dump_json(indent=2))
