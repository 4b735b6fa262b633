"""What a step of the compiled pipeline gets from the cluster: the ``kubeflow`` section of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator

from ctr.models.section import Section
from ctr.pipeline.settings.metadata import EnvironmentName

_UNITS: Final = {"M": 1e6, "G": 1e9, "T": 1e12, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")")
_OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


def quantity_bytes(quantity: str) -> float:
    """Bytes of a Kubernetes quantity such as ``8Gi``.

    Raises:
      ValueError: if it is none, or has a unit that is no use for memory.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no amount of memory; write e.g. 512Mi or 8Gi")
    return float(match[1]) * _UNITS[match[2]]


def _is_quantity(quantity: str) -> str:
    quantity_bytes(quantity)
    return quantity


Quantity = Annotated[str, AfterValidator(_is_quantity)]
StepKind: TypeAlias = Literal["beam", "trainer", "light"]
ObjectName = Annotated[str, Field(pattern=_OBJECT_NAME)]
MountPath = Annotated[str, Field(pattern=r"^/\S*$")]


class Toleration(Section):
    """A taint that a step's pod tolerates."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class StepConfig(Section):
    """What one step's pod gets."""

    cpu: Annotated[float, Field(gt=0)] = 1
    """Cores, as a limit."""
    cpu_request: Annotated[float, Field(gt=0)] | None = None
    """Cores that are reserved; null reserves the limit."""
    memory: Quantity = "4Gi"
    memory_request: Quantity | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    gpu_type: str = "nvidia.com/gpu"
    """The resource name of the device plugin."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    shared_memory: Quantity | None = None
    """Size of an in-memory ``/dev/shm``, which counts as memory of the step; null leaves the runtime's 64 MiB."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """A retried step takes up its own execution in ML Metadata; see docs/kubeflow.md."""
    retry_after_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """Before the first retry; doubled for each further one."""


class BeamStepConfig(StepConfig):
    """Likewise; what is not set is not that of a light step."""

    cpu: Annotated[float, Field(gt=0)] = 4
    memory: Quantity = "16Gi"


class TrainerStepConfig(StepConfig):
    """Likewise."""

    cpu: Annotated[float, Field(gt=0)] = 8
    memory: Quantity = "32Gi"


class VolumeMount(Section):
    """A PersistentVolumeClaim in every step."""

    claim: ObjectName
    path: MountPath


class SecretEnv(Section):
    """A key of a secret as an environment variable of every step."""

    secret: ObjectName
    key: str
    env: EnvironmentName


class SecretFiles(Section):
    """A secret's keys as files in every step."""

    secret: ObjectName
    path: MountPath


class KubeflowConfig(Section):
    """The compiled pipeline; nothing here changes what a step computes."""

    image: str = ""
    """Of every step, with a tag or digest that is never moved."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[ObjectName, ...] = ()
    service_account: str = ""
    """Of the run's pods; empty takes the one of the installation."""
    beam: BeamStepConfig = BeamStepConfig()
    """Steps that run a Beam pipeline."""
    trainer: TrainerStepConfig = TrainerStepConfig()
    light: StepConfig = StepConfig()
    """All other steps."""
    nodes: dict[str, StepConfig] = Field(default_factory=dict)
    """By node id: instead of the kind's."""
    volumes: tuple[VolumeMount, ...] = ()
    secret_env: tuple[SecretEnv, ...] = ()
    secret_files: tuple[SecretFiles, ...] = ()
    env: dict[EnvironmentName, str] = Field(default_factory=dict)
    """Further environment of every step; for what is no secret."""

    def step(self, node: str, kind: StepKind) -> StepConfig:
        """What a node's step gets: what ``nodes`` says of its id, or what its kind gets."""
        of_kind: StepConfig = getattr(self, kind)
        return self.nodes.get(node, of_kind)

    @field_validator("image")
    @classmethod
    def _fixed_version(cls, image: str) -> str:
        name, at, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if image and not (at and digest) and tag in ("", "latest"):
            raise ValueError("give a tag or digest that is never moved; latest would change under a scheduled run")
        return image
