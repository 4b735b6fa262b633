"""What Kubeflow Pipelines asks Kubernetes for on behalf of a step: resources, and the pod around them.

Resources stand in the pipeline's specification. The rest is the second document of a package, the platform
specification; docs/kubeflow.md says since which version the backend heeds which of its fields.
"""

from __future__ import annotations

from typing import Any

from ctr.pipeline.settings.kubeflow import KubeflowConfig, StepConfig, quantity_bytes

_SHARED_MEMORY = {"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory"}  # noqa: S108 (a mount)


def container_resources(step: StepConfig) -> dict[str, Any]:
    """``resources`` of a ``PipelineContainerSpec``."""
    resources: dict[str, Any] = {
        "cpuLimit": step.cpu,
        "cpuRequest": step.cpu_request or step.cpu,
        "memoryLimit": _gigabytes(step.memory),
        "memoryRequest": _gigabytes(step.memory_request or step.memory),
    }
    if step.gpus:
        resources["accelerator"] = {"type": step.gpu_type, "count": str(step.gpus)}
    return resources


def pod(kubeflow: KubeflowConfig, step: StepConfig) -> dict[str, Any]:
    """A ``KubernetesExecutorConfig``."""
    config: dict[str, Any] = {"imagePullPolicy": kubeflow.image_pull_policy}
    if kubeflow.image_pull_secrets:
        config["imagePullSecret"] = [{"secretName": name} for name in kubeflow.image_pull_secrets]
    if kubeflow.volumes:
        config["pvcMount"] = [{"constant": mount.claim, "mountPath": mount.path} for mount in kubeflow.volumes]
    if kubeflow.secret_env:
        config["secretAsEnv"] = [
            {"secretName": secret.secret, "keyToEnv": [{"secretKey": secret.key, "envVar": secret.env}]}
            for secret in kubeflow.secret_env
        ]
    if kubeflow.secret_files:
        config["secretAsVolume"] = [
            {"secretName": files.secret, "mountPath": files.path, "optional": False} for files in kubeflow.secret_files
        ]
    if step.node_selector:
        config["nodeSelector"] = {"labels": dict(step.node_selector)}
    if step.tolerations:
        config["tolerations"] = [
            {**t.model_dump(exclude_defaults=True), "operator": t.operator} for t in step.tolerations
        ]
    if step.shared_memory:
        config["emptyDirMounts"] = [{**_SHARED_MEMORY, "sizeLimit": step.shared_memory}]
    return config


def _gigabytes(quantity: str) -> float:
    # The backend reads the number as a quantity in units of G.
    return quantity_bytes(quantity) / 1e9
