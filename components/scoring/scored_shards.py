"""Scored impressions as files: a Parquet file for each shard of the eval split, a row an impression, in its order."""

from __future__ import annotations

import dataclasses
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from ctr.components.examples.shards import list_shards, unfinished_folder
from ctr.components.scoring.scored import Scored
from ctr.models.arrays import Array
from ctr.models.errors import DataError
from ctr.models.impression import EVALUATION_SETS, LABEL, NEGATIVE_SET, TIMESTAMP, USER_ID

T = TypeVar("T")

_FOLDER: Final = "scored"
_SUFFIX: Final = ".parquet"
_ATTRIBUTE: Final = "attribute."
_SCORE: Final = "score."
_NOT_SCORED: Final = "not_scored."
"""Of columns, and of keys of the file's own metadata."""


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredShard:
    """One shard of the eval split with scores."""

    scored: Scored
    timestamps: Array
    """[n] int64, with which a shard is held against the impressions that it is said to be of."""
    not_scored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Scorer that was asked and gave no scores -> why."""

    def write(self, path: str, artifact: str) -> None:
        """Writes it whole or not at all, so that a retry does no harm.

        Args:
          path: of :func:`scored_path`.
          artifact: the folder of that artifact, on any file system that TensorFlow knows.
        """
        scored = self.scored
        offsets = pa.array(np.concatenate([[0], np.cumsum(scored.candidates)]).astype(np.int32))
        columns = {
            USER_ID: pa.array(scored.users),
            TIMESTAMP: pa.array(self.timestamps),
            NEGATIVE_SET: _strings(np.array(EVALUATION_SETS)[scored.negative_set]),
            **{_ATTRIBUTE + name: _strings(values) for name, values in scored.attributes.items()},
            LABEL: pa.ListArray.from_arrays(offsets, pa.array(scored.labels.astype(np.int8))),
            **{
                _SCORE + name: pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.float32)))
                for name, values in scored.scores.items()
            },
        }
        table = pa.table(columns).replace_schema_metadata(
            {_NOT_SCORED + name: reason for name, reason in self.not_scored.items()}
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        temporary = os.path.join(unfinished_folder(artifact), uuid.uuid4().hex)
        for name in (temporary, path):
            tf.io.gfile.makedirs(os.path.dirname(name))
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(buffer.getvalue())
        tf.io.gfile.rename(temporary, path, overwrite=True)

    def with_scores(self, scores: Mapping[str, Array], not_scored: Mapping[str, str]) -> ScoredShard:
        """With further scorers, [m] each, and those that gave none."""
        scored = dataclasses.replace(self.scored, scores={**self.scored.scores, **scores})
        return dataclasses.replace(self, scored=scored, not_scored=not_scored)

    @classmethod
    def read(cls, path: str) -> ScoredShard:
        """Inverse of :meth:`write`.

        Raises:
          DataError: if the file is no shard of this kind.
        """
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                table = pq.read_table(io.BytesIO(file.read()))
            columns = {name: table.column(name).combine_chunks() for name in table.column_names}
            labels = columns[LABEL]
            sets = columns[NEGATIVE_SET].dictionary_encode()
            known = [EVALUATION_SETS.index(name) for name in sets.dictionary.to_pylist()]
            metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            return cls(
                Scored(
                    users=columns[USER_ID].to_numpy(),
                    negative_set=np.array(known, np.int8)[sets.indices.to_numpy()],
                    attributes={name: _texts(column) for name, column in _named(columns, _ATTRIBUTE).items()},
                    candidates=labels.value_lengths().to_numpy().astype(np.int64),
                    labels=labels.flatten().to_numpy(),
                    scores={name: column.flatten().to_numpy() for name, column in _named(columns, _SCORE).items()},
                ),
                columns[TIMESTAMP].to_numpy(),
                _named(metadata, _NOT_SCORED),
            )
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise DataError(
                f"{path}: expected a shard of scored impressions, in Parquet: {error}; delete the artifact that it "
                "lies in, and run again"
            ) from error


def scored_path(artifact: str, shard: str) -> str:
    """Where the scores of a shard of the eval split lie, by the path or the name of that shard."""
    return os.path.join(artifact, _FOLDER, os.path.basename(shard).partition(".")[0] + _SUFFIX)


def list_scored(artifact: str) -> list[str]:
    """The files of an artifact that hold scores, sorted."""
    return list_shards(os.path.join(artifact, _FOLDER))


def joined(shards: Sequence[Scored]) -> Scored:
    """The impressions of all shards, at least one; the scorers that all of them have."""
    first = shards[0]
    columns = {name: np.concatenate([getattr(each, name) for each in shards]) for name in _ARRAYS}
    scorers = [name for name in first.scores if all(name in each.scores for each in shards)]
    return Scored(
        **columns,
        attributes={name: np.concatenate([each.attributes[name] for each in shards]) for name in first.attributes},
        scores={name: np.concatenate([each.scores[name] for each in shards]) for name in scorers},
    )


_ARRAYS: Final = ("users", "negative_set", "candidates", "labels")


def _named(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _strings(values: Array) -> pa.Array:
    names, codes = np.unique(values, return_inverse=True)
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), names.tolist()).cast(pa.string())


def _texts(column: pa.Array) -> Array:
    encoded = column.dictionary_encode()
    texts: Array = np.array(encoded.dictionary.to_pylist(), np.str_)[encoded.indices.to_numpy()]
    return texts
