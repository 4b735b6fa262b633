"""The last node of the DAG: what the run found, in one place."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.baselines.component import BaselineReport
from components.impression_gen.component import Catalogue
from components.run_report import executor

# An artifact class and a component cannot share a name in one module; ML Metadata has ``components.RunReport``.


class RunReportArtifact(Artifact):
    """``report.json`` (:class:`components.run_report.report.Report`) and ``report.md``."""

    TYPE_NAME = "components.RunReport"


class RunReportSpec(types.ComponentSpec):
    """Interface of :class:`RunReport`."""

    PARAMETERS = {executor.CONFIG_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        executor.CATALOGUE_KEY: ChannelParameter(type=Catalogue),
        executor.TRANSFORM_GRAPH_KEY: ChannelParameter(type=standard_artifacts.TransformGraph),
        executor.BASELINES_KEY: ChannelParameter(type=BaselineReport),
        executor.EVALUATION_KEY: ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING_KEY: ChannelParameter(type=standard_artifacts.ModelBlessing),
        executor.PUSHED_MODEL_KEY: ChannelParameter(type=standard_artifacts.PushedModel),
    }
    OUTPUTS = {executor.REPORT_KEY: ChannelParameter(type=RunReportArtifact)}


class RunReport(base_component.BaseComponent):
    """Writes the report of the run; ``components.run_report.report.read_report`` reads it.

    Args:
      config_json: ``PipelineConfig.to_json()``, kept as a property of the report.
      catalogue: of ImpressionGen, with the summary of the ingest.
      transform_graph: of Transform, for the sizes of the vocabularies.
      baselines: of Baselines.
      evaluation: of the Evaluator.
      blessing: of the Evaluator.
      pushed_model: of the Pusher.

    Outputs:
      report: a :class:`RunReportArtifact`.
    """

    SPEC_CLASS = RunReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        config_json: str,
        catalogue: types.BaseChannel,
        transform_graph: types.BaseChannel,
        baselines: types.BaseChannel,
        evaluation: types.BaseChannel,
        blessing: types.BaseChannel,
        pushed_model: types.BaseChannel,
    ) -> None:
        super().__init__(
            spec=RunReportSpec(
                config_json=config_json,
                catalogue=catalogue,
                transform_graph=transform_graph,
                baselines=baselines,
                evaluation=evaluation,
                blessing=blessing,
                pushed_model=pushed_model,
                report=types.Channel(type=RunReportArtifact),
            )
        )
