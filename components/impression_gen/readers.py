"""One reader a format, behind one interface: what a log is cut into, and what a piece of it holds.

Whatever the format, a piece becomes the same events (``columns.py``), and nothing after it knows where they stood.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ctr.components import quarantine
from ctr.components.dataset import ID_FIELDS, DatasetConfig
from ctr.components.features import FeatureConfig
from ctr.components.files import open_file
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.columns import BadRow, ParsedBlock, Table, to_events
from ctr.components.impression_gen.feature_columns import read_all, read_one, type_of
from ctr.components.impression_gen.log_reader import Block, Task, list_tasks, parse_block, read_blocks
from ctr.components.impression_gen.sources import Source
from ctr.components.parquet import open_parquet
from ctr.models.arrays import Int64Array
from ctr.models.errors import DataError

_LINES_BETWEEN_FAULTS: Final = 1024
_ROWS_OF_A_BLOCK: Final = 1 << 18
_BLOCKS_OF_A_GROUP: Final = 1 << 12
_INTEGER: Final = re.compile(r"[ \t]*-?[0-9]+[ \t]*")
_LARGEST: Final = 2**63 - 1


class RowGroup(NamedTuple):
    """Rows of a Parquet file."""

    number: int
    table: pa.Table
    file_bytes: int


class Reader(Protocol):
    """Reads the logs of a description."""

    def tasks(self, sources: Sequence[Source], block_bytes: int) -> list[Task]:
        """Cuts logs into units of parallel reading."""

    def blocks(self, source: Source, task: Task, block_bytes: int) -> Iterator[Any]:
        """Yields the blocks of a task, numbered in the order of the log.

        Raises:
          DataError: if the file is damaged, not of the kind that its name says, or lacks a column.
        """

    def parse(self, source: Source, block: Any, window: tuple[int, int]) -> ParsedBlock:
        """Judges the rows of a block; the window is the first and the last Unix second kept."""

    def columns(self, source: Source) -> list[str]:
        """The names of all columns of a log, of which there are none in CSV without a header."""


def reader_of(dataset: DatasetConfig) -> Reader:
    """The reader of a description."""
    if dataset.is_public_form:
        return PublicLogReader(dataset)
    if dataset.format == "csv":
        return CsvReader(dataset)
    # Rows of a table are parsed as those of Parquet; reading it is Beam's.
    return JsonReader(dataset) if dataset.format == "json" else ParquetReader(dataset)


@dataclass(frozen=True)
class PublicLogReader:
    """The public log's form, read fastest."""

    dataset: DatasetConfig

    def tasks(self, sources: Sequence[Source], block_bytes: int) -> list[Task]:
        """Byte ranges of plain files, and compressed files as a whole."""
        return list_tasks(sources, block_bytes)

    def blocks(self, source: Source, task: Task, block_bytes: int) -> Iterator[Block]:
        """Whole lines."""
        return read_blocks(source, task, block_bytes, self.dataset)

    def parse(self, source: Source, block: Block, window: tuple[int, int]) -> ParsedBlock:
        """Of five fields without quotes."""
        return parse_block(block.lines, window)

    def columns(self, source: Source) -> list[str]:
        """None has a name."""
        return []


@dataclass(frozen=True)
class _Fields:
    """What values out of text, of folders' names and of JSON have in common."""

    dataset: DatasetConfig

    def _value(self, field: str, text: Any) -> Any | tuple[str, str]:
        """A value out of text, or reason and detail; of a declared feature, out of what stands there."""
        if field in self.dataset.features:
            return self._declared(field, text)
        kind = _type_of(field, self.dataset)
        if text is None or (text == "" and field != "behavior"):
            return None
        encoded = text.encode("utf-8", "surrogateescape")
        if kind == pa.binary():
            return encoded
        where = f"{field} ({self.dataset.column_of(field)}: {quarantine.escape(encoded[:60])})"
        if kind == pa.float64():
            try:
                return float(text)
            except ValueError:
                return quarantine.UNKNOWN_BEHAVIOR, where
        if not _INTEGER.fullmatch(text):
            return quarantine.NOT_AN_INTEGER, where
        digits = text.strip(" \t")
        value = int(digits) if len(digits) <= 20 else (-1 if digits[0] == "-" else 1) * 10**20
        if field in ("time", "position"):
            return min(max(value, -_LARGEST), _LARGEST)
        return (quarantine.ID_OUT_OF_RANGE, where) if value > _LARGEST else max(value, -_LARGEST)

    def _declared(self, name: str, value: Any) -> Any | tuple[str, str]:
        try:
            return read_one(self.dataset.features[name], value)
        except ValueError as error:
            text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else _as_text(value) or ""
            shown = quarantine.escape(text.encode("utf-8", "surrogateescape")[:60])
            return quarantine.BAD_VALUE, f"{name} {error} ({self.dataset.column_of(name)}: {shown})"

    def _constants(self, source: Source, count: int) -> Table:
        """Columns that the names of folders say.

        Raises:
          DataError: if one is no value of a declared feature.
        """
        said = dict(source.partition)
        values = {
            field: self._value(field, said[str(column)])
            for field, column in self.dataset.all_columns()
            if column in said
        }
        for field, value in values.items():
            if isinstance(value, tuple) and field in self.dataset.features:
                raise DataError(f"{source.path}: the name of its folder: {value[1]}")
        return {field: _filled(value, count, _type_of(field, self.dataset)) for field, value in values.items()}

    def _in_file(self, source: Source) -> list[tuple[str, int | str]]:
        """The fields, declared ones too, whose columns are in the file itself."""
        said = dict(source.partition)
        return [(field, column) for field, column in self.dataset.all_columns() if column not in said]


@dataclass(frozen=True)
class _LineReader(_Fields):
    """Text, a row a line."""

    def tasks(self, sources: Sequence[Source], block_bytes: int) -> list[Task]:
        """Byte ranges of plain files, and compressed files as a whole."""
        return list_tasks(sources, block_bytes)

    def blocks(self, source: Source, task: Task, block_bytes: int) -> Iterator[Block]:
        """Whole lines, and with each the first one of the log."""
        return read_blocks(source, task, block_bytes, self.dataset, with_first_line=True)

    def _first_block(self, source: Source) -> Block:
        task = Task(0, 0, 0, min(source.size, 1 << 16) if source.splittable else source.size)
        with closing(self.blocks(source, task, 1 << 16)) as blocks:  # type: ignore[type-var]
            return next(iter(blocks), Block(0, b"", 0))

    def _parsed(
        self,
        data: bytes,
        header: int,
        source: Source,
        window: tuple[int, int],
        at_once: Callable[[bytes, int], Table | None],
        one: Callable[[bytes], dict[str, Any] | tuple[str, str]],
    ) -> ParsedBlock:
        """Parses lines: all at once, or else the pieces without a fault at once and the others line by line.

        Args:
          data: whole lines; the last may lack its line end.
          header: 1 where the first one is none of the log's rows, else 0.
          source: where they stand.
          window: first and last Unix second kept.
          at_once: the columns of so many lines, or None where one of them has a fault.
          one: field -> value of one line, or reason and detail.
        """
        if data and not data.endswith(b"\n"):
            data += b"\n"
        count = data.count(b"\n")
        header = min(header, count)
        numbers = np.arange(header, count)
        bad: list[BadRow] = []

        @functools.cache
        def lines() -> list[bytes]:
            # A copy of all of them, which good rows do without.
            return data.split(b"\n")[:-1]

        body = data[data.find(b"\n") + 1 :] if header else data
        whole = at_once(body, count - header) if body else None
        if whole is None:
            good: list[Int64Array] = []
            parts = []
            rows = lines()[header:]
            for start in range(0, len(rows), _LINES_BETWEEN_FAULTS):
                piece = rows[start : start + _LINES_BETWEEN_FAULTS]
                part = at_once(b"\n".join(piece) + b"\n", len(piece))
                kept = np.arange(len(piece))
                if part is None:
                    part, kept, faults = self._line_by_line(piece, one)
                    bad += [(header + start + at, reason, detail, text) for at, reason, detail, text in faults]
                parts.append(part)
                good.append(kept + start)
            whole = _joined(parts) if parts else self._table([])
            numbers = numbers[np.concatenate(good)] if good else numbers
        whole = {**whole, **self._constants(source, len(numbers))}
        events, refused, left_out, names = to_events(
            whole, numbers, self.dataset, window, lambda row: lines()[numbers[row]].removesuffix(b"\r")
        )
        return ParsedBlock(count, events, sorted([*bad, *refused]), left_out, header, names)

    def _line_by_line(
        self, lines: Sequence[bytes], one: Callable[[bytes], dict[str, Any] | tuple[str, str]]
    ) -> tuple[Table, Int64Array, list[BadRow]]:
        good, values, bad = [], [], []
        for number, line in enumerate(lines):
            found = one(line.removesuffix(b"\r"))
            if isinstance(found, tuple):
                bad.append((number, *found, quarantine.escape(line.removesuffix(b"\r"))))
                continue
            good.append(number)
            values.append(found)
        return self._table(values), np.array(good, np.int64), bad

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        return {
            name: pa.array([row[name] for row in rows], _type_of(name, self.dataset))
            for name, _ in self.dataset.all_columns()
            if not rows or name in rows[0]
        }


def _type_of(field: str, dataset: DatasetConfig) -> pa.DataType:
    """What a field's values are read as."""
    if field in dataset.features:
        return type_of(dataset.features[field])
    if field in ID_FIELDS:
        return pa.binary() if field in dataset.string_ids else pa.int64()
    if field == "behavior":
        return pa.binary() if dataset.ratings is None else pa.float64()
    if field in ("clicked", "request"):
        return pa.binary()
    if field == "position":
        return pa.int64()
    return pa.int64() if dataset.time.format is None else pa.binary()


def _filled(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    # A folder's name that is no value makes each of its rows a bad one.
    return pa.array([None if isinstance(value, tuple) else value] * count, kind)


def _joined(parts: Sequence[Table]) -> Table:
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """One array, of a dictionary too."""
    array = _one_array(column)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """One array of that type.

    Raises:
      pyarrow.ArrowInvalid: if a value cannot be had in it.
    """
    array = _whole(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type == kind:
        return array
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type):
        return array.cast(kind)
    if kind == pa.binary():
        return array.cast(pa.string()).cast(kind)
    return array.cast(kind)


@dataclass(frozen=True)
class CsvReader(_LineReader):
    """Fields between separators."""

    def parse(self, source: Source, block: Block, window: tuple[int, int]) -> ParsedBlock:
        """Of as many fields as the first line of the log has."""
        width, places = self._places(source, self._text(block.first_line))
        kinds = {field: _type_of(field, self.dataset) for field in places}

        def at_once(data: bytes, count: int) -> Table | None:
            try:
                return _csv_columns(data, count, width, places, kinds, self.dataset)
            except pa.ArrowInvalid:
                return None

        def one(line: bytes) -> dict[str, Any] | tuple[str, str]:
            fields = self._fields(line.decode("utf-8", "surrogateescape"))
            if len(fields) != width:
                detail = f"{len(fields)} fields, not {width}" if line else "blank line"
                return quarantine.WRONG_FIELD_COUNT, detail
            values = {field: self._value(field, fields[place]) for field, place in places.items()}
            fault = next((value for value in values.values() if isinstance(value, tuple)), None)
            return fault if fault is not None else values

        header = int(self.dataset.header and block.number == 0)
        return self._parsed(self._encoded(block.lines), header, source, window, at_once, one)

    def columns(self, source: Source) -> list[str]:
        """Those of the header."""
        if not self.dataset.header:
            return []
        return self._fields(self._text(self._first_block(source).first_line))

    def _places(self, source: Source, first_line: str) -> tuple[int, dict[str, int]]:
        """How many fields a row has, and field -> its place, counted from 0."""
        names = self._fields(first_line)
        places = {}
        for field, column in self._in_file(source):
            place = column - 1 if isinstance(column, int) else names.index(column) if names.count(column) == 1 else -1
            if not 0 <= place < len(names):
                raise DataError(self.dataset.unknown_column(field, names, source.label))
            places[field] = place
        return len(names), places

    def _fields(self, line: str) -> list[str]:
        quote = self.dataset.quote
        if quote is None or quote not in line:
            return line.split(self.dataset.separator)
        try:
            return next(csv.reader([line], delimiter=self.dataset.separator, quotechar=quote, strict=True))
        except csv.Error:
            # Quotes that do not close, or that close before the field ends.
            return []

    def _text(self, line: bytes) -> str:
        return line.decode(self.dataset.encoding, "replace")

    def _encoded(self, data: bytes) -> bytes:
        if self.dataset.encoding == "utf-8":
            return data
        return data.decode(self.dataset.encoding, "replace").encode()


def _csv_columns(
    data: bytes,
    count: int,
    width: int,
    places: Mapping[str, int],
    kinds: Mapping[str, pa.DataType],
    dataset: DatasetConfig,
) -> Table | None:
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, column_names=[str(place) for place in range(width)], block_size=len(data) + 1
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dataset.separator,
            quote_char=dataset.quote or False,
            escape_char=False,
            newlines_in_values=False,
            ignore_empty_lines=False,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[str(place) for place in dict.fromkeys(places.values())],
            column_types={str(place): pa.binary() for place in places.values()},
            null_values=[],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    # A lone CR ends a line for pyarrow and not for us.
    if table.num_rows != count:
        return None
    columns = {}
    for field, place in places.items():
        column = _one_array(table[str(place)])
        kind = kinds[field]
        if field in dataset.features:
            if (read := read_all(dataset.features[field], column)) is None:
                return None
            columns[field] = read
            continue
        if kind != pa.binary():
            # What the exact parser strips, pyarrow refuses; and what it refuses, 0x1F, pyarrow takes.
            text = column.cast(pa.string())
            if kind == pa.int64() and pc.any(pc.match_substring_regex(text, "[^0-9-]")).as_py():
                return None
            column = text.cast(kind)
        elif field == "time" and pc.any(pc.equal(pc.binary_length(column), 0)).as_py():
            return None
        columns[field] = column
    return columns


@dataclass(frozen=True)
class JsonReader(_LineReader):
    """An object a line."""

    def parse(self, source: Source, block: Block, window: tuple[int, int]) -> ParsedBlock:
        """Of objects; what is missing in one, or null, is a missing value."""
        columns = [(field, str(column)) for field, column in self._in_file(source)]
        # Of a column that two fields read, JSON of one type is asked for.
        features = self.dataset.features
        kinds = {field: _type_of(field, self.dataset) for field, _ in columns if field not in features}
        schema = pa.schema(
            {column: _json_type(features[field], column, block.lines) for field, column in columns if field in features}
            | {
                column: pa.string() if kinds[field] == pa.binary() else kinds[field]
                for field, column in columns
                if field in kinds
            }
        )
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")

        def at_once(data: bytes, count: int) -> Table | None:
            try:
                if not data.isascii():
                    # Arrow takes any bytes in a string.
                    data.decode()
                table = pyarrow.json.read_json(
                    pa.BufferReader(data),
                    read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
                    parse_options=options,
                )
                if table.num_rows != count:
                    return None
                found = {
                    field: read_all(features[field], _whole(table[column]))
                    if field in features
                    else _plain(table[column], kinds[field])
                    for field, column in columns
                }
                return None if any(values is None for values in found.values()) else found
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
                return None

        def one(line: bytes) -> dict[str, Any] | tuple[str, str]:
            try:
                read = json.loads(line.decode())
                if not isinstance(read, dict):
                    return quarantine.UNREADABLE_ROW, f"JSON, but no object: {type(read).__name__}"
                texts = {field: _as_text(read.get(column)) for field, column in columns}
                # Half of a surrogate pair is no text.
                "".join(text or "" for text in texts.values()).encode()
                texts |= {field: read.get(column) for field, column in columns if field in features}
            except (ValueError, RecursionError) as error:
                return quarantine.UNREADABLE_ROW, f"no JSON: {error}" if line.strip() else "blank line"
            values = {field: self._value(field, text) for field, text in texts.items()}
            fault = next((value for value in values.values() if isinstance(value, tuple)), None)
            return fault if fault is not None else values

        return self._parsed(block.lines, 0, source, window, at_once, one)

    def columns(self, source: Source) -> list[str]:
        """The keys of the first objects."""
        found: dict[str, None] = {}
        for line in self._first_block(source).lines.split(b"\n")[:100]:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            found.update(dict.fromkeys(row if isinstance(row, dict) else ()))
        return list(found)


def _json_type(feature: FeatureConfig, column: str, lines: bytes) -> pa.DataType:
    """What to ask for in a column: it goes fastest where all rows hold what the first one does."""
    if feature.kind == "number":
        return pa.float64()
    try:
        value = json.loads(lines[: lines.find(b"\n") + 1] or lines).get(column)
    except (ValueError, AttributeError, RecursionError):
        value = None
    first = value[0] if isinstance(value, list) and value else value
    kind = pa.int64() if isinstance(first, int) and not isinstance(first, bool) else pa.string()
    return pa.list_(kind) if isinstance(value, list) else kind


def _as_text(value: Any) -> str | None:
    """A JSON value as it would stand in CSV."""
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


@dataclass(frozen=True)
class ParquetReader(_Fields):
    """Parquet files, by row group; a row's line is its place in the file."""

    def tasks(self, sources: Sequence[Source], block_bytes: int) -> list[Task]:
        """Row groups."""
        tasks = []
        for index, source in enumerate(sources):
            with closing(open_file(source.path)) as raw:
                groups = _opened(source, raw, self.dataset).num_row_groups
            tasks += [Task(index, group * _BLOCKS_OF_A_GROUP, group, group + 1) for group in range(groups)]
        return tasks

    def blocks(self, source: Source, task: Task, block_bytes: int) -> Iterator[RowGroup]:
        """Rows of a row group, no more at a time than are held well."""
        with closing(open_file(source.path)) as raw:
            file = _opened(source, raw, self.dataset)
            there = file.schema_arrow.names
            for field, column in self._in_file(source):
                if there.count(column) != 1:
                    raise DataError(self.dataset.unknown_column(field, [*there, *dict(source.partition)], source.label))
            for group in range(task.start, min(task.end, file.num_row_groups)):
                stored = file.metadata.row_group(group)
                wanted = list(dict.fromkeys(str(column) for _, column in self._in_file(source)))
                most = max(_ROWS_OF_A_BLOCK, -(-stored.num_rows // _BLOCKS_OF_A_GROUP))
                batches = file.iter_batches(most, row_groups=[group], columns=wanted, use_threads=False)
                share = source.size // max(1, file.num_row_groups)
                try:
                    for number, batch in enumerate(batches):
                        part = share * batch.num_rows // max(1, stored.num_rows)
                        yield RowGroup(task.block + number, pa.Table.from_batches([batch]), part)
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{source.path}: a damaged Parquet file: {error}") from error

    def parse(self, source: Source, block: RowGroup, window: tuple[int, int]) -> ParsedBlock:
        """Of any types that hold the values of their fields."""
        table, count = block.table, block.table.num_rows
        columns: dict[str, pa.Array] = dict(self._constants(source, count))
        bad: list[BadRow] = []
        kept = np.ones(count, bool)
        for field, column in self._in_file(source):
            columns[field], faults = self._read(field, table[str(column)])
            for row, fault in faults.items():
                if kept[row]:
                    kept[row] = False
                    bad.append((row, *fault, quarantine.escape(_row_text(table, row))))
        numbers = np.flatnonzero(kept)
        if bad:
            columns = {field: values.filter(pa.array(kept)) for field, values in columns.items()}
        events, refused, left_out, names = to_events(
            columns, numbers, self.dataset, window, lambda row: _row_text(table, int(numbers[row]))
        )
        return ParsedBlock(count, events, sorted([*bad, *refused]), left_out, 0, names)

    def columns(self, source: Source) -> list[str]:
        """Those of the file's schema."""
        with closing(open_file(source.path)) as raw:
            return [*_opened(source, raw, self.dataset).schema_arrow.names, *dict(source.partition)]

    def _read(self, field: str, column: pa.ChunkedArray) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
        """A field's values, and row -> reason and detail of those that cannot be had."""
        if (feature := self.dataset.features.get(field)) is not None:
            read = read_all(feature, _whole(column))
            return (read, {}) if read is not None else self._one_by_one(field, column.to_pylist())
        if field == "time":
            if pa.types.is_date(column.type):
                column = column.cast(pa.timestamp("s"))
            if pa.types.is_timestamp(column.type):
                return _one_array(column), {}
        kind = _type_of(field, self.dataset)
        try:
            return _plain(column, kind), {}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return self._one_by_one(field, [_as_text(_decoded(value)) for value in column.to_pylist()])

    def _one_by_one(self, field: str, rows: Sequence[Any]) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
        values = [self._value(field, value) for value in rows]
        faults = {row: value for row, value in enumerate(values) if isinstance(value, tuple)}
        kept = [None if isinstance(value, tuple) else value for value in values]
        return pa.array(kept, _type_of(field, self.dataset)), faults


def _decoded(value: Any) -> Any:
    # 13.0 is a whole number where Arrow casts all values at once, and so it is beside one that is none.
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return int(value)
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _row_text(table: pa.Table, row: int) -> bytes:
    return json.dumps({name: table[name][row].as_py() for name in table.column_names}, default=str).encode()


def _opened(source: Source, raw: Any, dataset: DatasetConfig) -> pq.ParquetFile:
    hints.check_kind(source.path, raw.read(hints.MAGIC_BYTES), dataset)
    raw.seek(0)
    return open_parquet(raw, source.path)
