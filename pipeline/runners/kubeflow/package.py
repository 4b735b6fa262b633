"""Writes the DAG down for Kubeflow Pipelines.

Open-source Kubeflow Pipelines cannot run what TFX compiles for it: it has no resolvers and no drivers of an
ExampleGen, and maps artifacts to local files. So its pipeline has one step a node of the same DAG, and each
step launches its node with TFX's own launcher (``ctr.pipeline.runners.kubeflow.step``).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import yaml

from ctr.models.errors import ConfigError
from ctr.pipeline.runners.kubeflow.parameters import defaults, parameters
from ctr.pipeline.runners.kubeflow.platform import container_resources, pod
from ctr.pipeline.runners.runner import ForCluster
from ctr.pipeline.settings.kubeflow import StepConfig
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from ctr.pipeline.dag import Node

COMMAND: Final = ("python", "-m", "ctr")
VERDICT: Final = "verdict"
"""The last task: it fails where the model was not blessed, so that the run shows it."""
CONFIG_OPTION: Final = "--config"

_RUN_ID: Final = "run_id"
_PIPELINE_JOB_ID: Final = "{{$.pipeline_job_uuid}}"
_SHOWN: Final = {
    "report": "system.Markdown",
    "page": "system.HTML",
    "metrics": "system.Metrics",
    "roc": "system.ClassificationMetrics",
}
"""Artifacts of the report's step, of the types that Kubeflow's user interface shows: the first two as files, of the
others the metadata, which a step hands over in a file that stands in its executor's input."""
_FILES: Final = ("report", "page")
EXECUTOR_INPUT: Final = "--executor-input"
_BLESSED: Final = "blessed"
_REASON: Final = "reason"


class PackageWriter(ForCluster):
    """The package for open-source Kubeflow Pipelines 2.5.0 and newer."""

    def run(self, config: PipelineConfig) -> str:
        """YAML: a ``PipelineSpec`` and a ``PlatformSpec``, as ``kfp`` writes them."""
        self.check(config)
        from ctr.pipeline.dag import REPORTS, compile_dag

        nodes = compile_dag(config).nodes
        if unknown := sorted(set(config.kubeflow.nodes) - {node.id for node in nodes}):
            raise ConfigError(
                f"kubeflow.nodes: no node {', '.join(unknown)}; there are {', '.join(node.id for node in nodes)}"
            )
        spec, platform = _pipeline_spec(config, nodes, REPORTS), _platform_spec(config, nodes)
        return yaml.safe_dump_all([spec, platform], sort_keys=True, allow_unicode=True, width=10_000)


def _task_name(node: str) -> str:
    """A node's id as Kubernetes writes names: ``ImpressionGen`` is ``impression-gen``."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in node).lstrip("-")


def _pipeline_spec(config: PipelineConfig, nodes: Sequence[Node], reports: str) -> dict[str, Any]:
    components, executors, tasks = {}, {}, {}
    for node in nodes:
        step, task = config.kubeflow.step(node.id, node.kind), _task_name(node.id)
        is_report = node.id == reports
        components[f"comp-{task}"] = _component(config, task, is_report)
        executors[f"exec-{task}"] = {"container": _container(config, step, _step_arguments(config, node.id, is_report))}
        tasks[task] = _task(task, [_task_name(name) for name in node.upstream], step)
        tasks[task]["inputs"] = {
            "parameters": {
                _RUN_ID: {"runtimeValue": {"constant": _PIPELINE_JOB_ID}},
                **{p.name: {"componentInputParameter": p.name} for p in parameters(config)},
            }
        }

    report = _task_name(reports)
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
    declared: dict[str, Any] = {}
    for parameter in parameters(config):
        declared[parameter.name] = {
            "parameterType": parameter.type,
            "description": f"{parameter.setting}: {parameter.description}",
        }
        # Without a default Kubeflow asks for a value.
        if values[parameter.name] != "":
            declared[parameter.name] |= {"defaultValue": values[parameter.name], "isOptional": True}
    return declared


def _component(config: PipelineConfig, task: str, is_report: bool) -> dict[str, Any]:
    component: dict[str, Any] = {
        "executorLabel": f"exec-{task}",
        "inputDefinitions": {
            "parameters": {
                _RUN_ID: {"parameterType": "STRING"},
                **{p.name: {"parameterType": p.type} for p in parameters(config)},
            }
        },
    }
    if is_report:
        component["outputDefinitions"] = {
            "artifacts": {
                name: {"artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"}}
                for name, title in _SHOWN.items()
            },
            "parameters": {_BLESSED: {"parameterType": "BOOLEAN"}, _REASON: {"parameterType": "STRING"}},
        }
    return component


def _step_arguments(config: PipelineConfig, node: str, is_report: bool) -> list[str]:
    # One argument each: a value that a person gives can then be no option.
    arguments = ["step", f"--node={node}", f"--run-id={_input(_RUN_ID)}"]
    arguments += [f"--param={parameter.name}={_input(parameter.name)}" for parameter in parameters(config)]
    if is_report:
        arguments += [f"--{name}-file={{{{$.outputs.artifacts['{name}'].path}}}}" for name in _FILES]
        arguments += [f"--{key}-file={{{{$.outputs.parameters['{key}'].output_file}}}}" for key in (_BLESSED, _REASON)]
        arguments.append(f"{EXECUTOR_INPUT}={{{{$}}}}")
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


def _platform_spec(config: PipelineConfig, nodes: Sequence[Node]) -> dict[str, Any]:
    kubeflow = config.kubeflow
    executors = {f"exec-{_task_name(n.id)}": pod(kubeflow, kubeflow.step(n.id, n.kind)) for n in nodes}
    no_storage = kubeflow.model_copy(update={"volumes": (), "secret_env": (), "secret_files": ()})
    executors[f"exec-{VERDICT}"] = pod(no_storage, kubeflow.light)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
