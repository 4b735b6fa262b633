"""Training that was stopped goes on after its last whole epoch, or from within one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from ctr.components.trainer.fit import Epoch, Position, TrainingLoop
from ctr.models.errors import CtrError
from ctr.models.sharded_adam import ShardedAdam

_STATE = "state"
_BEST = "best"
_PROGRESS = "progress.json"


_logger = logging.getLogger(__name__)


class CheckpointUnreadable(CtrError):
    """What a training that was stopped left behind is damaged; the message names the folder."""


class EpochCheckpoint:
    """Weights, moments, the sampler's arrays and the loss scale where a training stands, and the best weights so far.

    Args:
      folder: where they lie; need not exist. Several workers share it.
      trainer: whose state is saved and restored.
      writes: false for the workers that only restore: those besides the chief, whose weights are the same.
    """

    def __init__(self, folder: str, trainer: TrainingLoop, writes: bool = True) -> None:
        self._folder = folder
        self._writes = writes
        # Their variables one by one: as an object a Keras model leaves those of nested layers out.
        model = [variable.value for variable in trainer.model.variables]
        optimizer = [variable.value for variable in trainer.optimizer.variables]
        parts = {"model": model, "optimizer": optimizer, "sampler": trainer.sampler}
        if trainer.loss_scale is not None:
            parts["loss_scale"] = trainer.loss_scale
        tables = {"tables": trainer.shards} if trainer.shards else {}
        if isinstance(trainer.optimizer, ShardedAdam):
            parts["moments_of_tables"] = trainer.optimizer.moments
        self._state = tf.train.Checkpoint(**parts, **tables)
        self._best = tf.train.Checkpoint(model=model, **tables)

    def restore(self) -> tuple[list[Epoch], Position]:
        """The epochs done, and where the next one stands; with none there, nothing is changed.

        Raises:
          CheckpointUnreadable: if it cannot be gone on from.
        """
        path = os.path.join(self._folder, _PROGRESS)
        if not tf.io.gfile.exists(path):
            return [], Position()
        with self._readable():
            with tf.io.gfile.GFile(path) as file:
                progress = json.loads(file.read())
            epochs = [Epoch(**values) for values in progress["epochs"]]
            position = Position(**progress["within_next"])
            self._state.read(os.path.join(self._folder, _state(epochs, position))).assert_existing_objects_matched()
        _logger.info("Going on %d steps after epoch %d, from %s", position.steps, len(epochs), self._folder)
        return epochs, position

    def restore_best(self) -> None:
        """Sets the model's weights to those of the best epoch, where this worker writes.

        Raises:
          CheckpointUnreadable: if they cannot be read.
        """
        if not self._writes:
            # The one that does has use for them, and may be done with them and gone.
            return
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
        if is_best and self._writes:
            tf.io.gfile.makedirs(self._folder)
            self._best.write(os.path.join(self._folder, _BEST))
        self.save_within(epochs, Position())

    def save_within(self, epochs: Sequence[Epoch], position: Position) -> None:
        """So many steps into the epoch after ``epochs``."""
        if not self._writes:
            return
        tf.io.gfile.makedirs(self._folder)
        state = _state(epochs, position)
        self._state.write(os.path.join(self._folder, state))
        # What is named here is whole: a stop before this line leaves the state before it in charge.
        temporary = os.path.join(self._folder, f"{_PROGRESS}.tmp")
        progress = {"epochs": [dataclasses.asdict(epoch) for epoch in epochs], "within_next": vars(position)}
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps(progress, indent=1))
        tf.io.gfile.rename(temporary, os.path.join(self._folder, _PROGRESS), overwrite=True)
        for name in tf.io.gfile.listdir(self._folder):
            if name.startswith(f"{_STATE}-") and not name.startswith(f"{state}."):
                path = os.path.join(self._folder, name)
                # TensorFlow leaves a folder where it was ended while it wrote.
                (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)


def _state(epochs: Sequence[Epoch], position: Position) -> str:
    return f"{_STATE}-{len(epochs)}-{position.steps}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
