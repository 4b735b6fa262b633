"""The DAG: its nodes, the one function that compiles it, and what a runner must know of its nodes.

It knows no runner: ``runners/`` run what :func:`compile_dag` returns.

What re-runs a node is what TFX puts into its cache key: the node's inputs, its parameters, its executor's name and
the pipeline's name. So every node gets the sections of the configuration that it depends on, a digest of the
code that it runs (``step_code.py``), and nothing else: another number of epochs or an edited model re-runs the trainer
and what follows it, never the ingest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

# Neither by way of tfx.v1, which imports Google's whole Vertex AI client, nor of tfx.components, which imports
# TensorFlow Model Analysis: a DAG is compiled in every step's process, most of which run neither.
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from ctr.components.anomaly_gate.component import AnomalyGate, last_approval
from ctr.components.baselines.component import Baselines, BaselinesSettings
from ctr.components.evaluator.component import CANDIDATE_KEY, BaselineStrategy, Evaluator
from ctr.components.evaluator.settings import EvaluatorSettings
from ctr.components.example_validator.component import ExampleValidator
from ctr.components.impression_gen.component import ImpressionGen
from ctr.components.pusher.component import Pusher
from ctr.components.pusher.settings import CardSettings
from ctr.components.run_report.component import RunReport
from ctr.components.run_report.report import Report, read_report
from ctr.components.schema.component import SchemaGen
from ctr.components.schema.impression_schema import Ranges
from ctr.components.skew_check.component import SkewCheck
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.components.statistics.component import StatisticsGen
from ctr.components.trainer.component import Trainer, Tuner
from ctr.components.trainer.settings import BEST_KEY, HYPERPARAMETERS_KEY, TrainerSettings, TunerSettings
from ctr.components.transform.component import ImpressionTransform
from ctr.models.errors import ConfigError
from ctr.models.impression import declared_features
from ctr.pipeline.output.layout import IMPRESSIONS, PUSHER, REPORT, Layout
from ctr.pipeline.output.runs import NodeRun
from ctr.pipeline.settings.kubeflow import StepKind
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.pipeline.step_code import CODE_KEY, add_code, loaded_names, project_sources

__all__ = ["REPORTS", "CompiledDag", "DataOutputs", "Node", "Outcome", "Report", "compile_dag", "create_pipeline"]

READS_DATA: Final = IMPRESSIONS[0]
PUSHES: Final = PUSHER
REPORTS: Final = REPORT[0]
"""Ids of the nodes that a runner must know apart from the others."""


class Node(NamedTuple):
    """What a runner knows of a node: its id, those that it waits for, sorted, and which resources it takes."""

    id: str
    upstream: tuple[str, ...]
    kind: StepKind


class Outcome(NamedTuple):
    """What a run found, and whether the version that it names is one that an earlier run had pushed."""

    report: Report
    pushed_earlier: bool


class DataOutputs(NamedTuple):
    """Addresses of what the nodes before training made."""

    catalogue: str
    transform_graph: str
    transformed_examples: str
    baselines: str


@dataclass(frozen=True)
class CompiledDag:
    """A DAG that can be run, or described for somewhere else."""

    config: PipelineConfig
    """What it was compiled from, with paths that mean the same everywhere."""
    pipeline: Pipeline
    """As TFX's components."""
    ir: pipeline_pb2.Pipeline
    """As TFX's launchers and local runners take it, with the run id in its place."""
    nodes: tuple[Node, ...]
    """In an order in which they can run."""

    def claim_devices(self) -> None:
        """Makes the devices that training wants, before another node of this process starts TensorFlow without them."""
        from ctr.components.trainer.cluster import several_workers
        from ctr.components.trainer.strategy import training_strategy

        if not several_workers():
            # Each of those is a process of its own.
            training_strategy(self.config.training.cpu_replicas)


def compile_dag(
    config: PipelineConfig,
    run_id: str = "",
    only: str | None = None,
    before_training: bool = False,
    resolvers_of_tfx_alone: bool = False,
) -> CompiledDag:
    """Builds and compiles the DAG of a configuration.

    Args:
      config: the run.
      run_id: of the run that starts now; empty where the DAG is only described: it is then the same for any data.
      only: the id of the node that this process runs; None for all. Of another than the first, the data may be out of
        reach.
      before_training: leaves out training and what follows it. What one DAG has done the other takes from the cache.
      resolvers_of_tfx_alone: as for :func:`create_pipeline`.

    Raises:
      ConfigError: if there is no such DAG or node, or nothing can be ingested.
    """
    config = config.with_absolute_paths()
    if not run_id:
        config = config.with_overrides({"data": config.data or "/{YYYY}-{MM}-{DD}"})
    data_must_exist = bool(run_id) and only in (None, READS_DATA)
    if before_training:
        pipeline = _pipeline(config, list(_data_part(config, data_must_exist).nodes))
    else:
        pipeline = create_pipeline(config, data_must_exist, resolvers_of_tfx_alone)
    ir = Compiler().compile(pipeline)
    if run_id:
        # TFX's runners would name the run themselves and tell nobody.
        substitute_runtime_parameter(ir, {PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    kinds = {component.id: _kind(component) for component in pipeline.components}
    compiled = [node.pipeline_node for node in ir.nodes]
    nodes = tuple(Node(n.node_info.id, tuple(sorted(n.upstream_nodes)), kinds[n.node_info.id]) for n in compiled)
    if only is not None and only not in kinds:
        raise ConfigError(f"node {only}: there is none; there are {', '.join(node.id for node in nodes)}")
    return CompiledDag(config, pipeline, ir, nodes)


def _kind(node: BaseNode) -> StepKind:
    if isinstance(node, Trainer | Tuner):
        return "trainer"
    return "beam" if isinstance(node, BaseBeamComponent) else "light"


def outcome(nodes: Mapping[str, NodeRun]) -> Outcome:
    """What a run found, of its nodes by id, the last one among them."""
    report = read_report(nodes[REPORTS].outputs[REPORT[1]])
    return Outcome(report, report.pushed_version is not None and nodes[PUSHES].cached)


def data_outputs(nodes: Mapping[str, NodeRun]) -> DataOutputs:
    """What the nodes before training made, of these by id."""
    transform = nodes[ImpressionTransform.__name__].outputs
    return DataOutputs(
        catalogue=nodes[READS_DATA].outputs["catalogue"],
        transform_graph=transform["transform_graph"],
        transformed_examples=transform["transformed_examples"],
        baselines=nodes[Baselines.__name__].outputs["report"],
    )


def create_pipeline(
    config: PipelineConfig, data_must_exist: bool = True, resolvers_of_tfx_alone: bool = False
) -> Pipeline:
    """Builds the DAG of one training run.

    Args:
      config: the run; ``data`` and ``output`` must mean the same in every process that runs a node, so
        they are absolute paths or addresses of a file system that Beam knows.
      data_must_exist: whether to look for ``data`` now. False where the pipeline is only described, or another of
        its nodes is run: the DAG does not depend on it.
      resolvers_of_tfx_alone: for a runner that knows no others, as Vertex AI's: a repeated run then compares a blessed
        model with itself.

    Returns:
      A pipeline whose artifacts lie under ``<output>/artifacts`` and which pushes to
      ``<output>/serving/<served_model_name>/<version>``. It says where its metadata is if that is SQLite, under
      ``<output>/metadata``; to a server its runner connects by itself.

    Raises:
      ConfigError: if ``config.data`` names nothing that can be ingested.
    """
    data = _data_part(config, data_must_exist, resolvers_of_tfx_alone)
    nodes: list[BaseNode] = list(data.nodes)
    trained = TrainerSettings.of(config.model, config.sampler, config.training, config.ingest, config.plugins)
    tuned = {}
    if config.tuner.space:
        tuner = Tuner(
            examples=data.transformed,
            transform_graph=data.transform_graph,
            catalogue=data.catalogue,
            settings=TunerSettings(tuner=config.tuner, trainer=trained),
        )
        tuner.add_upstream_node(data.baselines)
        nodes.append(tuner)
        tuned = {HYPERPARAMETERS_KEY: tuner.outputs[BEST_KEY]}
    training = Trainer(
        examples=data.transformed,
        transform_graph=data.transform_graph,
        catalogue=data.catalogue,
        raw_examples=data.examples,
        settings=trained,
        **tuned,
    )
    model = training.outputs["model"]
    # It refuses bounds that cannot be checked, before hours are spent on a model.
    training.add_upstream_node(data.baselines)
    nodes.append(training)
    baselines = data.baselines.outputs["report"]

    judge = EvaluatorSettings.of(config.evaluation, config.ingest.judged_set)
    blessed = None
    if config.evaluation.compare_with_blessed:
        own = {} if resolvers_of_tfx_alone else {CANDIDATE_KEY: model}
        strategy = BaselineStrategy if own else _latest_blessed_model()
        resolver = Resolver(
            strategy_class=strategy,
            config={"judge": _identity(judge)} if own else None,
            model=Channel(type=Model),
            model_blessing=Channel(type=ModelBlessing),
            **own,
        ).with_id("LatestBlessedModel")
        nodes.append(resolver)
        blessed = resolver.outputs["model"]
    evaluator = Evaluator(
        examples=data.examples,
        baselines=baselines,
        model=model,
        baseline_model=blessed,
        settings=judge,
    )
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        evaluation=evaluator.outputs["evaluation"],
        catalogue=data.catalogue,
        base_directory=Layout(config.output).model_base(config.served_model_name),
        settings=CardSettings.of(config.model, config.sampler, config.training, config.ingest).model_dump_json(),
        **tuned,
    ).with_id(PUSHES)
    skew = SkewCheck(
        examples=data.examples,
        transformed_examples=data.transformed,
        transform_graph=data.transform_graph,
        model=model,
        settings=SkewCheckSettings(
            plugins=config.plugins,
            features=tuple(declared_features()),
            model=config.model,
            history_length=config.ingest.history_length,
            precision=config.training.precision,
            seed=config.ingest.seed,
            served=config.skew,
        ).model_dump_json(),
        **tuned,
    )
    pusher.add_upstream_node(skew)
    report = RunReport(
        catalogue=data.catalogue,
        quarantined=data.quarantine,
        approval=data.approval,
        transform_graph=data.transform_graph,
        model_run=training.outputs["model_run"],
        baselines=baselines,
        evaluation=evaluator.outputs["evaluation"],
        pushed_model=pusher.outputs["pushed_model"],
        skew=skew.outputs["report"],
        settings=config.to_json(),
    ).with_id(REPORTS)
    return _pipeline(config, [*nodes, evaluator, skew, pusher, report])


def _latest_blessed_model() -> type[ResolverStrategy]:
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy

    chosen: type[ResolverStrategy] = LatestBlessedModelStrategy
    return chosen


def _identity(judge: EvaluatorSettings) -> str:
    """Of what the Evaluator's key holds apart from its inputs, as JSON: what it is given, and its code."""
    parameters = Evaluator.parameters(judge)
    code = project_sources().digest(loaded_names(Evaluator.EXECUTOR_SPEC, parameters))
    return json.dumps({**parameters, CODE_KEY: code})


class _Data(NamedTuple):
    nodes: Sequence[BaseNode]
    examples: BaseChannel
    catalogue: BaseChannel
    quarantine: BaseChannel
    approval: BaseChannel
    transform_graph: BaseChannel
    transformed: BaseChannel
    baselines: BaseNode


def _data_part(config: PipelineConfig, data_must_exist: bool, resolvers_of_tfx_alone: bool = False) -> _Data:
    impressions = ImpressionGen(
        data=config.data, ingest=config.ingest, span=config.span, must_exist=data_must_exist
    ).with_id(READS_DATA)
    examples = impressions.outputs["examples"]
    catalogue = impressions.outputs["catalogue"]

    statistics = StatisticsGen(examples=examples, statistics=config.statistics)
    schema_gen = SchemaGen(examples=examples, settings=Ranges.of(config.ingest).model_dump_json())
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema)
    approved = last_approval(None if resolvers_of_tfx_alone else statistics.outputs["statistics"])
    gate = AnomalyGate(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        catalogue=catalogue,
        last=approved.outputs["approval"],
        settings=config.statistics.model_dump_json(exclude={"sample_rate"}),
        zone=config.ingest.dataset.time.zone,
    )

    transform = ImpressionTransform(examples=examples, schema=schema, catalogue=catalogue, transform=config.transform)
    transform.add_upstream_node(gate)
    transformed = transform.outputs["transformed_examples"]
    baselines = Baselines(
        transformed_examples=transformed,
        catalogue=catalogue,
        settings=BaselinesSettings.of(config.evaluation, config.ingest).model_dump_json(),
    )
    return _Data(
        nodes=[impressions, statistics, schema_gen, validator, approved, gate, transform, baselines],
        examples=examples,
        catalogue=catalogue,
        quarantine=impressions.outputs["quarantine"],
        approval=gate.outputs["approval"],
        transform_graph=transform.outputs["transform_graph"],
        transformed=transformed,
        baselines=baselines,
    )


def _pipeline(config: PipelineConfig, nodes: list[BaseNode]) -> Pipeline:
    layout = Layout(config.output)
    add_code(nodes)
    # What connects to a server may hold a password, and runners log what the pipeline holds: they connect themselves.
    in_file = config.metadata.kind == "sqlite"
    return Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=layout.artifacts,
        components=nodes,
        enable_cache=config.enable_cache,
        metadata_connection_config=sqlite_metadata_connection_config(layout.metadata_db) if in_file else None,
        beam_pipeline_args=[*config.beam_pipeline_args, *_worker_arguments(config)],
    )


def _worker_arguments(config: PipelineConfig) -> list[str]:
    # Of worker processes on this machine alone.
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--direct_running_mode")
    in_processes = options.parse_known_args(config.beam_pipeline_args)[0].direct_running_mode == "multi_processing"
    return ["--beam_plugin=ctr.pipeline.process.end_with_run"] if in_processes else []
