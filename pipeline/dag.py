"""The DAG. It knows no runner: ``runners/`` run what :func:`create_pipeline` returns.

What re-runs a node is what TFX puts into its cache key: the node's inputs, its parameters, its executor's name and
the pipeline's name. So every node gets the sections of the configuration that it depends on, a digest of the
code that it runs (``step_code.py``), and nothing else: another number of epochs or an edited model re-runs the trainer
and what follows it, never the ingest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from tensorflow_model_analysis import EvalConfig

# Not by way of tfx.v1: that imports Google's whole Vertex AI client, a third of the time that it takes.
from tfx.components import Evaluator, ExampleValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing
from tfx.types.standard_component_specs import EVAL_CONFIG_KEY, MODULE_PATH_KEY
from tfx.utils.proto_utils import proto_to_json

from components.anomaly_gate.component import AnomalyGate
from components.baselines.component import Baselines
from components.evaluator import scoring
from components.evaluator.baseline import CANDIDATE_KEY, BaselineStrategy
from components.evaluator.judge import evaluator_config
from components.impression_gen.component import ImpressionGen
from components.pusher.component import Pusher
from components.run_report.component import RunReport
from components.schema.component import SchemaGen
from components.statistics.component import StatisticsGen
from components.trainer.component import Trainer
from components.transform.component import ImpressionTransform
from models.impression import EVAL_SPLIT
from pipeline.output.layout import Layout
from pipeline.settings.pipeline_config import PipelineConfig
from pipeline.step_code import CODE_KEY, add_code, loaded_names, project_sources


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
      ValueError: if ``config.data`` names nothing that can be ingested.
    """
    data = _data_part(config, data_must_exist)
    training = Trainer(
        examples=data.transformed,
        transform_graph=data.transform_graph,
        catalogue=data.catalogue,
        raw_examples=data.examples,
        model=config.model,
        sampler=config.sampler,
        training=config.training,
        stored=config.ingest.stored,
        plugins=config.plugins,
    )
    model = training.outputs["model"]
    nodes: list[BaseNode] = [*data.nodes, training]

    judge = evaluator_config(config.evaluation, config.ingest.judged_set)
    blessed = None
    if config.evaluation.compare_with_blessed:
        own = {} if resolvers_of_tfx_alone else {CANDIDATE_KEY: model}
        resolver = Resolver(
            strategy_class=BaselineStrategy if own else LatestBlessedModelStrategy,
            config={"judge": _identity(judge)} if own else None,
            model=Channel(type=Model),
            model_blessing=Channel(type=ModelBlessing),
            **own,
        ).with_id("LatestBlessedModel")
        nodes.append(resolver)
        blessed = resolver.outputs["model"]
    evaluator = Evaluator(
        examples=data.examples,
        model=model,
        baseline_model=blessed,
        eval_config=judge,
        example_splits=[EVAL_SPLIT],
        module_path=scoring.__name__,
    )
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        base_directory=Layout(config.output).model_base(config.served_model_name),
    )
    report = RunReport(
        config_json=config.to_json(),
        catalogue=data.catalogue,
        transform_graph=data.transform_graph,
        baselines=data.baselines,
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        pushed_model=pusher.outputs["pushed_model"],
    )
    return _pipeline(config, [*nodes, evaluator, pusher, report])


def _identity(judge: EvalConfig) -> str:
    """Of what the Evaluator's key holds apart from its inputs, as JSON: what it is given, and its code."""
    parameters = {EVAL_CONFIG_KEY: proto_to_json(judge), MODULE_PATH_KEY: scoring.__name__}
    code = project_sources().digest(loaded_names(Evaluator.EXECUTOR_SPEC, parameters))
    return json.dumps({**parameters, CODE_KEY: code})


def create_data_pipeline(config: PipelineConfig) -> Pipeline:
    """The DAG of :func:`create_pipeline` up to where training begins, baselines included.

    Its nodes are those of the whole DAG, so what one has done the other takes from the cache.

    Args:
      config: as for :func:`create_pipeline`.

    Raises:
      ValueError: if ``config.data`` names nothing that can be ingested.
    """
    return _pipeline(config, list(_data_part(config, data_must_exist=True).nodes))


class _Data(NamedTuple):
    nodes: Sequence[BaseNode]
    examples: BaseChannel
    catalogue: BaseChannel
    transform_graph: BaseChannel
    transformed: BaseChannel
    baselines: BaseChannel


def _data_part(config: PipelineConfig, data_must_exist: bool) -> _Data:
    impressions = ImpressionGen(data=config.data, ingest=config.ingest, span=config.span, must_exist=data_must_exist)
    examples = impressions.outputs["examples"]
    catalogue = impressions.outputs["catalogue"]

    statistics = StatisticsGen(examples=examples, statistics=config.statistics)
    schema_gen = SchemaGen(examples, config.ingest)
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema)
    gate = AnomalyGate(anomalies=validator.outputs["anomalies"], statistics=statistics.outputs["statistics"])

    transform = ImpressionTransform(examples=examples, schema=schema, catalogue=catalogue, transform=config.transform)
    transform.add_upstream_node(gate)
    transformed = transform.outputs["transformed_examples"]
    baselines = Baselines(
        transformed_examples=transformed,
        catalogue=catalogue,
        training_impressions=config.evaluation.baseline_training_impressions,
        # Not the training's seed: the same baselines stand beside every seed of the model.
        seed=config.ingest.seed,
    )
    return _Data(
        nodes=[impressions, statistics, schema_gen, validator, gate, transform, baselines],
        examples=examples,
        catalogue=catalogue,
        transform_graph=transform.outputs["transform_graph"],
        transformed=transformed,
        baselines=baselines.outputs["report"],
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
    options = PipelineOptions(list(config.beam_pipeline_args)).view_as(DirectOptions)
    in_processes = options.direct_running_mode == "multi_processing"
    return ["--beam_plugin=pipeline.process.end_with_run"] if in_processes else []
