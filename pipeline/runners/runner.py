"""What every runner is.

A runner takes a configuration and has its DAG compiled; of the nodes it knows what ``ctr.pipeline.dag`` says of them,
and no component. What it gives is its own: the result of a run, of one step, or the DAG as somebody else runs it.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from ctr.components.files import is_address
from ctr.models.errors import ConfigError
from ctr.pipeline.settings.pipeline_config import PipelineConfig

Result = TypeVar("Result", covariant=True)


class Runner(Protocol[Result]):
    """Runs the DAG of a configuration, or writes it down for another machine."""

    def check(self, config: PipelineConfig) -> None:
        """That it can take the configuration, as far as that can be said at once, without TFX.

        Raises:
          ConfigError: if it cannot.
        """

    def run(self, config: PipelineConfig) -> Result:
        """Compiles the DAG and runs it, or writes it down.

        Raises:
          ConfigError: if it cannot take the configuration, or there is no DAG for it.
          CtrError: if the run fails.
        """


class ForCluster(Runner[str], Protocol):
    """Writes the DAG down for a cluster; ``output`` and ``data`` are addresses, or paths on a volume of its steps."""

    def check(self, config: PipelineConfig) -> None:
        """That no setting is missing that a cluster needs, and each path means something to a step."""
        problems = []
        if not config.kubeflow.image:
            problems.append("kubeflow.image: name the image of the steps, with a tag or digest")
        for name in ("output", "data"):
            path = getattr(config, name)
            # A person may give the data when a run is started.
            if (path or name == "output") and not path.startswith("/") and not is_address(path):
                problems.append(f"{name}: {path!r} is relative; steps need an address or the absolute path of a volume")
        if problems:
            raise ConfigError("\n".join(problems))
