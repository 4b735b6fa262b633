"""The manifests of Flink for the Beam steps: what they ask for fits together, and gives away no more than it must."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "kubernetes/flink"
FILES = sorted(file.name for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml")
DOCUMENTS: list[dict[str, Any]] = [
    document for name in FILES for document in yaml.safe_load_all((FOLDER / name).read_text())
]
UNITS = {"m": 1e-3, "": 1.0, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [document for document in DOCUMENTS if document["kind"] == kind]
    assert found, kind
    return found


DEPLOYMENTS = of_kind("Deployment")
CONTAINERS = [
    (deployment, c) for deployment in DEPLOYMENTS for c in deployment["spec"]["template"]["spec"]["containers"]
]
each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["metadata"]["name"])
each_container = pytest.mark.parametrize(
    ("deployment", "container"), CONTAINERS, ids=[container["name"] for _, container in CONTAINERS]
)


def pod(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def pod_labels(deployment: Mapping[str, Any]) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"]["labels"]


def ports(deployment: Mapping[str, Any]) -> dict[str, int]:
    return {p["name"]: p["containerPort"] for c in pod(deployment)["containers"] for p in c["ports"]}


def selected(labels: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Deployments whose pods have these labels; none where a selector goes by something else."""
    if labels is None:
        return []
    assert labels, "an empty selector takes every pod"
    return [deployment for deployment in DEPLOYMENTS if labels.items() <= pod_labels(deployment).items()]


def container_named(name: str) -> dict[str, Any]:
    (found,) = [container for _, container in CONTAINERS if container["name"] == name]
    return found


def quantity(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def configuration() -> dict[str, Any]:
    (config,) = of_kind("ConfigMap")
    return yaml.safe_load(config["data"]["flink-conf.yaml"])


def test_kustomization_takes_every_file_and_each_object_has_a_name_of_its_own() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    names = [(document["kind"], document["metadata"]["name"]) for document in DOCUMENTS]

    assert sorted(kustomization["resources"]) == FILES
    assert len(set(names)) == len(names)
    assert all("namespace" not in document["metadata"] for document in DOCUMENTS)


@each_deployment
def test_pods_have_no_rights_of_their_own(deployment: dict[str, Any]) -> None:
    spec = pod(deployment)
    (account,) = of_kind("ServiceAccount")

    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert (account["automountServiceAccountToken"], spec["automountServiceAccountToken"]) == (False, False)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec)
    assert [volume for volume in spec["volumes"] if "hostPath" in volume] == []


@each_container
def test_containers_keep_to_themselves(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    context = {**pod(deployment)["securityContext"], **container["securityContext"]}

    assert context["runAsUser"] > 0
    assert context["runAsGroup"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108


@each_container
def test_containers_are_bounded(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    resources = container["resources"]

    assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}
    for name, limit in resources["limits"].items():
        assert 0 < quantity(resources["requests"][name]) <= quantity(limit)
    # What may be taken beyond the request can be taken away by ending the container.
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


@each_container
def test_images_have_versions(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9./_-]+:[0-9]+\.[0-9]+\.[0-9]+[a-z0-9._-]*", container["image"])


@each_container
def test_probes_ask_ports_that_are_there(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    own = {port["name"] for port in container["ports"]}

    assert {"startupProbe", "livenessProbe"} <= container.keys()
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        if name in container:
            (check,) = [value for key, value in container[name].items() if key in ("httpGet", "tcpSocket")]
            assert check["port"] in own


@each_deployment
def test_volumes_are_mounted_and_bounded(deployment: dict[str, Any]) -> None:
    mounted = {mount["name"] for container in pod(deployment)["containers"] for mount in container["volumeMounts"]}
    configs = {config["metadata"]["name"] for config in of_kind("ConfigMap")}

    assert mounted == {volume["name"] for volume in pod(deployment)["volumes"]}
    for volume in pod(deployment)["volumes"]:
        assert "emptyDir" not in volume or quantity(volume["emptyDir"]["sizeLimit"]) > 0
        assert "configMap" not in volume or volume["configMap"]["name"] in configs


def test_a_claim_is_at_the_same_path_in_all_containers() -> None:
    paths: dict[str, set[str]] = {}
    for deployment, container in CONTAINERS:
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in pod(deployment)["volumes"]
            if "persistentVolumeClaim" in volume
        }
        for mount in container["volumeMounts"]:
            if mount["name"] in claims:
                paths.setdefault(claims[mount["name"]], set()).add(mount["mountPath"])

    assert paths == {"ctr-output": {"/output"}, "ctr-data": {"/data"}}


@each_deployment
def test_deployments_find_their_own_pods_alone(deployment: dict[str, Any]) -> None:
    assert selected(deployment["spec"]["selector"]["matchLabels"]) == [deployment]


@pytest.mark.parametrize("service", of_kind("Service"), ids=lambda s: s["metadata"]["name"])
def test_services_lead_to_ports_of_one_deployment(service: dict[str, Any]) -> None:
    (target,) = selected(service["spec"]["selector"])

    for port in service["spec"]["ports"]:
        assert ports(target)[port["targetPort"]] == port["port"]
    assert "type" not in service["spec"], "open to the cluster alone"


def connections(direction: str, peers: str) -> Iterator[tuple[str, str, str]]:
    """(name of the policy's pods, name of the other's, port), for pods of this folder."""
    for policy in of_kind("NetworkPolicy"):
        for own in selected(policy["spec"]["podSelector"].get("matchLabels")):
            for rule in policy["spec"].get(direction, []):
                for peer in rule[peers]:
                    for other in selected(peer.get("podSelector", {}).get("matchLabels")):
                        for port in rule["ports"]:
                            yield own["metadata"]["name"], other["metadata"]["name"], port["port"]


def test_pods_reach_each_other_where_they_must_and_nowhere_else() -> None:
    manager, worker, server = "flink-jobmanager", "flink-taskmanager", "beam-job-server"
    needed = {
        (worker, manager, "rpc"),
        (worker, manager, "blob"),
        (server, manager, "rest"),
        (manager, worker, "rpc"),
        (manager, worker, "metrics"),
        (worker, worker, "data"),
    }

    assert set(connections("egress", "to")) == needed
    assert {(other, own, port) for own, other, port in connections("ingress", "from")} == needed


@each_deployment
def test_a_policy_closes_what_it_does_not_name(deployment: dict[str, Any]) -> None:
    policies = [
        policy["spec"]
        for policy in of_kind("NetworkPolicy")
        if deployment in selected(policy["spec"]["podSelector"].get("matchLabels"))
    ]
    opened = [rule for policy in policies for rule in policy.get("ingress", [])]

    assert {"Ingress", "Egress"} <= set(chain.from_iterable(policy["policyTypes"] for policy in policies))
    assert all(rule["from"] and rule["ports"] for rule in opened)
    for rule in opened:
        assert {port["port"] for port in rule["ports"]} <= ports(deployment).keys() - {"worker-pool"}


def test_versions_are_those_of_the_lock_and_of_each_other() -> None:
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    (beam,) = re.findall(
        r"^apache-beam(?:\[gcp\])?==(\S+) \\$", (ROOT / "requirements/tfx-1.16.lock").read_text(), re.MULTILINE
    )
    (flink,) = {container_named(name)["image"] for name in ("jobmanager", "taskmanager")}
    (minor,) = re.findall(r"^flink:([0-9]+\.[0-9]+)\.", flink)

    assert container_named("job-server")["image"] == f"apache/beam_flink{minor}_job_server:{beam}"
    if metadata.version("apache-beam") != beam:
        pytest.skip(f"the manifests are for Beam {beam}, and this environment is of the other stack")
    assert minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS


def test_flink_is_configured_for_its_containers() -> None:
    config = configuration()
    for name, ports_of in (
        ("jobmanager", {"jobmanager.rpc.port": "rpc", "blob.server.port": "blob", "rest.port": "rest"}),
        (
            "taskmanager",
            {
                "taskmanager.rpc.port": "rpc",
                "taskmanager.data.port": "data",
                "metrics.internal.query-service.port": "metrics",
            },
        ),
    ):
        container = container_named(name)
        assert {config[key] for key in ports_of} == {port["containerPort"] for port in container["ports"]}
        own = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {key: config[key] for key in ports_of} == {key: own[port] for key, port in ports_of.items()}
        size = quantity(config[f"{name}.memory.process.size"].replace("m", "Mi"))
        assert size <= quantity(container["resources"]["limits"]["memory"])
    assert config["web.submit.enable"] is False
    # A Python worker for each slot needs a core.
    slots = config["taskmanager.numberOfTaskSlots"]
    assert quantity(container_named("beam-workers")["resources"]["limits"]["cpu"]) >= slots


def test_addresses_are_names_of_services() -> None:
    services = {s["metadata"]["name"]: [p["port"] for p in s["spec"]["ports"]] for s in of_kind("Service")}
    config = configuration()
    arguments = dict(arg.removeprefix("--").split("=", 1) for arg in container_named("job-server")["args"])
    host, port = arguments["flink-master"].split(":")

    assert int(port) in services[host]
    for key in ("jobmanager.rpc", "rest"):
        assert config[f"{key}.port"] in services[config[f"{key}.address"]]
    assert {int(arguments["job-port"]), int(arguments["artifact-port"])} == set(services["beam-job-server"])
    mounts = [mount["mountPath"] for mount in container_named("job-server")["volumeMounts"]]
    assert arguments["artifacts-dir"].startswith(tuple(f"{mount}/" for mount in mounts if mount != "/tmp"))  # noqa: S108
