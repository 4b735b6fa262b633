"""Launches the Trainer step by TFX's launcher on artifacts that there are, and ends it in its second epoch if asked to.

Run as a program by the tests, for the ending that takes the process with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset


def launch(config: PipelineConfig, inputs: dict[str, str], root: Path) -> None:
    """Runs the step, in a run of its own.

    Args:
      config: the sections that the step takes.
      inputs: addresses of the artifacts.
      root: pipeline root; ML Metadata lies there, too.
    """
    from tfx.dsl.components.common.importer import Importer
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types.standard_artifacts import Examples, TransformGraph

    from ctr.components.artifacts import ImpressionCatalogue
    from ctr.components.trainer.component import Trainer
    from ctr.components.trainer.settings import TrainerSettings
    from ctr.models.impression import SPLITS

    types = {
        "transformed_examples": Examples,
        "transform_graph": TransformGraph,
        "catalogue": ImpressionCatalogue,
        "examples": Examples,
    }
    splits = {"split_names": json.dumps(list(SPLITS))}
    importers = {
        name: Importer(inputs[name], artifact_type=kind, properties=splits if kind is Examples else None).with_id(name)
        for name, kind in types.items()
    }
    channels = {name: importer.outputs["result"] for name, importer in importers.items()}
    trainer = Trainer(
        examples=channels["transformed_examples"],
        transform_graph=channels["transform_graph"],
        catalogue=channels["catalogue"],
        raw_examples=channels["examples"],
        settings=TrainerSettings.of(config.model, config.sampler, config.training, config.ingest),
    )
    connection = sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    nodes = [*importers.values(), trainer]
    LocalDagRunner().run(Pipeline("resume", str(root), connection, components=nodes, enable_cache=True))


def kill() -> None:
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    """As Ctrl-C does."""
    # The tests may run in a shell's background, where it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def fail() -> None:
    """As a step does that goes wrong."""
    raise OSError("the disk is gone")


def ending(act: Callable[[], None], epoch: int = 2) -> Any:
    """While it holds, what is trained ends when an epoch has changed the weights and nothing has saved them.

    Args:
      act: ends it.
      epoch: which one, of those that are trained.
    """
    from ctr.components.trainer.fit import TrainingLoop

    evaluate, calls = TrainingLoop.evaluate, []

    def in_time(self: TrainingLoop, batches: Any) -> tuple[float, float]:
        calls.append(batches)
        if len(calls) == epoch:
            act()
        return evaluate(self, batches)

    return mock.patch.object(TrainingLoop, "evaluate", in_time)


if __name__ == "__main__":
    with ending(kill):
        launch(load_preset("demo").with_overrides(json.loads(sys.argv[1])), json.loads(sys.argv[2]), Path(sys.argv[3]))
