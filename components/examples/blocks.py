"""Transformed impressions as files: the one place that knows how they are stored.

A file is a TFRecord, a record a block of up to :data:`ROWS` impressions:

* what every block of a file begins with: :data:`MAGIC`, the length of a JSON text, and that text, which names the
  columns in their order with group and type. A reader needs no table of features;
* the number of impressions, and of stored values of the histories and of the candidates: three ``uint32``;
* a zlib stream of, for histories and for candidates, two ``uint16`` an impression, how many values it has and how many
  of them are new; then the columns, fixed-width integers, little-endian.

What an impression's history has in common with the one before it is stored once: its values are the last ones of the
column where its own new ones end. For that, an age is stored as the time of the event.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from ctr.models.arrays import Array, Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import (
    EVALUATION_SETS,
    FEATURES,
    HISTORY_AGE,
    INDEX_OF,
    MIXED,
    NEGATIVE_SET,
    STORED_FEATURES,
    TIMESTAMP,
    USER_ID,
)

ROWS: Final = 512
"""Impressions of a block: some megabytes as dense tensors, and few enough that those of one user are soon mixed with
others'."""
MAGIC: Final = b"ctr impressions 1\n"
PAYLOAD_FORMAT: Final = "CTR_IMPRESSION_BLOCKS_1"
FILE_FORMAT: Final = "tfrecords"
"""What an artifact of such files says of itself."""

_CONTEXT, _HISTORY, _CANDIDATE = "context", "history", "candidate"
_GROUPS: Final = (_HISTORY, _CANDIDATE)
_STORED_WITH: Final = {"label": _CANDIDATE, "context_input": _CONTEXT}
"""Group of the table of features -> the one whose values it lies beside."""
_KINDS: Final = (MIXED, *EVALUATION_SETS)
_COUNTS: Final = struct.Struct("<3I")
"""Impressions of a block, and values of histories and candidates that are stored."""
_LEVEL: Final = 1
_RUN_AGAIN: Final = "delete the output of ImpressionTransform that it lies in, and run again"

Features: TypeAlias = "Mapping[str, tuple[Int64Array, Array]]"
"""Feature -> [B] how many values each impression has, and the values, one impression after the other."""


class Column(NamedTuple):
    """What a block holds of a feature."""

    name: str
    group: str
    """``context``, a value an impression, ``history`` or ``candidate``."""
    dtype: str
    """As numpy names it."""


def _column(name: str) -> Column:
    """Of a feature or an index: the narrowest type that its range needs."""
    raw = {index: id_ for id_, index in INDEX_OF.items()}
    feature = FEATURES[raw.get(name, name)]
    group = _STORED_WITH.get(feature.group, feature.group)
    if name == NEGATIVE_SET:
        return Column(name, group, "uint8")
    largest = feature.largest
    if name in raw:
        # It is a row of an embedding.
        largest = feature.encoding.largest if feature.encoding else np.iinfo(np.int32).max
    dtype = next(each for each in ("uint8", "uint16", "int32", "int64") if largest <= np.iinfo(each).max)
    return Column(name, group, dtype)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of a file's blocks."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Layout:
        """Of these features and indices."""
        return cls(tuple(_column(name) for name in names))

    @property
    def prefix(self) -> bytes:
        """What every block begins with."""
        text = json.dumps(self.columns, separators=(",", ":")).encode()
        return MAGIC + struct.pack("<I", len(text)) + text

    @classmethod
    def parse(cls, block: bytes) -> Layout:
        """Inverse of :attr:`prefix`.

        Raises:
          ValueError: if it does not begin so.
        """
        if not block.startswith(MAGIC):
            raise ValueError(f"it begins with {block[: len(MAGIC)]!r}, expected {MAGIC!r}")
        (length,) = struct.unpack_from("<I", block, len(MAGIC))
        start = len(MAGIC) + 4
        return cls(tuple(Column(*column) for column in json.loads(block[start : start + length])))

    def of_group(self, group: str) -> tuple[Column, ...]:
        """The columns of a group."""
        return tuple(column for column in self.columns if column.group == group)


# --- writing -------------------------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """Lists of B impressions, of which what neighbours have in common is held once."""

    lengths: Int64Array
    """[B]"""
    new: Int64Array
    """[B] values that the one before it does not have."""
    kept: Int64Array
    """Where among all values the new ones stand."""


def share(lengths: Int64Array, columns: Sequence[Array], times: Array | None, rows: int = ROWS) -> Shared:
    """Finds what each list begins with of the end of the one before it, anew every so many rows.

    Args:
      lengths: [B] of the lists.
      columns: their values; what is shared is equal in all of them.
      times: of the values, by which it is guessed what is shared; None shares nothing.
      rows: impressions of a block.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    if times is None or not len(times):
        return Shared(lengths, lengths, np.arange(lengths.sum()))
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(times)) - starts[row]
    before = np.arange(len(lengths)) - 1
    follows = (np.arange(len(lengths)) % rows > 0) & (lengths[before] > 0)
    latest = np.where(follows, times[np.maximum(ends[before] - 1, 0)], np.iinfo(np.int64).min)
    overlap = np.bincount(row[times <= latest[row]], minlength=len(lengths))
    overlap[overlap > lengths[before]] = 0
    old = np.flatnonzero(place < overlap[row])
    source = starts[row[old]] - overlap[row[old]] + place[old]
    for values in columns:
        overlap[row[old[values[old] != values[source]]]] = 0
    return Shared(lengths, lengths - overlap, np.flatnonzero(place >= overlap[row]))


def lists(parsed: Mapping[str, tf.RaggedTensor]) -> dict[str, tuple[Int64Array, Array]]:
    """What :func:`encode` takes, of what ``impressions.parse`` gives."""
    return {
        name: (each.row_lengths().numpy(), each.values.numpy())
        if isinstance(each, tf.RaggedTensor)
        else (np.ones(each.shape[0], np.int64), each.numpy().reshape(-1))
        for name, each in parsed.items()
    }


Fill: TypeAlias = "Callable[[dict[str, Array]], dict[str, Array]]"


def encode(features: Features, more: Fill = lambda stored: {}, rows: int = ROWS) -> list[bytes]:
    """Blocks of B impressions, in their order. Of what has an encoding its codes are stored, and not the values.

    Args:
      features: of the impressions; ``negative_set`` as bytes.
      more: further features that follow from each value by itself, given the values of each without what is shared.
      rows: impressions of a block.

    Raises:
      DataError: if lists of a history, or of the candidates, differ in length, or a value is out of its range.
    """
    layout = Layout.of(list(features))
    count = len(next(iter(features.values()))[0])
    values = {name: np.asarray(each[1]) for name, each in features.items()}
    for column in layout.of_group(_CONTEXT):
        _equal(column.name, features[column.name][0], np.ones(count, np.int64), "an impression")
    if NEGATIVE_SET in values:
        values[NEGATIVE_SET] = _codes(values[NEGATIVE_SET])
    groups: dict[str, Shared] = {}
    for group in _GROUPS:
        names = [column.name for column in layout.of_group(group)]
        lengths = features[names[0]][0] if names else np.zeros(count, np.int64)
        for name in names[1:]:
            _equal(name, features[name][0], lengths, names[0])
        times = None
        if group == _HISTORY and HISTORY_AGE in values and TIMESTAMP in values:
            times = values[HISTORY_AGE] = np.repeat(values[TIMESTAMP], lengths) - values[HISTORY_AGE]
        groups[group] = share(lengths, [values[name] for name in names], times, rows)
        values |= {name: values[name][groups[group].kept] for name in names}
    values |= more(values)
    stored = [name for name in values if name not in FEATURES or not FEATURES[name].encoding]
    return list(_blocks(Layout.of(stored), values, groups, count, rows))


def _equal(name: str, found: Int64Array, expected: Int64Array, of: str) -> None:
    if (wrong := np.flatnonzero(found != expected)).size:
        row = wrong[0]
        raise DataError(
            f"{name}: {found[row]} values in impression {row} of a batch, expected {expected[row]}, as many as {of} "
            "has; was the split written by this pipeline?"
        )


def _codes(kinds: Array) -> Array:
    known, which = np.unique(kinds.astype(bytes), return_inverse=True)
    names = [name.decode() for name in known]
    if strange := sorted({*names} - {*_KINDS}):
        raise DataError(f"{NEGATIVE_SET}: {strange[0]!r} is none of {', '.join(_KINDS)}")
    return np.array([_KINDS.index(name) for name in names], np.uint8)[which]


def _blocks(
    layout: Layout, values: Mapping[str, Array], groups: Mapping[str, Shared], count: int, rows: int
) -> Iterator[bytes]:
    narrow = {column.name: _narrow(column, values[column.name]) for column in layout.columns}
    numbers = [
        _narrow(Column(f"values of a {group}", _CONTEXT, "uint16"), part)
        for group in _GROUPS
        for part in (groups[group].lengths, groups[group].new)
    ]
    ends = {group: np.concatenate([[0], np.cumsum(shared.new)]) for group, shared in groups.items()}
    for first in range(0, count, rows):
        block = slice(first, min(first + rows, count))
        of = {_CONTEXT: block} | {g: slice(end[block.start], end[block.stop]) for g, end in ends.items()}
        body = [part[block].tobytes() for part in numbers]
        body += [narrow[column.name][of[column.group]].tobytes() for column in layout.columns]
        counts = _COUNTS.pack(*(each.stop - each.start for each in of.values()))
        yield layout.prefix + counts + zlib.compress(b"".join(body), _LEVEL)


def _narrow(column: Column, values: Array) -> Array:
    limits = np.iinfo(column.dtype)
    if values.size and not limits.min <= values.min() <= values.max() <= limits.max:
        wrong = values[(values < limits.min) | (values > limits.max)][0]
        raise DataError(f"{column.name}: {wrong} cannot be, its values are {limits.min} to {limits.max}")
    return values.astype(np.dtype(column.dtype).newbyteorder("<"))


@contextmanager
def new_file(path: str, temporary_folder: str) -> Iterator[tf.io.TFRecordWriter]:
    """Opens a file of blocks under another name and renames it when all went well: so a retried write does no harm."""
    temporary = os.path.join(temporary_folder, f"shard-{uuid.uuid4().hex}")
    for folder in (temporary_folder, os.path.dirname(path)):
        tf.io.gfile.makedirs(folder)
    with tf.io.TFRecordWriter(temporary) as writer:
        yield writer
    tf.io.gfile.rename(temporary, path, overwrite=True)


# --- reading -------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """Impressions of some blocks, their values where they were stored."""

    values: dict[str, tf.Tensor]
    """Group -> [values, columns] int64; of the context [rows, columns]."""
    lengths: dict[str, tf.Tensor]
    """History and candidates -> [rows] int32."""
    starts: dict[str, tf.Tensor]
    """Likewise, where a row's values begin; not falling."""


def row_count(of: Table) -> tf.Tensor:
    """How many impressions, int32."""
    return tf.shape(of.values[_CONTEXT])[0]


def joined(first: Table, second: Table, padding: bool = False) -> Table:
    """The rows of two tables; behind one of padding, as :meth:`Reader.dense` needs it, if asked for."""

    def behind(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        return tf.concat([*([tf.zeros([1, *one.shape[1:]], one.dtype)] * padding), one, other], axis=0)

    return Table(
        tf.nest.map_structure(behind, first.values, second.values),
        tf.nest.map_structure(behind, first.lengths, second.lengths),
        {
            group: behind(
                first.starts[group] + int(padding),
                second.starts[group] + int(padding) + tf.shape(first.values[group])[0],
            )
            for group in _GROUPS
        },
    )


def last_rows(of: Table, count: tf.Tensor) -> Table:
    """The last rows of a table, with what is stored for them."""
    first = row_count(of) - count
    at = {_CONTEXT: first}
    for group in _GROUPS:
        at[group] = tf.concat([of.starts[group], tf.shape(of.values[group])[:1]], axis=0)[first]
    return Table(
        {group: values[at[group] :] for group, values in of.values.items()},
        {group: lengths[first:] for group, lengths in of.lengths.items()},
        {group: starts[first:] - at[group] for group, starts in of.starts.items()},
    )


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads some columns of blocks, in a graph.

    Attributes:
      layout: of the blocks.
      names: columns that are wanted, all of which the layout has.
    """

    layout: Layout
    names: Sequence[str]

    def of_group(self, group: str) -> tuple[str, ...]:
        """What is read of a group."""
        needed = {*self.names, TIMESTAMP} if HISTORY_AGE in self.names else {*self.names}
        return tuple(column.name for column in self.layout.of_group(group) if column.name in needed)

    def opened(self, block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A block's numbers of impressions and values, [3] int32, and its bytes behind them, decompressed."""
        prefix = self.layout.prefix
        # The bytes themselves are no text that could stand in a message.
        same = tf.strings.substr(block, 0, len(prefix)) == tf.constant(prefix)
        as_first = tf.debugging.assert_equal(same, True, message="a block of another layout")
        with tf.control_dependencies([as_first]):
            counts = tf.io.decode_raw(tf.strings.substr(block, len(prefix), _COUNTS.size), tf.int32)
        rest = tf.strings.substr(block, len(prefix) + _COUNTS.size, tf.strings.length(block))
        return tf.ensure_shape(counts, [3]), tf.io.decode_compressed(rest, "ZLIB")

    def table(self, counts: tf.Tensor, bodies: tf.Tensor) -> Table:
        """Puts blocks together, [blocks, 3] int32 and [blocks] strings of :meth:`opened`."""
        at = tf.zeros_like(counts[:, 0])
        of_group = dict(zip((_CONTEXT, *_GROUPS), tf.unstack(counts, axis=1), strict=True))
        parts = [Column(f"{what} {group}", _CONTEXT, "uint16") for group in _GROUPS for what in ("length", "new")]
        wanted = {name for group in of_group for name in self.of_group(group)} | {part.name for part in parts}
        stored = {}
        for name, group, dtype in (*parts, *self.layout.columns):
            size = of_group[group] * np.dtype(dtype).itemsize
            if name in wanted:
                stored[name] = tf.io.decode_raw(tf.strings.reduce_join(tf.strings.substr(bodies, at, size)), dtype)
            at += size
        whole = tf.debugging.assert_equal(at, tf.strings.length(bodies), message="a block of another size")
        with tf.control_dependencies([whole]):
            lengths = {group: tf.cast(stored[f"length {group}"], tf.int32) for group in _GROUPS}
        ends = {group: tf.cumsum(tf.cast(stored[f"new {group}"], tf.int32)) for group in _GROUPS}
        return Table(
            {
                group: _side_by_side([stored[name] for name in self.of_group(group)], tf.reduce_sum(size))
                for group, size in of_group.items()
            },
            lengths,
            {group: ends[group] - lengths[group] for group in _GROUPS},
        )

    def no_rows(self) -> Table:
        """What :meth:`table` makes of no block."""
        return self.table(tf.zeros([0, 3], tf.int32), tf.zeros([0], tf.string))

    def dense(self, of: Table, rows: tf.Tensor, history_length: int, candidates: int | None) -> dict[str, tf.Tensor]:
        """Rows of a table whose first row, and first value of each group, is padding: 0, and of length 0.

        Args:
          of: the table.
          rows: [B] int32.
          history_length: L; of a longer history the latest L events are given.
          candidates: N, the most that an impression may have; None takes the most of these rows.

        Returns:
          [B, L], [B, N] or [B, 1] int64 of each column, right-padded with 0.
        """
        columns = self._columns(_CONTEXT, tf.gather(of.values[_CONTEXT], rows)[:, None, :])
        for group in _GROUPS:
            lengths, starts = (tf.gather(each[group], rows) for each in (of.lengths, of.starts))
            if group == _HISTORY:
                over = tf.maximum(lengths - history_length, 0)
                lengths, starts, width = lengths - over, starts + over, history_length
            elif candidates is None:
                width = tf.reduce_max(lengths)
            else:
                width = candidates
                why = f"an impression has more than {width} candidates; was it stored with other training negatives?"
                within = tf.debugging.assert_less_equal(lengths, width, message=why)
                with tf.control_dependencies([within]):
                    lengths = tf.identity(lengths)
            places = tf.range(width)
            # Padding is looked up where it is stored, which spares each column a mask.
            picked = tf.where(places < lengths[:, None], starts[:, None] + places, 0)
            columns |= self._columns(group, tf.gather(of.values[group], picked))
            if group == _HISTORY and self._ages_are_times:
                columns[HISTORY_AGE] = tf.where(picked > 0, columns[TIMESTAMP] - columns[HISTORY_AGE], 0)
        return columns

    def ragged(self, of: Table) -> dict[str, tf.RaggedTensor]:
        """All rows of a table, as ``impressions.parse`` gives those of serialized ones."""
        features = self._columns(_CONTEXT, of.values[_CONTEXT][:, None, :])
        for group in _GROUPS:
            starts = of.starts[group]
            picked = tf.ragged.range(starts, starts + of.lengths[group], row_splits_dtype=tf.int64)
            values = self._columns(group, tf.gather(of.values[group], picked.values)[:, None, :])
            if group == _HISTORY and self._ages_are_times:
                now = tf.gather(features[TIMESTAMP], picked.value_rowids())
                values[HISTORY_AGE] = now - values[HISTORY_AGE]
            features |= {name: picked.with_values(each[:, 0]) for name, each in values.items()}
        if NEGATIVE_SET in features:
            features[NEGATIVE_SET] = tf.gather(tf.constant(_KINDS), features[NEGATIVE_SET][:, 0])
        return {
            name: each if name in (USER_ID, NEGATIVE_SET) or isinstance(each, tf.RaggedTensor) else _one_each(each)
            for name, each in features.items()
            if name in self.names
        }

    @property
    def _ages_are_times(self) -> bool:
        return HISTORY_AGE in self.names and any(column.name == TIMESTAMP for column in self.layout.columns)

    def _columns(self, group: str, values: tf.Tensor) -> dict[str, tf.Tensor]:
        """[A, B, columns] -> name -> [A, B]."""
        names = self.of_group(group)
        # A transposition of matrices is three times as fast as taking a tensor of three dimensions apart.
        flat = tf.transpose(tf.reshape(values, [-1, len(names)]))
        shape = tf.concat([[len(names)], tf.shape(values)[:2]], axis=0)
        each = tf.unstack(tf.reshape(flat, shape), len(names))
        return {name: tf.ensure_shape(column, values.shape[:2]) for name, column in zip(names, each, strict=True)}


def _side_by_side(columns: Sequence[tf.Tensor], size: tf.Tensor) -> tf.Tensor:
    """[size, columns] int64: looked up at once, at a third of the time of each by itself."""
    if not columns:
        return tf.zeros([size, 0], tf.int64)
    return tf.transpose(tf.stack([tf.cast(column, tf.int64) for column in columns]))


def _one_each(values: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(values[:, 0], 1)


def layout_of(files: Sequence[str]) -> Layout:
    """What the first block there is says; of files without any, that of the table of features.

    Raises:
      DataError: if a file holds something else than blocks.
    """
    for file in sorted(files):
        try:
            for block in tf.data.TFRecordDataset(file).take(1).as_numpy_iterator():
                return Layout.parse(block)
        except (tf.errors.DataLossError, ValueError, struct.error) as error:
            raise DataError(_described(file, 0, error)) from error
    return Layout.of(STORED_FEATURES)


def reader_of(files: Sequence[str], names: Sequence[str]) -> Reader:
    """For these columns of the files.

    Raises:
      DataError: if a file holds something else than blocks, or not these features.
    """
    layout = layout_of(files)
    missing = sorted({*names} - {column.name for column in layout.columns})
    if missing:
        raise DataError(
            f"{sorted(files)[0]}: no {', '.join(missing)} in its impressions; they were written by another version of "
            f"the pipeline, or without a plugin or a declared feature: {_RUN_AGAIN}"
        )
    return Reader(layout, tuple(names))


def read(files: Sequence[str], names: Sequence[str], files_at_once: int | None = None) -> tf.data.Dataset:
    """Impressions a block at a time, in the order of the files' names, or from several files in turn.

    Returns:
      A data set of features of these names, as ``impressions.parse`` gives them.

    Raises:
      DataError: if a file holds something else than blocks, or not these features. What is damaged further on is found
        when it is read, see :func:`damage_named`.
    """
    reader = reader_of(files, names)

    def features(block: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        counts, body = reader.opened(block)
        return reader.ragged(reader.table(counts[None], body[None]))

    blocks = tf.data.TFRecordDataset(sorted(files), num_parallel_reads=files_at_once)
    return blocks.map(features, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(1)


def none(names: Sequence[str]) -> dict[str, tf.RaggedTensor]:
    """No impression, as :func:`read` gives some."""
    reader = Reader(Layout.of(names), names)
    return reader.ragged(reader.no_rows())


# --- damage --------------------------------------------------------------------------------------------------------


@contextmanager
def damage_named(files: Sequence[str]) -> Iterator[None]:
    """Where reading fails inside, says which file and block it is.

    Raises:
      DataError: if one of the files is damaged, or of another layout than the first one.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        found = damage(files)
        if found is None:
            raise
        raise DataError(found) from error


def damage(files: Sequence[str]) -> str | None:
    """Reads all blocks again, and says what is wrong with the first one that cannot be used; None if nothing is."""
    layout = layout_of(files)
    for file in sorted(files):
        number = 0
        try:
            for block in tf.data.TFRecordDataset(file).as_numpy_iterator():
                _check(block, layout)
                number += 1
        except (tf.errors.DataLossError, zlib.error, ValueError, struct.error) as error:
            return _described(file, number, error)
    return None


def _check(block: bytes, layout: Layout) -> None:
    if (found := Layout.parse(block)) != layout:
        other = sorted(str(column) for column in {*found.columns} ^ {*layout.columns}) or ["their order"]
        raise ValueError(f"its columns are not those of the first block: {other[0]}")
    start = len(layout.prefix)
    counts = dict(zip((_CONTEXT, *_GROUPS), _COUNTS.unpack_from(block, start), strict=True))
    expected = 8 * counts[_CONTEXT] + sum(counts[c.group] * np.dtype(c.dtype).itemsize for c in layout.columns)
    if (size := len(zlib.decompress(block[start + _COUNTS.size :]))) != expected:
        raise ValueError(f"it holds {size} bytes of values, expected {expected}")


def _described(file: str, block: int, error: Exception) -> str:
    # TensorFlow puts the names of its nodes before and behind it.
    why = re.sub(r"^{{.*?}} | \[Op:.*$", "", str(error))
    return (
        f"{file}, block {block}: {why}. It is damaged, or was written by another version of the pipeline, such as one "
        f"that kept transformed impressions as tf.Examples: {_RUN_AGAIN}"
    )
