"""The manifests, built as a person would build them, against schemas, policies, and what they refer to."""

from __future__ import annotations

import copy
import json
import os
import posixpath
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from google.protobuf import text_format
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource
from tensorflow_serving.config import model_server_config_pb2

from ctr.components.trainer.cluster import is_chief, several_workers
from ctr.components.trainer.workers import JOB_ENV, work_file
from ctr.pipeline.commands.cli import _parser
from ctr.pipeline.commands.command_line import NOT_BLESSED, USAGE
from ctr.pipeline.output.layout import TRAINER, Layout
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "kubernetes"
OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())
# Those whose server is TF Serving; the other has this project's.
OF_TF_SERVING = [name for name in OVERLAYS if name != "local"]
FOLDERS = [*(f"overlays/{name}" for name in OVERLAYS), "kserve"]
# The oldest Kubernetes that knows every field in use, and the newest whose schemas are published here.
OLDEST, NEWEST = "1.31", kubernetes_validate.latest_version()
SCHEMAS = Path(__file__).parent / "schemas"

OPTIONAL = ("training-gpu", "score-drift")
SEVERAL_GPUS = ("training-gpu-node", "training-workers")

# Where each metric of the alerts comes from. Names of TF Serving are those of its source, written as its Prometheus
# exporter writes them: /tensorflow/serving/request_count becomes :tensorflow:serving:request_count.
METRICS = {
    ":tensorflow:serving:request_latency_bucket": {"model_name", "API", "entrypoint", "le"},
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "kube_horizontalpodautoscaler_status_current_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"horizontalpodautoscaler"},
    "up": {"job"},
    "ctr_served_probability_sum": set(),
    "ctr_served_probability_count": set(),
}

Object = dict[str, Any]


@cache
def built(folder: str) -> tuple[Object, ...]:
    """The objects that ``kubectl kustomize`` makes of a folder."""
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    result = subprocess.run([kubectl, "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    # What newer versions of kustomize will drop is warned of.
    assert result.stderr == ""
    return tuple(yaml.safe_load_all(result.stdout))


@pytest.fixture(scope="module")
def with_options(tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, ...]:
    """The production overlay with the components that no overlay has, put where the docs say."""
    return production_with(OPTIONAL, tmp_path_factory.mktemp("overlay"))


@pytest.fixture(scope="module")
def with_workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, ...]:
    """Likewise, with eight GPUs on one node and on several."""
    return production_with(SEVERAL_GPUS, tmp_path_factory.mktemp("overlay"))


def production_with(components: tuple[str, ...], folder: Path) -> tuple[Object, ...]:
    production = KUBERNETES / "overlays/production"
    content = yaml.safe_load((production / "kustomization.yaml").read_text())
    last = content["components"].index("../../components/production")
    content["components"][last:last] = [f"../../components/{name}" for name in components]
    for key in ("resources", "components"):
        content[key] = [os.path.relpath(production / path, folder) for path in content[key]]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(production / "training.env", folder)
    return built(str(folder))


def named(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def pod_templates(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Each workload's pod, as metadata and spec; KServe's predictor counts as a pod with one container."""
    for item in objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "CronJob":
            yield where, item["spec"]["jobTemplate"]["spec"]["template"]
        elif item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield where, item["spec"]["template"]
        elif item["kind"] == "JobSet":
            for job in item["spec"]["replicatedJobs"]:
                yield f"{where} {job['name']}", job["template"]["spec"]["template"]
        elif item["kind"] == "InferenceService":
            predictor = item["spec"]["predictor"]
            image = f"{predictor['model']['runtime']}:{predictor['model']['runtimeVersion']}"
            yield (
                where,
                {"spec": {**predictor, "containers": [{"name": "model", "image": image, **predictor["model"]}]}},
            )


# --- schemas -----------------------------------------------------------------------------------------------


def validate(item: Object, version: str) -> None:
    """Raises where an object does not fit the schema of its kind; unknown fields do not fit."""
    group, _, api_version = item["apiVersion"].rpartition("/")
    file = SCHEMAS / f"{group}_{api_version}_{item['kind']}.json"
    if file.exists():
        definitions = schema_contents(
            f"kubernetes-json-schema/v{full(version)}-local-strict/_definitions.json", version
        )
        registry: Registry[Any] = Resource.from_contents(definitions) @ Registry()
        jsonschema.Draft202012Validator(json.loads(file.read_text()), registry=registry).validate(item)
    else:
        kubernetes_validate.validate(item, version, strict=True)


def full(version: str) -> str:
    return next(name for name in reversed(kubernetes_validate.utils.all_versions()) if name.startswith(f"{version}."))


@pytest.mark.parametrize("folder", [*FOLDERS, "flink"])
def test_every_object_fits_its_schema(folder: str) -> None:
    for item in built(folder):
        validate(item, NEWEST[: NEWEST.rindex(".")])
        if item["kind"] != "InferenceService":
            validate(item, OLDEST)


def test_optional_components_fit_their_schemas(
    with_options: tuple[Object, ...], with_workers: tuple[Object, ...]
) -> None:
    for item in (*with_options, *with_workers):
        validate(item, OLDEST)


@pytest.mark.parametrize(
    ("folder", "kind", "name", "path", "value"),
    [
        ("overlays/dev", "Deployment", "ctr-serving", "spec.replica", 2),
        ("overlays/dev", "Deployment", "ctr-serving", "spec.template.spec.containers.0.ports.0.containerPort", "grpc"),
        ("overlays/dev", "CronJob", "ctr-training", "spec.jobTemplate.spec.podFailurePolicy.rules.0.action", 3),
        ("overlays/production", "ServiceMonitor", "ctr-serving", "spec.endpoints.0.intervall", "30s"),
        ("overlays/production", "ServiceMonitor", "ctr-serving", "spec.endpoints.0.port", 8501),
        ("overlays/production", "PrometheusRule", "ctr-pipeline", "spec.groups.0.rules.0.for", "five minutes"),
        ("kserve", "InferenceService", "ctr", "spec.predictor.minReplica", 2),
        ("kserve", "InferenceService", "ctr", "spec.predictor.model.resources.limits.cpu", ["1"]),
    ],
)
def test_schemas_refuse_what_is_wrong(folder: str, kind: str, name: str, path: str, value: object) -> None:
    refuse(named(built(folder), kind, name), path, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.successPolicy.operator", "Some"),
        ("spec.failurePolicy.maxRestart", 2),
        ("spec.replicatedJobs.0.template.spec.template.spec.containers.0.port", 2222),
        ("spec.replicatedJobs.1.template.spec.completions", "two"),
    ],
)
def test_schema_of_a_job_set_refuses_what_is_wrong(with_workers: tuple[Object, ...], path: str, value: object) -> None:
    refuse(named(with_workers, "JobSet", "ctr-training"), path, value)


def refuse(item: Object, path: str, value: object) -> None:
    item = copy.deepcopy(item)
    put(item, path, value)

    with pytest.raises(jsonschema.ValidationError):
        validate(item, NEWEST[: NEWEST.rindex(".")])


def put(item: Any, path: str, value: object) -> None:
    *parents, leaf = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        item = item[part]
    item[leaf] = value


# --- policy ------------------------------------------------------------------------------------------------


def violations(template: Object) -> list[str]:
    """What a pod may not be: the restricted Pod Security Standard, limits, fixed images, no token."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    found = []
    if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
        found.append("may run as root")
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("mounts a token")
    if spec.get("serviceAccountName", "default") == "default":
        found.append("uses the default account")
    found += [f"shares {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("keeps capabilities")
        if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
            found.append("may run as root")
        if not own.get("readOnlyRootFilesystem"):
            found.append("writable root")
        for kind in ("requests", "limits"):
            if not {"cpu", "memory"} <= container.get("resources", {}).get(kind, {}).keys():
                found.append(f"no {kind}")
        if not re.fullmatch(r"[\w./-]+(:\d+/[\w./-]+)?:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?", container["image"]):
            found.append("image without a fixed tag")
        # Values of secrets come by reference.
        found += [
            f"secret in {variable['name']}"
            for variable in container.get("env", [])
            if "value" in variable and re.search(r"(?i)key|token|password|secret", variable["name"])
        ]
    for volume in spec.get("volumes", []):
        if not volume.keys() <= {
            "name",
            "configMap",
            "secret",
            "emptyDir",
            "persistentVolumeClaim",
            "projected",
            "csi",
        }:
            found.append(f"volume {volume['name']} reaches the node")
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            found.append(f"volume {volume['name']} has no limit")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_keep_the_policy(folder: str) -> None:
    pods = dict(pod_templates(built(folder)))

    assert pods
    assert {where: violations(template) for where, template in pods.items() if violations(template)} == {}


def test_optional_components_keep_the_policy(
    with_options: tuple[Object, ...], with_workers: tuple[Object, ...]
) -> None:
    for objects in (with_options, with_workers):
        assert {where: found for where, template in pod_templates(objects) if (found := violations(template))} == {}
    gpu = named(with_options, "CronJob", "ctr-training")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["containers"][0]["image"] == "registry.example.org/ctr-pipeline:0.1.0-gpu"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("spec.securityContext.runAsNonRoot", False, "may run as root"),
        ("spec.securityContext.seccompProfile", {}, "no seccomp profile"),
        ("spec.automountServiceAccountToken", True, "mounts a token"),
        ("spec.hostNetwork", True, "shares hostNetwork"),
        (
            "spec.containers.0.securityContext.capabilities",
            {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "keeps capabilities",
        ),
        ("spec.containers.0.securityContext.readOnlyRootFilesystem", False, "writable root"),
        ("spec.containers.0.securityContext.allowPrivilegeEscalation", True, "may gain privileges"),
        ("spec.containers.0.resources.limits", {"cpu": "1"}, "no limits"),
        ("spec.containers.0.image", "tensorflow/serving:latest", "image without a fixed tag"),
        ("spec.containers.0.image", "tensorflow/serving", "image without a fixed tag"),
        ("spec.containers.0.image", "registry.example.org:5000/serving", "image without a fixed tag"),
        ("spec.containers.0.env", [{"name": "API_TOKEN", "value": "x"}], "secret in API_TOKEN"),
        ("spec.volumes.0", {"name": "host", "hostPath": {"path": "/"}}, "volume host reaches the node"),
        ("spec.volumes.0", {"name": "tmp", "emptyDir": {}}, "volume tmp has no limit"),
    ],
)
def test_policy_finds_what_it_forbids(path: str, value: object, expected: str) -> None:
    template = copy.deepcopy(dict(pod_templates(built("overlays/dev")))["Deployment ctr-serving"])
    put(template, path, value)

    assert expected in violations(template)


@pytest.mark.parametrize("folder", [*FOLDERS, "flink"])
def test_accounts_have_no_roles_and_no_secret_is_in_the_tree(folder: str) -> None:
    kinds = [item["kind"] for item in built(folder)]

    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"} & set(kinds)
    assert kinds.count("ServiceAccount") >= 1
    for item in built(folder):
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_namespace_enforces_the_restricted_standard_and_denies_traffic(overlay: str) -> None:
    objects = built(f"overlays/{overlay}")
    namespaces = [item for item in objects if item["kind"] == "Namespace"]

    assert len(namespaces) == 1
    assert namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    name = namespaces[0]["metadata"]["name"]
    for item in objects:
        expected = None if item["kind"] in ("Namespace", "PersistentVolume") else name
        assert item["metadata"].get("namespace") == expected
    deny = named(objects, "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# --- references --------------------------------------------------------------------------------------------

# Made by hand, as docs/kubernetes.md says; a registry's credentials are in no manifest.
SECRETS = {"ctr-registry"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_pods_refer_to_exists(folder: str) -> None:
    assert_references_exist(built(folder))


def test_what_workers_refer_to_exists(with_workers: tuple[Object, ...]) -> None:
    assert_references_exist(with_workers)


def assert_references_exist(objects: tuple[Object, ...]) -> None:
    existing = {(item["kind"], item["metadata"]["name"]) for item in objects}

    for where, template in pod_templates(objects):
        spec = template["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in existing, where
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in existing, where
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in existing, where
        for container in spec["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == volumes.keys(), f"{where}: volumes and mounts differ"
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for action in ("httpGet", "tcpSocket"):
                    if action in container.get(probe, {}):
                        assert container[probe][action]["port"] in ports, f"{where} {probe}"
                # A probe by gRPC takes no name of a port.
                if asked := container.get(probe, {}).get("grpc"):
                    assert asked["port"] in {port["containerPort"] for port in container["ports"]}, f"{where} {probe}"
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in existing, where
    secrets = {
        secret["name"]
        for item in objects
        if item["kind"] == "ServiceAccount"
        for secret in item.get("imagePullSecrets", [])
    }
    assert secrets <= SECRETS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_ports_and_targets_meet_the_servers(overlay: str) -> None:
    objects = built(f"overlays/{overlay}")
    deployment = named(objects, "Deployment", "ctr-serving")
    service = named(objects, "Service", "ctr-serving")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {p["name"]: p["containerPort"] for p in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}

    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        named(objects, "PodDisruptionBudget", "ctr-serving")["spec"]["selector"]["matchLabels"],
        named(objects, "NetworkPolicy", "ctr-serving")["spec"]["podSelector"]["matchLabels"],
        deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert ports == {"grpc": 8500, "rest": 8501} if overlay in OF_TF_SERVING else {"grpc": 8500}
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--port=8500" in arguments
    assert ("--rest_api_port=8501" in arguments) == ("rest" in ports)
    scalers = [item for item in objects if item["kind"] == "HorizontalPodAutoscaler"]
    if overlay == "local":
        assert (scalers, deployment["spec"]["replicas"]) == ([], 1)
    else:
        target = named(objects, "HorizontalPodAutoscaler", "ctr-serving")["spec"]["scaleTargetRef"]
        assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ctr-serving"}
        assert "replicas" not in deployment["spec"]
    for rule in named(objects, "NetworkPolicy", "ctr-serving")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= ports.keys()


def test_no_other_pod_has_the_servers_labels() -> None:
    pods = dict(pod_templates(built("overlays/production")))

    assert pods["CronJob ctr-training"]["metadata"]["labels"]["app.kubernetes.io/name"] == "ctr-training"
    policy = named(built("overlays/production"), "NetworkPolicy", "ctr-training")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pods["CronJob ctr-training"]["metadata"]["labels"].items()


# --- what runs in the pods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OF_TF_SERVING)
def test_model_server_reads_what_the_pipeline_pushes(overlay: str) -> None:
    objects = built(f"overlays/{overlay}")
    spec = named(objects, "Deployment", "ctr-serving")["spec"]["template"]["spec"]
    text = named(objects, "ConfigMap", "ctr-serving-models")["data"]["models.config"]
    [model] = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    name = PipelineConfig.model_fields["served_model_name"].default

    assert model.name == name
    root = posixpath.dirname(posixpath.dirname(model.base_path))
    assert model.base_path == Layout(root.removesuffix("/serving")).model_base(name)
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    if "://" not in model.base_path:
        [mount] = [mount for path, mount in mounts.items() if model.base_path.startswith(f"{path}/")]
        assert mount["readOnly"]
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) <= versions
    assert bool(versions) == (overlay == "production-canary")
    arguments = dict(argument.split("=", 1) for argument in spec["containers"][0]["args"])
    for flag in ("--model_config_file", "--monitoring_config_file"):
        folder, file = posixpath.split(arguments[flag])
        volume = next(v for v in spec["volumes"] if v["name"] == mounts[folder]["name"])
        assert file in named(objects, "ConfigMap", volume["configMap"]["name"])["data"]
        # kubelet brings a changed ConfigMap to folders, never to single files.
        assert "subPath" not in mounts[folder]
    for probe in ("startupProbe", "readinessProbe"):
        assert spec["containers"][0][probe]["httpGet"]["path"] == f"/v1/models/{name}/metadata"


def test_own_server_reads_what_the_pipeline_pushes() -> None:
    objects = built("overlays/local")
    spec = named(objects, "Deployment", "ctr-serving")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    run = named(objects, "CronJob", "ctr-training")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [trains] = run["containers"]

    options = _parser().parse_args(container["args"])

    # The image's entry point takes the command.
    assert "command" not in container
    assert container["image"] == trains["image"]
    assert options.model == PipelineConfig.model_fields["served_model_name"].default
    # No version is there before the first run, and pods ask from elsewhere.
    assert (options.wait, options.host, options.port) == (True, "0.0.0.0", 8500)  # noqa: S104
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts == {options.output: True, "/tmp": False}  # noqa: S108
    outputs = [volume for pod in (spec, run) for volume in pod["volumes"] if volume["name"] == "output"]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in outputs] == ["ctr-output"] * 2
    # What preStop and the server take at SIGTERM, and a little more.
    stop = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = re.search(r"grace_seconds: float = ([\d.]+)", (ROOT / "serving/server.py").read_text())
    assert grace is not None
    assert spec["terminationGracePeriodSeconds"] >= stop + float(grace[1]) + 5
    assert not [item for item in objects if item["metadata"]["name"].startswith("ctr-serving-m")]


def test_local_needs_no_storage_class() -> None:
    objects = built("overlays/local")
    volumes = [item for item in objects if item["kind"] == "PersistentVolume"]
    claims = [item for item in objects if item["kind"] == "PersistentVolumeClaim"]

    of_claim = {(v["spec"]["claimRef"]["namespace"], v["spec"]["claimRef"]["name"]): v["spec"] for v in volumes}
    assert len(volumes) == len(claims) == 2
    for claim in claims:
        volume = of_claim[claim["metadata"]["namespace"], claim["metadata"]["name"]]
        assert volume["storageClassName"] == claim["spec"]["storageClassName"] == ""
        assert volume["accessModes"] == claim["spec"]["accessModes"]
        assert volume["capacity"] == claim["spec"]["resources"]["requests"]
        # A folder that the kubelet makes would be root's.
        assert volume["hostPath"]["type"] == "Directory"
    # As docs/kubernetes.md says.
    containers = [container for _, pod in pod_templates(objects) for container in pod["spec"]["containers"]]
    wanted = [container["resources"] for container in containers]
    assert [each["requests"] for each in wanted] == [
        {"cpu": "100m", "memory": "512Mi"},
        {"cpu": "500m", "memory": "3Gi"},
    ]
    assert [each["limits"] for each in wanted] == [{"cpu": "1", "memory": "2Gi"}, {"cpu": "2", "memory": "6Gi"}]
    for overlay in OF_TF_SERVING:
        assert "hostPath" not in json.dumps(built(f"overlays/{overlay}"))


@pytest.mark.parametrize("overlay", OF_TF_SERVING)
def test_changed_labels_replace_no_pod(overlay: str) -> None:
    named(built(f"overlays/{overlay}"), "ConfigMap", "ctr-serving-models")


def test_prometheus_asks_where_the_server_answers() -> None:
    objects = built("overlays/production")
    endpoint = named(objects, "ServiceMonitor", "ctr-serving")["spec"]["endpoints"][0]
    service = named(objects, "Service", "ctr-serving")
    [config] = [item for item in objects if item["metadata"]["name"].startswith("ctr-serving-monitoring")]
    # The Python package of TF Serving has no class for this message.
    text = re.sub(r"#.*", "", config["data"]["monitoring.config"]).split()

    assert text == ["prometheus_config", "{", "enable:", "true", "path:", f'"{endpoint["path"]}"', "}"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    selector = named(objects, "ServiceMonitor", "ctr-serving")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", ["dev", "local", "production"])
def test_cron_job_runs_a_command_line_that_is_understood(overlay: str) -> None:
    objects = built(f"overlays/{overlay}")
    job = named(objects, "CronJob", "ctr-training")["spec"]["jobTemplate"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    settings = named(objects, "ConfigMap", container["envFrom"][0]["configMapRef"]["name"])["data"]
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: settings[found[1]], word) for word in container["args"]]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}

    options = _parser().parse_args(arguments)

    load_preset(options.preset)
    assert options.data.startswith("/data/")
    assert mounts == {"/data": True, options.output: False, "/tmp": False}  # noqa: S108
    # The servers mount the same claim at the same place, so that the layout of the output folder is one.
    assert options.output == "/output"
    failure = job["podFailurePolicy"]["rules"][0]
    assert failure["onExitCodes"]["containerName"] == container["name"]
    assert failure["onExitCodes"]["values"] == [USAGE, NOT_BLESSED]


def test_all_gpus_of_a_node_are_asked_for(with_workers: tuple[Object, ...]) -> None:
    job = named(with_workers, "CronJob", "ctr-training")["spec"]
    [container] = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert "/dev/shm" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108
    # A JobSet runs in its place: two runs at once need two output folders.
    assert job["suspend"]


def test_job_set_trains_with_workers_that_find_one_another(with_workers: tuple[Object, ...]) -> None:
    spec = named(with_workers, "JobSet", "ctr-training")["spec"]
    jobs = {job["name"]: job["template"]["spec"] for job in spec["replicatedJobs"]}
    subdomain = spec["network"]["subdomain"]
    labels = {"app.kubernetes.io/name": "ctr-training-workers"}

    # Each pod's own name, as JobSet makes it: <set>-<job>-<number of the job>-<index of the pod>.<subdomain>
    hosts = {
        name: [f"ctr-training-{name}-0-{index}.{subdomain}:2222" for index in range(job["completions"])]
        for name, job in jobs.items()
    }
    for name, job in jobs.items():
        [container] = job["template"]["spec"]["containers"]
        variables = {variable["name"]: variable for variable in container["env"]}
        # A variable is filled in where those that it names stand before it.
        order = list(variables)
        assert order.index("TF_CONFIG") > order.index("INDEX")
        assert order.index("CTR_JOB") > max(order.index("JOB"), order.index("ATTEMPT"))
        assert (job["completionMode"], job["parallelism"]) == ("Indexed", job["completions"])
        for index in range(job["completions"]):
            config = variables["TF_CONFIG"]["value"].replace("$(INDEX)", str(index))
            assert json.loads(config) == {"cluster": hosts, "task": {"type": name, "index": index}}
            environment = {"TF_CONFIG": config}
            assert (several_workers(environment), is_chief(environment)) == (True, name == "chief")
        assert job["template"]["metadata"]["labels"].items() >= labels.items()
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert container["image"] == "registry.example.org/ctr-pipeline:0.1.0-gpu"
    policy = named(with_workers, "NetworkPolicy", "ctr-training-workers")["spec"]
    assert policy["podSelector"] == policy["ingress"][0]["from"][0]["podSelector"] == {"matchLabels": labels}
    assert policy["egress"][0]["to"] == policy["ingress"][0]["from"]
    # The run ends with its chief, and every try is one of all workers.
    assert spec["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["chief"]}
    assert all(job["backoffLimit"] == 0 for job in jobs.values())


def test_job_set_runs_command_lines_that_are_understood(with_workers: tuple[Object, ...]) -> None:
    spec = named(with_workers, "JobSet", "ctr-training")["spec"]
    chief, worker = (job["template"]["spec"]["template"]["spec"]["containers"][0] for job in spec["replicatedJobs"])
    settings = named(with_workers, "ConfigMap", chief["envFrom"][0]["configMapRef"]["name"])["data"]
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: settings[found[1]], word) for word in chief["args"]]

    run = _parser().parse_args(arguments)
    follows = _parser().parse_args([word.replace("$(CTR_JOB)", "job-0") for word in worker["args"]])

    trainer = posixpath.join(Layout(run.output).artifacts, TRAINER)
    assert follows.work == work_file(trainer, {JOB_ENV: "job-0"})
    rule = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]
    assert rule["onExitCodes"] == {"containerName": chief["name"], "operator": "In", "values": [USAGE, NOT_BLESSED]}
    # Both mount the folder that the work, the examples and the checkpoint lie in.
    for container in (chief, worker):
        assert {"name": "output", "mountPath": run.output} in container["volumeMounts"]


@pytest.mark.parametrize("overlay", ["production-gcs", "production-s3"])
def test_buckets_hold_no_metadata_so_nothing_trains_into_them(overlay: str) -> None:
    names = [item["metadata"]["name"] for item in built(f"overlays/{overlay}")]

    assert not [name for name in names if name.startswith("ctr-training")]


def test_kserve_serves_the_same_model() -> None:
    predictor = named(built("kserve"), "InferenceService", "ctr")["spec"]["predictor"]
    server = named(built("overlays/dev"), "Deployment", "ctr-serving")["spec"]["template"]["spec"]["containers"][0]
    text = named(built("overlays/production-gcs"), "ConfigMap", "ctr-serving-models")["data"]["models.config"]

    assert server["image"] == f"tensorflow/serving:{predictor['model']['runtimeVersion']}"
    assert f'"{predictor["model"]["storageUri"]}"' in text


# --- alerts ------------------------------------------------------------------------------------------------


def alerts(objects: tuple[Object, ...]) -> list[Object]:
    groups = [group for item in objects if item["kind"] == "PrometheusRule" for group in item["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def selectors(node: Any) -> Iterator[Any]:
    """Each selector of a metric in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield from selectors(child)
    for child in getattr(node, "args", None) or []:
        yield from selectors(child)


def test_alerts_ask_for_metrics_that_exist(with_options: tuple[Object, ...]) -> None:
    rules = alerts(with_options)

    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        found = list(selectors(promql_parser.parse(rule["expr"])))
        assert found, rule["alert"]
        for selector in found:
            assert selector.name in METRICS, rule["alert"]
            used = {matcher.name for matcher in selector.matchers.matchers}
            assert used <= METRICS[selector.name], f"{rule['alert']}: {selector.name} has no label {used}"
    asked = {selector.name for rule in rules for selector in selectors(promql_parser.parse(rule["expr"]))}
    assert asked == METRICS.keys()


def test_alerts_name_objects_that_exist(with_options: tuple[Object, ...]) -> None:
    kinds = {"cronjob": "CronJob", "horizontalpodautoscaler": "HorizontalPodAutoscaler", "job": "Service"}
    checked = set()
    for rule in alerts(with_options):
        for selector in selectors(promql_parser.parse(rule["expr"])):
            for matcher in selector.matchers.matchers:
                if matcher.name in kinds:
                    named(with_options, kinds[matcher.name], matcher.value)
                    checked.add(matcher.name)

    assert checked == kinds.keys()


def test_each_alert_has_its_place_in_the_docs(with_options: tuple[Object, ...]) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    headings = [re.sub(r"[^\w -]", "", line.lstrip("# ")) for line in page.splitlines() if line.startswith("#")]
    anchors = {heading.lower().replace(" ", "-") for heading in headings}

    for rule in alerts(with_options):
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (ROOT / path).is_file()
        assert anchor in anchors, rule["alert"]
