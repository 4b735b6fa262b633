"""What is compiled: its form and its parts."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import dsl
from kfp.pipeline_spec import pipeline_spec_pb2
from kubeflow_package import SETTINGS, compile_package
from pages import ROOT

from ctr.models.errors import ConfigError
from ctr.pipeline.commands.kubeflow import Package
from ctr.pipeline.runners.kubeflow.parameters import defaults, parameters, with_parameters
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset
from ctr.pipeline.step_code import CODE_KEY

pytestmark = pytest.mark.slow

SHOWN = {"report": "Markdown", "page": "HTML", "metrics": "Metrics", "roc": "ClassificationMetrics"}
"""Artifact -> the class of the SDK that stands for its type."""
IMAGE = "kubeflow.image=registry.example/ctr-pipeline:0.1.0"


@pytest.fixture(scope="module")
def package() -> str:
    return compile_package()


@pytest.fixture(scope="module")
def spec(package: str) -> pipeline_spec_pb2.PipelineSpec:
    document, _ = yaml.safe_load_all(package)
    return json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())


@pytest.fixture(scope="module")
def containers(spec: pipeline_spec_pb2.PipelineSpec) -> dict[str, Any]:
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.Parse(json_format.MessageToJson(spec.deployment_spec), deployment)
    return {name.removeprefix("exec-"): executor.container for name, executor in deployment.executors.items()}


@pytest.fixture(scope="module")
def pods(package: str) -> dict[str, Any]:
    _, document = yaml.safe_load_all(package)
    json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
    executors = document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): pod for name, pod in executors.items()}


@pytest.fixture(scope="module")
def dag() -> Any:
    from ctr.pipeline.dag import compile_dag

    return compile_dag(load_preset("kubeflow", SETTINGS)).ir


def test_the_client_reads_it(package: str, tmp_path: Path) -> None:
    from kfp import components
    from kfp.client.client import _extract_pipeline_yaml

    file = tmp_path / "package.yaml"
    file.write_text(package)
    assert _extract_pipeline_yaml(str(file)).platform_spec.platforms["kubernetes"].deployment_spec.executors
    loaded = components.load_component_from_file(str(file))
    assert set(loaded.component_spec.inputs or {}) == {
        parameter.name for parameter in parameters(load_preset("kubeflow", SETTINGS))
    }


def test_it_says_what_it_is(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    assert (spec.pipeline_info.name, spec.pipeline_info.description) == ("ctr", "Preset kubeflow.")
    assert spec.schema_version == "2.1.0"
    assert spec.sdk_version == f"kfp-{metadata.version('kfp')}"
    labels = {name.removeprefix("comp-"): component.executor_label for name, component in spec.components.items()}
    assert labels == {name: f"exec-{name}" for name in spec.root.dag.tasks}
    assert {name: task.component_ref.name for name, task in spec.root.dag.tasks.items()} == {
        name: f"comp-{name}" for name in labels
    }


def test_steps_and_dependencies_are_those_of_the_dag(spec: pipeline_spec_pb2.PipelineSpec, dag: Any) -> None:
    def task(node: str) -> str:
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in node).removeprefix("-")

    upstream = {
        task(n.pipeline_node.node_info.id): sorted(task(u) for u in n.pipeline_node.upstream_nodes) for n in dag.nodes
    }
    tasks = {name: sorted(t.dependent_tasks) for name, t in spec.root.dag.tasks.items()}
    assert tasks == {**upstream, "verdict": ["run-report"]}
    assert "latest-blessed-model" in tasks["evaluator"]
    assert "anomaly-gate" in tasks["impression-transform"]


def test_a_search_is_a_step_of_its_own_with_what_training_gets() -> None:
    document, platform = yaml.safe_load_all(compile_package("tuner.space={model.embedding_dim: [8, 16]}"))
    tasks = document["root"]["dag"]["tasks"]
    assert "baselines" in tasks["tuner"]["dependentTasks"]
    assert [name for name, task in tasks.items() if "tuner" in task.get("dependentTasks", ())] == [
        *("pusher", "skew-check", "trainer"),
    ]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-tuner"] == pods["exec-trainer"]


def test_each_step_runs_its_node_in_the_image(spec: pipeline_spec_pb2.PipelineSpec, containers: dict, dag: Any) -> None:
    nodes = {node.pipeline_node.node_info.id for node in dag.nodes}
    seen = set()
    for name, container in containers.items():
        assert container.image == "registry.example/ctr-pipeline:0.1.0"
        assert list(container.command) == ["python", "-m", "ctr"]
        assert [(e.name, e.value) for e in container.env] == [("TF_CPP_MIN_LOG_LEVEL", "1")]
        if name == "verdict":
            continue
        assert container.args[0] == "step"
        seen.add(container.args[1].removeprefix("--node="))
        # Each input of the component is used, by its own name, and nothing else but the configuration.
        inputs = spec.components[f"comp-{name}"].input_definitions.parameters
        options = {p: "--run-id" if p == "run_id" else f"--param={p}" for p in inputs}
        values = {f"{option}={{{{$.inputs.parameters['{p}']}}}}" for p, option in options.items()}
        config = f"--config={load_preset('kubeflow', SETTINGS).changes_json()}"
        outputs = {a for a in container.args if "$.outputs" in a or "{{$}}" in a}
        assert set(container.args[2:]) == {*values, *outputs, config}
        assert bool(outputs) == (name == "run-report")
    assert seen == nodes


def test_every_step_gets_the_runs_id_and_its_parameters(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    for name, task in spec.root.dag.tasks.items():
        assert task.task_info.name == name
        assert not task.caching_options.enable_cache
        inputs = dict(task.inputs.parameters)
        if name == "verdict":
            handed = {key: i.task_output_parameter for key, i in inputs.items()}
            assert {key: (h.producer_task, h.output_parameter_key) for key, h in handed.items()} == {
                key: ("run-report", key) for key in ("blessed", "reason")
            }
            continue
        assert inputs.pop("run_id").runtime_value.constant.string_value == "{{$.pipeline_job_uuid}}"
        assert {key: value.component_input_parameter for key, value in inputs.items()} == {key: key for key in inputs}
        assert set(inputs) == set(defaults(load_preset("kubeflow", SETTINGS)))


def test_each_bound_of_the_gate_is_a_parameter() -> None:
    bounds = [
        "evaluation.bounds.auc.max=null",
        "evaluation.bounds.auc@uniform/history_length:50+.min_margin=0.01",
        "evaluation.bounds.log_loss@uniform={max: 0.5, max_drop: 0.01}",
    ]
    config = load_preset("kubeflow", bounds)
    named = {parameter.name: parameter.setting for parameter in parameters(config)}
    assert "max_auc" not in named
    sliced = named["min_auc_margin_uniform_history_length_50"]
    assert sliced == "evaluation.bounds.auc@uniform/history_length:50+.min_margin"
    assert named["max_log_loss_drop_uniform"] == "evaluation.bounds.log_loss@uniform.max_drop"
    values = defaults(with_parameters(config, {"max_log_loss_uniform": "0.4", "min_auc": "0.7"}))
    assert (values["max_log_loss_uniform"], values["min_auc"], values["max_auc_drop"]) == (0.4, 0.7, 0.005)


def test_parameters_have_the_configurations_values(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    declared = spec.root.input_definitions.parameters
    values = {
        name: json_format.MessageToDict(parameter.default_value) if parameter.is_optional else ""
        for name, parameter in declared.items()
    }
    config = load_preset("kubeflow", SETTINGS)
    assert values == defaults(config)
    types = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    for parameter in parameters(config):
        of_steps = spec.components["comp-trainer"].input_definitions.parameters[parameter.name]
        assert types.Name(declared[parameter.name].parameter_type) == parameter.type
        assert types.Name(of_steps.parameter_type) == parameter.type
        assert declared[parameter.name].description == f"{parameter.setting}: {parameter.description}"
    # Without data in the configuration, whoever starts a run is asked for it.
    assert not declared["data"].is_optional


def test_the_report_is_shown_and_handed_on(spec: pipeline_spec_pb2.PipelineSpec, containers: dict) -> None:
    outputs = spec.components["comp-run-report"].output_definitions
    types = {name: getattr(dsl, kind) for name, kind in SHOWN.items()}
    shown = {name: artifact.artifact_type for name, artifact in outputs.artifacts.items()}
    assert {name: (kind.schema_title, kind.schema_version) for name, kind in types.items()} == {
        name: (kind.schema_title, kind.schema_version) for name, kind in shown.items()
    }
    assert set(outputs.parameters) == {"blessed", "reason"}
    for name in ("report", "page"):
        assert f"--{name}-file={{{{$.outputs.artifacts['{name}'].path}}}}" in containers["run-report"].args
    assert "--executor-input={{$}}" in containers["run-report"].args
    for key in outputs.parameters:
        assert f"--{key}-file={{{{$.outputs.parameters['{key}'].output_file}}}}" in containers["run-report"].args
        assert f"--{key}={{{{$.inputs.parameters['{key}']}}}}" in containers["verdict"].args
    assert containers["verdict"].args[0] == "verdict"
    others = {name for name, component in spec.components.items() if component.HasField("output_definitions")}
    assert others == {"comp-run-report"}


def test_resources_go_by_the_kind_of_step(containers: dict) -> None:
    def of(name: str) -> tuple[float, float, float, float]:
        r = containers[name].resources
        return r.cpu_limit, r.cpu_request, r.memory_limit / gib, r.memory_request / gib

    # The number is one of gigabytes.
    gib = 2**30 / 1e9
    assert of("trainer") == pytest.approx((8, 6, 48, 48))
    assert containers["trainer"].resources.accelerator.type == "nvidia.com/gpu"
    assert containers["trainer"].resources.accelerator.count == 1
    beam = {"impression-gen", "statistics-gen", "impression-transform"}
    for name in beam:
        assert of(name) == pytest.approx((4, 4, 16, 8))
    assert of("evaluator") == pytest.approx((2, 2, 8, 8))
    for name in set(containers) - beam - {"trainer", "evaluator", "baselines"}:
        assert of(name) == pytest.approx((1, 1, 4, 4))
        assert not containers[name].resources.HasField("accelerator")


def test_retries(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    retries = {name: task.retry_policy.max_retry_count for name, task in spec.root.dag.tasks.items()}
    assert {name for name, count in retries.items() if count == 0} == {"evaluator", "verdict"}
    assert {count for name, count in retries.items() if name not in ("evaluator", "verdict")} == {2}
    policy = spec.root.dag.tasks["trainer"].retry_policy
    backoff = policy.backoff_duration.seconds, policy.backoff_factor, policy.backoff_max_duration.seconds
    assert backoff == (30, 2, 3600)


def test_pods(pods: dict) -> None:
    shared = {
        "imagePullPolicy": "IfNotPresent",
        "imagePullSecret": [{"secretName": "registry"}],
        "pvcMount": [
            {"constant": "ctr-data", "mountPath": "/data"},
            {"constant": "ctr-output", "mountPath": "/output"},
        ],
        "secretAsEnv": [
            {
                "secretName": "mysql-secret",
                "keyToEnv": [{"secretKey": "password", "envVar": "MLMD_MYSQL_PASSWORD"}],
            }
        ],
        "secretAsVolume": [{"secretName": "bucket-key", "mountPath": "/var/secrets/bucket", "optional": False}],
    }
    of_the_trainer = {
        "nodeSelector": {"labels": {"cloud.google.com/gke-accelerator": "nvidia-l4"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "emptyDirMounts": [
            {"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi"}  # noqa: S108
        ],
    }
    for name, pod in pods.items():
        if name == "verdict":
            assert set(pod) == {"imagePullPolicy", "imagePullSecret"}
        else:
            assert pod == (shared | of_the_trainer if name == "trainer" else shared)


def test_each_step_imports_what_plugins_register(plugins: Path) -> None:
    from ctr.pipeline.runners.kubeflow.package import PackageWriter

    chosen = ("model.name=decay", "sampler.name=subset", "sampler.subset.keep=1", "evaluation.bounds.brier.max=0.9")
    modules = ["my_shop.ctr", "my_shop.subset", "my_shop.fields", "my_shop.brier"]
    document, _ = yaml.safe_load_all(PackageWriter().run(load_preset("kubeflow", [*SETTINGS, *chosen], modules)))
    containers = [executor["container"] for executor in document["deploymentSpec"]["executors"].values()]
    configs = [arg for each in containers for arg in each["args"] if arg.startswith("--config=")]
    assert len(configs) == len(containers) - 1, "the verdict alone needs none"
    (config,) = {text.removeprefix("--config=") for text in configs}

    code = (
        "import sys; from ctr.pipeline.settings.pipeline_config import PipelineConfig; "
        "config = PipelineConfig.from_json(sys.argv[1]); "
        "from ctr.models.impression import FEATURES; "
        "print(config.model.name, config.sampler.name, dict(config.evaluation.bounds)['brier'].max, *[*FEATURES][-2:])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, plugins)))}
    command = [sys.executable, "-c", code, config]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert out.split() == ["decay", "subset", "0.9", "history_hour", "candidate_magnitude"]


def test_the_steps_configuration_is_the_one_that_was_compiled(package: str) -> None:
    assert Package.parse(package, "").config == load_preset("kubeflow", SETTINGS)


@pytest.mark.parametrize("preset", ["demo", "full", "sample", "mimn", "kubeflow"])
def test_changes_alone_give_the_same_configuration(preset: str) -> None:
    config = load_preset(preset, ["training.epochs=7", "span=2017-12-03"])
    assert PipelineConfig.from_json(config.changes_json()) == config
    assert len(config.changes_json()) < len(config.to_json())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (['kubeflow.image=""'], "kubeflow.image: name the image"),
        (["kubeflow.image=ctr-pipeline"], "kubeflow.image: give a tag or digest"),
        (["kubeflow.image=registry:5000/ctr-pipeline:latest"], "kubeflow.image: give a tag or digest"),
        ([IMAGE, "output=output"], "output: 'output' is relative"),
        ([IMAGE, "data=log.csv"], "data: 'log.csv' is relative"),
        ([IMAGE, "kubeflow.nodes={Trainr: {}}"], "kubeflow.nodes: no node Trainr; there are ImpressionGen, "),
        ([IMAGE, "kubeflow.light.memory=4g"], "kubeflow.light.memory: '4g' is no amount of memory"),
        ([IMAGE, "span=3", "data=/data/log.csv"], "span: /data/log.csv has no {SPAN}"),
        (["metadata.kind=mysql", 'metadata.mysql.host=""'], "metadata: kind mysql needs mysql.host"),
    ],
)
def test_what_a_cluster_cannot_run_is_refused(settings: list[str], says: str) -> None:
    from ctr.pipeline.runners.kubeflow.package import PackageWriter

    with pytest.raises(ConfigError) as refused:
        PackageWriter().run(load_preset("kubeflow", settings))
    assert says in str(refused.value)


def test_vertex_gets_tfxs_own_output() -> None:
    from ctr.pipeline.runners.vertex import VertexWriter

    config = load_preset("kubeflow", [IMAGE, "data=gs://bucket/log.csv", "output=gs://bucket/ctr"])
    spec = json_format.ParseDict(yaml.safe_load(VertexWriter().run(config)), pipeline_spec_pb2.PipelineSpec())
    assert spec.schema_version == "2.1.0"
    assert {"ImpressionGen", "Trainer", "Evaluator", "RunReport"} <= set(spec.root.dag.tasks)
    # Vertex compares the arguments of a step, so its code must be among them.
    code = spec.root.dag.tasks["Trainer"].inputs.parameters[CODE_KEY].runtime_value.constant.string_value
    assert len(code) == 64
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    images = {e["container"]["image"] for e in executors.values() if "container" in e}
    assert images == {"registry.example/ctr-pipeline:0.1.0"}


def test_artifact_types_can_be_imported_by_the_name_that_vertex_knows() -> None:
    import ctr
    from ctr.components import artifacts

    own = {name for name, value in vars(artifacts).items() if getattr(value, "TYPE_NAME", None)}
    assert len(own) == 6
    for name in own:
        assert f"ctr.{name}" == getattr(ctr, name).TYPE_NAME
