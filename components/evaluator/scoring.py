"""Scores the impressions of the eval split with exported models: a shard at a time, in batches of one size."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import apache_beam as beam
import numpy as np
import tensorflow as tf

from ctr.components.examples.impressions import BATCH_SIZE, Impressions, parse, records
from ctr.components.progress import Counter, say
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, MODEL
from ctr.components.scoring.scored_shards import ScoredShard
from ctr.models.arrays import Array, Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_ITEM_ID, LABEL, TIMESTAMP, USER_ID
from ctr.serving.signatures import AS_LOGGED_SIGNATURE, DEFAULT_SIGNATURE, PROBABILITY

COMPONENT: Final = "Evaluator"

_FEATURES: Final = (USER_ID, TIMESTAMP, CANDIDATE_ITEM_ID, LABEL)


_OF_TENSORFLOW: Final = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnimplementedError,
    tf.errors.DataLossError,
)


class ModelError(DataError):
    """A model cannot score these impressions; the message says which one and why."""


class ExportedModel:
    """What a server would answer, with the default signature.

    Args:
      folder: of the SavedModel.

    Raises:
      ModelError: if it is not there, cannot be loaded, or has not that signature or output.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with self._refusals():
            if not tf.io.gfile.exists(os.path.join(folder, "saved_model.pb")):
                raise ModelError(f"the model {folder} is not there")
            self._loaded = tf.saved_model.load(folder)
            signatures = self._loaded.signatures
            if DEFAULT_SIGNATURE not in signatures:
                raise ModelError(f"the model {folder} has no signature {DEFAULT_SIGNATURE}; it has {[*signatures]}")
            self._function = signatures[DEFAULT_SIGNATURE]
            if PROBABILITY not in self._function.structured_outputs:
                found = sorted(self._function.structured_outputs)
                raise ModelError(
                    f"the model {folder}: signature {DEFAULT_SIGNATURE} has no output {PROBABILITY}; it has {found}"
                )
            # By keyword: a call by position fails inside TensorFlow, which writes all examples into the message.
            [self._argument] = self._function.structured_input_signature[1]
            self._as_logged = signatures.get(AS_LOGGED_SIGNATURE)

    @property
    def puts_constants(self) -> bool:
        """Whether serving puts a constant in the place of something that is logged."""
        return self._as_logged is not None

    def probabilities(self, serialized: tf.Tensor, real: Array, as_logged: bool = False) -> Array:
        """[pairs] float32 of [B] serialized impressions, whose candidates are ``real`` [B, N].

        Args:
          serialized: the impressions.
          real: where they have candidates.
          as_logged: with what is logged in the place of constants.

        Raises:
          ModelError: if it fails on them, or gives something else than a probability for each candidate.
        """
        function = self._as_logged if as_logged and self._as_logged is not None else self._function
        with self._refusals():
            found: Array = function(**{self._argument: serialized})[PROBABILITY].numpy()
            if found.shape != real.shape:
                raise ModelError(
                    f"the model {self._folder}: {PROBABILITY} is {found.shape} for candidates {real.shape}"
                )
            values = found[real].astype(np.float32)
            if wrong := int((~((values >= 0) & (values <= 1))).sum()):
                raise ModelError(
                    f"the model {self._folder}: {wrong} of {values.size} scores are no probabilities "
                    f"(NaN, or outside of 0 to 1), as of a training that diverged"
                )
        return values

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What a model fails with by itself; that a file system is away for a moment is none of it."""
        try:
            yield
        except ModelError:
            raise
        except (*_OF_TENSORFLOW, OSError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(f"the model {self._folder} fails: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """In one line; of a graph, TensorFlow gives it behind where it happened, and before the names of the nodes."""
    head, of_graph, _ = str(error).strip().partition("\n\t [[")
    lines = head.splitlines() or [type(error).__name__]
    return lines[-1 if of_graph else 0]


class ScoreShard(beam.DoFn):
    """(raw shard, its columns, where they go with the models' scores) -> how many impressions.

    A shard that the blessed model cannot score says so; where the candidate cannot, the step fails.

    Args:
      models: scorer -> folder of an exported model.
      artifact: that the scored shards go to.
    """

    def __init__(self, models: Mapping[str, str], artifact: str) -> None:
        self._folders = dict(models)
        self._artifact = artifact

    def setup(self) -> None:
        """Loads the models.

        Raises:
          ModelError: if the candidate cannot be loaded.
        """
        say(COMPONENT, f"loading {len(self._folders)} model(s)")
        self._models: dict[str, ExportedModel] = {}
        self._refused: dict[str, str] = {}
        for name, folder in self._folders.items():
            with _kept(name, self._refused):
                self._models[name] = ExportedModel(folder)
        self._progress = Counter(COMPONENT, "impressions", "scored")

    def process(self, paths: tuple[str, str, str]) -> Iterator[int]:
        """Scores one shard.

        Raises:
          DataError: if the columns are not those of the shard.
          ModelError: if the candidate cannot score it.
        """
        raw, source, target = paths
        shard = ScoredShard.read(source)
        scores, refused, done = defaultdict[str, list[Array]](list), dict(self._refused), 0
        for serialized in records([raw]).batch(BATCH_SIZE).prefetch(1):
            batch = Impressions(parse(serialized, _FEATURES))
            _check(batch, shard, done, raw)
            for name in [name for name in self._models if name not in refused]:
                with _kept(name, refused):
                    scores[name].append(self._models[name].probabilities(serialized, batch.real))
            if self._models[MODEL].puts_constants:
                scores[AS_LOGGED].append(self._models[MODEL].probabilities(serialized, batch.real, as_logged=True))
            done += batch.candidates.size
            self._progress.add(batch.candidates.size)
        if done != shard.timestamps.size:
            raise _mismatch(raw, f"it has {done} impressions, the columns {shard.timestamps.size}")
        nothing = np.empty(0, np.float32)
        names = [name for name in self._models if name not in refused]
        names += [AS_LOGGED] if self._models[MODEL].puts_constants else []
        of_models = {name: np.concatenate([nothing, *scores[name]]) for name in names}
        shard.with_scores(of_models, refused).write(target, self._artifact)
        yield done


@contextmanager
def _kept(name: str, refused: dict[str, str]) -> Iterator[None]:
    """Keeps why the blessed model refuses."""
    try:
        yield
    except ModelError as error:
        if name != BLESSED:
            raise
        refused[name] = str(error)


def _check(batch: Impressions, shard: ScoredShard, start: int, raw: str) -> None:
    """That the rows of the shard from ``start`` on are these impressions."""
    rows = slice(start, start + batch.candidates.size)
    ends: Int64Array = np.cumsum(shard.scored.candidates)
    first, last = ends[start - 1] if start else 0, ends[rows][-1] if ends[rows].size else 0
    compared = {
        "users": (batch.of_impressions(USER_ID), shard.scored.users[rows]),
        "timestamps": (batch.of_impressions(TIMESTAMP), shard.timestamps[rows]),
        "numbers of candidates": (batch.candidates, shard.scored.candidates[rows]),
        "labels": (batch.of_pairs(LABEL), shard.scored.labels[first:last]),
    }
    for what, (here, there) in compared.items():
        if not np.array_equal(here, there):
            raise _mismatch(raw, f"the {what} of its impressions {start} to {rows.stop} are others")


def _mismatch(raw: str, why: str) -> DataError:
    return DataError(
        f"{raw}: the columns that Baselines wrote are not of this shard: {why}. Both come from one ingest; delete the "
        "output of Baselines and run again"
    )
