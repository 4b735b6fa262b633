"""The last step: what the run found, in one place."""

import json
import os
from typing import Final, TypeVar

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import ModelEvaluation, ModelRun, PushedModel, TransformGraph
from tfx.utils import io_utils

from ctr.components import artifacts, quarantine
from ctr.components.artifacts import EPOCHS_FILE
from ctr.components.drift import DRIFT_FILE, Comparison, DriftReport
from ctr.components.examples.summary import IngestSummary
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY, vocabulary_size
from ctr.components.run_report.page import render_page
from ctr.components.run_report.render import render_markdown
from ctr.components.run_report.report import (
    REPORT_JSON,
    REPORT_MARKDOWN,
    REPORT_PAGE,
    EpochOfRun,
    QuarantinedRow,
    Report,
)
from ctr.components.run_report.tensorboard import write_scalars
from ctr.components.scoring.baselines import FILE_NAME, BaselineResults
from ctr.components.scoring.evaluation import EVALUATION_FILE, Evaluation
from ctr.components.skew import SKEW_FILE, SkewFindings
from ctr.components.step_profile import PROFILE_FILE, StepProfile
from ctr.components.tuning import TUNING_FILE, Tuning
from ctr.models.section import Record

_QUARANTINED_ROWS: Final = 5
"""Of a reason, in the report."""

_Found = TypeVar("_Found", bound=Record)


@component
def RunReport(  # noqa: PLR0913 (an input each)
    catalogue: InputArtifact[artifacts.ImpressionCatalogue],
    quarantined: InputArtifact[artifacts.ImpressionQuarantine],
    approval: InputArtifact[artifacts.DataApproval],
    transform_graph: InputArtifact[TransformGraph],
    model_run: InputArtifact[ModelRun],
    baselines: InputArtifact[artifacts.BaselineReport],
    evaluation: InputArtifact[ModelEvaluation],
    pushed_model: InputArtifact[PushedModel],
    skew: InputArtifact[artifacts.SkewReport],
    report: OutputArtifact[artifacts.RunReport],
    settings: Parameter[str],
) -> None:
    """Gathers the numbers of the run and writes them as JSON, Markdown, a page, and scalars for TensorBoard.

    ``report.read_report`` reads them.

    Args:
      catalogue: of ImpressionGen, with the summary of the ingest.
      quarantined: of ImpressionGen, for some of its rows.
      approval: of AnomalyGate, for what it compared.
      transform_graph: of Transform, for the sizes of the vocabularies.
      model_run: of the Trainer, for its epochs and, where there are some, its profile and the search before it.
      baselines: of Baselines.
      evaluation: of the Evaluator, with the verdict.
      pushed_model: of the Pusher.
      skew: of SkewCheck.
      report: gets ``report.json``, ``report.md``, ``report.html`` and an event file of TensorBoard; the configuration,
        the verdict and the version are properties.
      settings: ``PipelineConfig.to_json()``.
    """
    summary = IngestSummary.read(catalogue.uri)
    version = artifacts.pushed_version(pushed_model)
    found = Report(
        config=json.loads(settings),
        files=tuple(summary.files),
        rows_read=summary.rows_read,
        rows_kept=summary.rows_kept,
        rows_left_out=summary.rows_left_out,
        quarantined=summary.quarantined,
        quarantined_rows=tuple(
            QuarantinedRow(reason=reason, **row._asdict())
            for reason, row in quarantine.sample(quarantined.uri, summary.quarantined, _QUARANTINED_ROWS)
        ),
        users=summary.users,
        impressions=summary.impressions,
        dropped=summary.dropped,
        exposures=summary.exposures,
        items_with_several_categories=summary.items_with_several_categories,
        vocabulary={
            "items": vocabulary_size(transform_graph.uri, ITEM_VOCABULARY),
            "categories": vocabulary_size(transform_graph.uri, CATEGORY_VOCABULARY),
        },
        drift=tuple(_drift(approval.uri)),
        skew=SkewFindings.model_validate_json(io_utils.read_string_file(os.path.join(skew.uri, SKEW_FILE))),
        epochs=tuple(
            EpochOfRun.model_validate(epoch)
            for epoch in json.loads(io_utils.read_string_file(os.path.join(model_run.uri, EPOCHS_FILE)))
        ),
        profile=_if_there(StepProfile, model_run.uri, PROFILE_FILE),
        tuning=_if_there(Tuning, model_run.uri, TUNING_FILE),
        baselines=BaselineResults.model_validate_json(
            io_utils.read_string_file(os.path.join(baselines.uri, FILE_NAME))
        ),
        evaluation=Evaluation.model_validate_json(
            io_utils.read_string_file(os.path.join(evaluation.uri, EVALUATION_FILE))
        ),
        pushed_version=version,
        pushed_to=None if version is None else pushed_model.get_string_custom_property("pushed_destination"),
    )
    io_utils.write_string_file(os.path.join(report.uri, REPORT_JSON), found.model_dump_json())
    io_utils.write_string_file(os.path.join(report.uri, REPORT_MARKDOWN), render_markdown(found))
    io_utils.write_string_file(os.path.join(report.uri, REPORT_PAGE), render_page(found))
    write_scalars(found, report.uri)
    report.set_string_custom_property("config_json", settings)
    report.set_int_custom_property("blessed", int(found.blessed))
    if version is not None:
        report.set_string_custom_property("pushed_version", str(version))


def _if_there(kind: type[_Found], folder: str, name: str) -> _Found | None:
    path = os.path.join(folder, name)
    return kind.model_validate_json(io_utils.read_string_file(path)) if fileio.exists(path) else None


def _drift(approval: str) -> tuple[Comparison, ...]:
    content = io_utils.read_string_file(os.path.join(approval, DRIFT_FILE))
    return DriftReport.model_validate_json(content).comparisons
