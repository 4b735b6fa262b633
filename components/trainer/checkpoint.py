"""Training that was stopped goes on after its last whole epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from ctr.components.trainer.fit import Epoch, TrainingLoop
from ctr.models.errors import CtrError

_STATE = "state"
_BEST = "best"
_EPOCHS = "epochs.json"


_logger = logging.getLogger(__name__)


class CheckpointUnreadable(CtrError):
    """What a training that was stopped left behind is damaged; the message names the folder."""


class EpochCheckpoint:
    """Weights, moments, the sampler's arrays and the loss scale after the last epoch, and the best weights so far.

    Args:
      folder: where they lie; need not exist.
      trainer: whose state is saved and restored.
    """

    def __init__(self, folder: str, trainer: TrainingLoop) -> None:
        self._folder = folder
        # Their variables one by one: as an object a Keras model leaves those of nested layers out.
        model = [variable.value for variable in trainer.model.variables]
        optimizer = [variable.value for variable in trainer.optimizer.variables]
        parts = {"model": model, "optimizer": optimizer, "sampler": trainer.sampler}
        if trainer.loss_scale is not None:
            parts["loss_scale"] = trainer.loss_scale
        self._state = tf.train.Checkpoint(**parts)
        self._best = tf.train.Checkpoint(model=model)

    def restore(self) -> list[Epoch]:
        """The epochs done; with none there, nothing is changed.

        Raises:
          CheckpointUnreadable: if it cannot be gone on from.
        """
        path = os.path.join(self._folder, _EPOCHS)
        if not tf.io.gfile.exists(path):
            return []
        with self._readable():
            with tf.io.gfile.GFile(path) as file:
                epochs = [Epoch(**values) for values in json.loads(file.read())]
            self._state.read(os.path.join(self._folder, f"{_STATE}-{len(epochs)}")).assert_existing_objects_matched()
        _logger.info("Going on after epoch %d, from %s", len(epochs), self._folder)
        return epochs

    def restore_best(self) -> None:
        """Sets the model's weights to those of the best epoch.

        Raises:
          CheckpointUnreadable: if they cannot be read.
        """
        with self._readable():
            self._best.read(os.path.join(self._folder, _BEST)).assert_existing_objects_matched()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        # TensorFlow raises errors of many kinds for a file that is cut short.
        except Exception as error:
            raise CheckpointUnreadable(
                f"{self._folder}: a training that was stopped cannot go on from here ({_first_line(error)}); "
                "delete this folder to train from the start"
            ) from error

    def save(self, epochs: Sequence[Epoch], is_best: bool) -> None:
        """After an epoch, the last of ``epochs``."""
        tf.io.gfile.makedirs(self._folder)
        if is_best:
            self._best.write(os.path.join(self._folder, _BEST))
        self._state.write(os.path.join(self._folder, f"{_STATE}-{len(epochs)}"))
        # What is named here is whole: a stop before this line leaves the epoch before it in charge.
        temporary = os.path.join(self._folder, f"{_EPOCHS}.tmp")
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps([dataclasses.asdict(epoch) for epoch in epochs], indent=1))
        tf.io.gfile.rename(temporary, os.path.join(self._folder, _EPOCHS), overwrite=True)
        for name in tf.io.gfile.listdir(self._folder):
            if name.startswith(f"{_STATE}-{len(epochs) - 1}."):
                tf.io.gfile.remove(os.path.join(self._folder, name))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
