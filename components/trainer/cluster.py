"""What ``TF_CONFIG`` says of the workers of a training; known without TensorFlow, before a run starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from ctr.models.errors import ConfigError


class Task(NamedTuple):
    """What ``TF_CONFIG`` says of this process."""

    number: int
    """Its place among the workers; that of the chief is 0."""
    workers: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Task:
        """Of a process with these variables.

        Raises:
          ConfigError: if ``TF_CONFIG`` cannot be read.
        """
        text = environment.get("TF_CONFIG") or "{}"
        try:
            config = json.loads(text)
            task, cluster = config.get("task", {}), config.get("cluster", {})
            chiefs, others = (len(cluster.get(kind, ())) for kind in ("chief", "worker"))
            number = int(task.get("index", 0)) + (chiefs if task.get("type") == "worker" else 0)
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"TF_CONFIG: {text!r} is no JSON object with a cluster and a task; set it as in "
                "kubernetes/components/training-workers/jobset.yaml, or unset it"
            ) from error
        return cls(number, max(1, chiefs + others))


def several_workers(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``TF_CONFIG`` names more than this process."""
    return Task.of(environment).workers > 1


def is_chief(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process saves, calibrates, exports and reports: one alone, or the first of several."""
    return Task.of(environment).number == 0


class OneWorker(NamedTuple):
    """What several workers cannot do."""

    what: str
    """The setting or command, and why."""
    instead: str
    """What to do."""

    def require(self) -> None:
        """Refuses it, before anything is run or waited for.

        Raises:
          ConfigError: if ``TF_CONFIG`` names several workers.
        """
        if several_workers():
            raise ConfigError(f"{self.what}, and TF_CONFIG names several workers; {self.instead}")


SEARCHED: Final = OneWorker(
    "tuner.space: a search trains in one process",
    "search without TF_CONFIG, and give the values that it finds to the training of several workers with --set",
)
SHARDED: Final = OneWorker(
    "training.shard_tables: tables are sharded over the devices of one machine",
    "shard on one of them, or set model.item_buckets",
)
CHALLENGERS: Final = OneWorker(
    "also_train: the other workers end with the first model's training",
    "set also_train=[], and train each model by a run of its own, with a CTR_JOB of its own",
)
SWEPT: Final = OneWorker(
    "sweep: each of its trials trains in one process",
    "unset TF_CONFIG; each worker's machine can sweep models of its own with an --output of its own",
)
