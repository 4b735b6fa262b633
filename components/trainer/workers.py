"""One training by several workers, each in a process of its own.

TensorFlow takes the cluster from ``TF_CONFIG`` before it does anything else, which a process that ran other steps is
too late for. So the Trainer step of the chief writes down what is to be trained, and every worker, one at the chief's
side included, is the command ``worker`` that reads it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf

from ctr.components.trainer.settings import TrainerSettings
from ctr.models.errors import CtrError

JOB_ENV: Final = "CTR_JOB"
"""Environment variable: the name of this try of the job, the same for all of its workers and for no other try."""
_SETTINGS: Final = "settings"
_POLL_SECONDS: Final = 1.0
_COMPLAINTS: Final = ("error: ", "configuration: ")

_logger = logging.getLogger(__name__)


class WorkerFailed(CtrError):
    """The worker at the chief's side has failed."""


def work_file(trainer_folder: str, environment: Mapping[str, str] = os.environ) -> str:
    """Where the workers of a job find what is to be trained; ``trainer_folder`` is the step's, below the pipeline
    root."""
    return os.path.join(trainer_folder, "work", f"{environment.get(JOB_ENV) or 'training'}.json")


def lead(file: str, settings: TrainerSettings, work: Mapping[str, Any]) -> None:
    """Writes down what is to be trained, and trains as the chief; ends when that does.

    Args:
      file: which all workers read.
      settings: of the training.
      work: the other arguments of :func:`ctr.components.trainer.run.run`.

    Raises:
      WorkerFailed: if the training did not come to its end.
    """
    tf.io.gfile.makedirs(os.path.dirname(file))
    with tf.io.gfile.GFile(f"{file}.tmp", "w") as opened:
        opened.write(json.dumps({_SETTINGS: settings.model_dump(mode="json"), **work}, indent=1))
    tf.io.gfile.rename(f"{file}.tmp", file, overwrite=True)
    last = ""
    try:
        command = [sys.executable, "-m", "ctr", "worker", "--work", file]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:  # noqa: S603
            for line in process.stderr or ():
                sys.stderr.write(line)
                # The command's own words, before what libraries say as it ends.
                last = line.strip() if line.startswith(_COMPLAINTS) else last or line.strip()
    finally:
        tf.io.gfile.remove(file)
    if process.returncode:
        raise WorkerFailed(f"the training of several workers ended with code {process.returncode}: {last}")


def follow(file: str) -> None:
    """Waits until there is a file of :func:`lead`, and trains as ``TF_CONFIG`` says: as the chief or as another."""
    _logger.info("Waiting for the Trainer step of the chief to write %s", file)
    while not tf.io.gfile.exists(file):
        time.sleep(_POLL_SECONDS)
    with tf.io.gfile.GFile(file) as opened:
        work = json.loads(opened.read())
    settings = TrainerSettings.model_validate(work.pop(_SETTINGS))
    # With it come Keras and Transform, which a worker that waits has no use for.
    from ctr.components.trainer.run import run

    run(settings, **work)
