"""Compiles the DAG for Kubeflow Pipelines, and for Vertex AI.

Open-source Kubeflow Pipelines cannot run what TFX compiles for it: it has no resolvers and no drivers of an
ExampleGen, and maps artifacts to local files. So its pipeline has one step a node of the same DAG, and each
step launches its node with TFX's own launcher (``pipeline.runners.kubeflow.step``). Vertex AI takes TFX's output.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import yaml

from pipeline.runners.kubeflow.parameters import PARAMETERS, defaults
from pipeline.runners.kubeflow.platform import container_resources, pod
from pipeline.settings.kubeflow import StepConfig
from pipeline.settings.pipeline_config import ConfigError, PipelineConfig

COMMAND: Final = ("python", "-m", "pipeline")
VERDICT: Final = "verdict"
"""The last task: it fails where the model was not blessed, so that the run shows it."""
REPORT_NODE: Final = "RunReport"
CONFIG_OPTION: Final = "--config"

_RUN_ID: Final = "run_id"
_PIPELINE_JOB_ID: Final = "{{$.pipeline_job_uuid}}"
_REPORT_FILE: Final = "report"
_BLESSED: Final = "blessed"
_REASON: Final = "reason"


@dataclass(frozen=True)
class _Node:
    id: str
    upstream: tuple[str, ...]
    runs_beam: bool

    @property
    def task(self) -> str:
        """The node's id as Kubernetes writes names: ``ImpressionGen`` is ``impression-gen``."""
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in self.id).lstrip("-")


def compile_kfp(config: PipelineConfig) -> str:
    """The package for open-source Kubeflow Pipelines 2.5.0 and newer.

    Args:
      config: the run; ``output`` and ``data`` as the steps see them: addresses, or paths on a mounted volume.

    Returns:
      YAML: a ``PipelineSpec`` and a ``PlatformSpec``, as ``kfp`` writes them.

    Raises:
      ConfigError: if a setting that a cluster needs is missing.
    """
    check(config)
    nodes = _nodes(config)
    spec, platform = _pipeline_spec(config, nodes), _platform_spec(config, nodes)
    return yaml.safe_dump_all([spec, platform], sort_keys=True, allow_unicode=True, width=10_000)


def compile_vertex(config: PipelineConfig) -> str:
    """TFX's own output for Vertex AI, in YAML. Its settings are those of the configuration: it has no parameters.

    Args:
      config: as for :func:`compile_kfp`.

    Raises:
      ConfigError: if a setting that a cluster needs is missing.
    """
    check(config)
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    from pipeline.dag import create_pipeline

    runner_config = KubeflowV2DagRunnerConfig(
        display_name=config.pipeline_name, default_image=config.kubeflow.image, use_pipeline_spec_2_1=True
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = KubeflowV2DagRunner(runner_config, output_dir=folder, output_filename="pipeline.yaml")
        runner.run(_described(create_pipeline, config, resolvers_of_tfx_alone=True), write_out=True)
        with open(os.path.join(folder, "pipeline.yaml"), encoding="utf-8") as file:
            return file.read()


def check(config: PipelineConfig) -> None:
    """That a cluster is told what it needs; without TFX, so that it can be said before that is loaded.

    Raises:
      ConfigError: if a setting is missing, or a path means nothing to a step.
    """
    problems = []
    if not config.kubeflow.image:
        problems.append("kubeflow.image: name the image of the steps, with a tag or digest")
    for name in ("output", "data"):
        path = getattr(config, name)
        # A person may give the data when a run is started.
        if (path or name == "output") and not path.startswith("/") and "://" not in path:
            problems.append(f"{name}: {path!r} is relative; steps need an address or the absolute path of a volume")
    if problems:
        raise ConfigError("\n".join(problems))


def _described(create_pipeline: Any, config: PipelineConfig, **how: bool) -> Any:
    try:
        # The DAG is the same for any data, and a run may still be given another.
        return create_pipeline(
            config.with_overrides({"data": config.data or "/{YYYY}-{MM}-{DD}"}), data_must_exist=False, **how
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _nodes(config: PipelineConfig) -> list[_Node]:
    from tfx.dsl.compiler.compiler import Compiler
    from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2

    from pipeline.dag import create_pipeline

    dag = Compiler().compile(_described(create_pipeline, config))
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    dag.deployment_config.Unpack(deployment)
    beam = executable_spec_pb2.BeamExecutableSpec.DESCRIPTOR
    nodes = []
    for node in (element.pipeline_node for element in dag.nodes):
        name = node.node_info.id
        # Of a node without an executor, a resolver, this asks an empty Any.
        runs_beam = name in deployment.executor_specs and deployment.executor_specs[name].Is(beam)
        nodes.append(_Node(name, tuple(sorted(node.upstream_nodes)), runs_beam))
    unknown = sorted(set(config.kubeflow.nodes) - {node.id for node in nodes})
    if unknown:
        raise ConfigError(
            f"kubeflow.nodes: no node {', '.join(unknown)}; there are {', '.join(node.id for node in nodes)}"
        )
    return nodes


def _step_config(config: PipelineConfig, node: _Node) -> StepConfig:
    kubeflow = config.kubeflow
    kind = kubeflow.trainer if node.id == "Trainer" else kubeflow.beam if node.runs_beam else kubeflow.light
    return kubeflow.nodes.get(node.id, kind)


def _pipeline_spec(config: PipelineConfig, nodes: Sequence[_Node]) -> dict[str, Any]:
    components, executors, tasks = {}, {}, {}
    task_of = {node.id: node.task for node in nodes}
    for node in nodes:
        step = _step_config(config, node)
        components[f"comp-{node.task}"] = _component(node)
        executors[f"exec-{node.task}"] = {"container": _container(config, step, _step_arguments(config, node))}
        tasks[node.task] = _task(node.task, [task_of[name] for name in node.upstream], step)
        tasks[node.task]["inputs"] = {
            "parameters": {
                _RUN_ID: {"runtimeValue": {"constant": _PIPELINE_JOB_ID}},
                **{p.name: {"componentInputParameter": p.name} for p in PARAMETERS},
            }
        }

    report = task_of[REPORT_NODE]
    components[f"comp-{VERDICT}"] = {
        "executorLabel": f"exec-{VERDICT}",
        "inputDefinitions": {
            "parameters": {_BLESSED: {"parameterType": "BOOLEAN"}, _REASON: {"parameterType": "STRING"}}
        },
    }
    verdict = [VERDICT, f"--blessed={_input(_BLESSED)}", f"--reason={_input(_REASON)}"]
    # A second look finds the same.
    never_again = config.kubeflow.light.model_copy(update={"retries": 0})
    executors[f"exec-{VERDICT}"] = {"container": _container(config, never_again, verdict)}
    tasks[VERDICT] = _task(VERDICT, [report], never_again)
    tasks[VERDICT]["inputs"] = {
        "parameters": {
            key: {"taskOutputParameter": {"producerTask": report, "outputParameterKey": key}}
            for key in (_BLESSED, _REASON)
        }
    }
    return {
        "pipelineInfo": {"name": config.pipeline_name, "description": f"Preset {config.preset}."},
        "schemaVersion": "2.1.0",
        "sdkVersion": f"kfp-{metadata.version('kfp')}",
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": _run_parameters(config)}},
    }


def _run_parameters(config: PipelineConfig) -> dict[str, Any]:
    values = defaults(config)
    parameters: dict[str, Any] = {}
    for parameter in PARAMETERS:
        parameters[parameter.name] = {
            "parameterType": parameter.type,
            "description": f"{parameter.setting}: {parameter.description}",
        }
        # Without a default Kubeflow asks for a value.
        if values[parameter.name] != "":
            parameters[parameter.name] |= {"defaultValue": values[parameter.name], "isOptional": True}
    return parameters


def _component(node: _Node) -> dict[str, Any]:
    component: dict[str, Any] = {
        "executorLabel": f"exec-{node.task}",
        "inputDefinitions": {
            "parameters": {
                _RUN_ID: {"parameterType": "STRING"},
                **{p.name: {"parameterType": p.type} for p in PARAMETERS},
            }
        },
    }
    if node.id == REPORT_NODE:
        component["outputDefinitions"] = {
            "artifacts": {_REPORT_FILE: {"artifactType": {"schemaTitle": "system.Markdown", "schemaVersion": "0.0.1"}}},
            "parameters": {_BLESSED: {"parameterType": "BOOLEAN"}, _REASON: {"parameterType": "STRING"}},
        }
    return component


def _step_arguments(config: PipelineConfig, node: _Node) -> list[str]:
    # One argument each: a value that a person gives can then be no option.
    arguments = ["step", f"--node={node.id}", f"--run-id={_input(_RUN_ID)}"]
    arguments += [f"{parameter.option}={_input(parameter.name)}" for parameter in PARAMETERS]
    if node.id == REPORT_NODE:
        arguments.append(f"--report-file={{{{$.outputs.artifacts['{_REPORT_FILE}'].path}}}}")
        arguments += [f"--{key}-file={{{{$.outputs.parameters['{key}'].output_file}}}}" for key in (_BLESSED, _REASON)]
    return [*arguments, f"{CONFIG_OPTION}={config.changes_json()}"]


def _input(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _container(config: PipelineConfig, step: StepConfig, arguments: list[str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "image": config.kubeflow.image,
        "command": list(COMMAND),
        "args": arguments,
        "resources": container_resources(step),
    }
    if config.kubeflow.env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(config.kubeflow.env.items())]
    return container


def _task(name: str, after: Sequence[str], step: StepConfig) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskInfo": {"name": name},
        "componentRef": {"name": f"comp-{name}"},
        # What is repeated TFX decides, which knows the inputs; Kubeflow sees nothing but the arguments.
        "cachingOptions": {},
    }
    if after:
        task["dependentTasks"] = sorted(after)
    if step.retries:
        task["retryPolicy"] = {
            "maxRetryCount": step.retries,
            "backoffDuration": f"{step.retry_after_seconds}s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "3600s",
        }
    return task


def _platform_spec(config: PipelineConfig, nodes: Sequence[_Node]) -> dict[str, Any]:
    executors = {f"exec-{node.task}": pod(config.kubeflow, _step_config(config, node)) for node in nodes}
    no_storage = config.kubeflow.model_copy(update={"volumes": (), "secret_env": (), "secret_files": ()})
    executors[f"exec-{VERDICT}"] = pod(no_storage, config.kubeflow.light)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
