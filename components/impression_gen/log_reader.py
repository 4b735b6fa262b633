"""Reads logs of lines in blocks, and parses a block of the public log's form at once.

That is UserBehavior.csv's: no header, five fields ``user_id,item_id,category_id,behavior,timestamp``,
no quoting. Lines end in LF or CRLF; the last one may lack it; a UTF-8 byte order mark is skipped. Blanks
around integers are accepted. Other forms are parsed by ``readers.py``.
"""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ctr.components import quarantine
from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.files import open_file
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.columns import BadRow, ParsedBlock
from ctr.components.impression_gen.events import FIELDS, LOGGED_EVENT, Records
from ctr.components.impression_gen.sources import Source
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS

ID_FIELDS: Final = FIELDS[:3]

_BOM: Final = b"\xef\xbb\xbf"
_LONGEST_LINE: Final = 1 << 20
_LINES_BETWEEN_FAULTS: Final = 1024
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True)
class Task:
    """What one worker reads at a time: a byte range of a plain file, or all of a compressed one."""

    source: int
    block: int
    start: int
    end: int


class Block(NamedTuple):
    """Whole lines of a log."""

    number: int
    """Counted from 0 in each log."""
    lines: bytes
    file_bytes: int
    """How much of the file they took, compressed as it is."""
    first_line: bytes = b""
    """Of the log, where it was asked for."""


def list_tasks(sources: Sequence[Source], block_bytes: int) -> list[Task]:
    """Cuts logs into units of parallel reading."""
    tasks = []
    for index, source in enumerate(sources):
        if not source.splittable:
            tasks.append(Task(index, 0, 0, source.size))
            continue
        starts = range(0, source.size, block_bytes)
        tasks += [Task(index, block, s, min(s + block_bytes, source.size)) for block, s in enumerate(starts)]
    return tasks


def read_blocks(
    source: Source, task: Task, block_bytes: int, dataset: DatasetConfig = PUBLIC_LOG, with_first_line: bool = False
) -> Iterator[Block]:
    """Yields the blocks of a task.

    A byte range owns the lines that start in it, so that every line is read once. Compressed logs are read
    to their end in blocks of about ``block_bytes`` uncompressed bytes; no more than one is held.

    Raises:
      DataError: if the file is damaged or not of the kind that its name says, or a line is longer than 1 MiB.
    """
    with closing(open_file(source.path)) as raw:
        if not task.start and source.member is None and source.size:
            hints.check_kind(source.path, raw.read(hints.MAGIC_BYTES), dataset)
            raw.seek(0)
        if source.splittable:
            first_line = _first_line(raw.readline(_LONGEST_LINE)) if with_first_line else b""
            raw.seek(0)
            yield Block(task.block, _read_range(source, task, raw), task.end - task.start, first_line)
            return
        with unpacked(source, raw) as stream:
            blocks = _read_stream(source, stream, raw, block_bytes, dataset)
            if not with_first_line:
                yield from blocks
                return
            first_line = b""
            for block in blocks:
                if not block.number:
                    first_line = _first_line(block.lines[: block.lines.find(b"\n") + 1] or block.lines)
                yield block._replace(first_line=first_line)


@contextmanager
def unpacked(source: Source, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """What a file holds, decompressed as it is read.

    Raises:
      DataError: if it is damaged or not of the kind that its name says.
    """
    try:
        if source.compression == "zip":
            with zipfile.ZipFile(raw) as archive, archive.open(source.member or "") as stream:
                yield stream
        elif source.compression == "zstd":
            with pa.CompressedInputStream(raw, "zstd") as stream:
                yield stream
        elif source.compression == "gzip":
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield cast("IO[bytes]", stream)
        else:
            yield raw
    except (EOFError, OSError, zipfile.BadZipFile, zlib.error, RuntimeError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Of the disk, and not of what stands on it.
            raise
        raise DataError(f"{source.path}: damaged or not of the kind its name says: {error}") from error


def _first_line(line: bytes) -> bytes:
    return line.removeprefix(_BOM).rstrip(b"\r\n")


def _read_range(source: Source, task: Task, raw: IO[bytes]) -> bytes:
    if task.start:
        # The byte before tells whether a line starts at `start` itself.
        raw.seek(task.start - 1)
        data = raw.read(task.end - task.start + 1)
        first_end = data.find(b"\n")
        if first_end < 0:
            return b""
        data = data[first_end + 1 :]
    else:
        data = raw.read(task.end).removeprefix(_BOM)
    if not data or data.endswith(b"\n"):
        return data
    parts = [data]
    tail_length = len(data) - data.rfind(b"\n") - 1
    while more := raw.read(1 << 16):
        line_end = more.find(b"\n")
        if line_end >= 0:
            parts.append(more[: line_end + 1])
            break
        parts.append(more)
        tail_length += len(more)
        if tail_length > _LONGEST_LINE:
            raise _endless_line(source)
    return b"".join(parts)


def _read_stream(
    source: Source, stream: IO[bytes], raw: IO[bytes], block_bytes: int, dataset: DatasetConfig
) -> Iterator[Block]:
    block = 0
    rest = b""
    first = True
    place = raw.tell()
    while data := stream.read(block_bytes):
        if first:
            hints.check_content(source.label, data[: hints.MAGIC_BYTES], dataset)
            data = data.removeprefix(_BOM)
            first = False
        line_end = data.rfind(b"\n")
        if line_end >= 0:
            yield Block(block, rest + data[: line_end + 1], max(0, raw.tell() - place))
            place = raw.tell()
            block += 1
            rest = data[line_end + 1 :]
        else:
            rest += data
            if len(rest) > _LONGEST_LINE:
                raise _endless_line(source)
    if rest:
        yield Block(block, rest, max(0, raw.tell() - place))


def _endless_line(source: Source) -> DataError:
    return DataError(f"{source.path}: a line of more than {_LONGEST_LINE} bytes; this is no behaviour log")


def parse_block(data: bytes, window: tuple[int, int]) -> ParsedBlock:
    """Parses whole lines and judges each.

    Args:
      data: lines; the last may lack its line end.
      window: first and last Unix second kept.
    """
    if not data:
        return ParsedBlock(0, np.empty(0, LOGGED_EVENT), [])
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    rows = _parse_fast(data, count)
    bad_rows: list[BadRow] = []
    if rows is None:
        rows, bad_rows = _parse_around_faults(data.removesuffix(b"\n").split(b"\n"))
    events, rejected = _judge(rows, window)
    if rejected:
        lines = data.split(b"\n")
        bad_rows += [
            (line, reason, detail, quarantine.escape(lines[line].removesuffix(b"\r")))
            for line, reason, detail in rejected
        ]
        bad_rows.sort()
    return ParsedBlock(count, events, bad_rows)


def first_of_each(by_reason: Mapping[str, Sequence[BadRow]]) -> list[BadRow]:
    """Some rows of each reason, in order of line."""
    return sorted(row for rows in by_reason.values() for row in rows[: quarantine.EXAMPLES])


def _parse_fast(data: bytes, count: int) -> Records | None:
    """All lines at once, or None if any of them is not five fields with integers where they belong."""
    # pyarrow would read 0x1F as an integer, and skip a byte order mark anywhere a block happens to start.
    if b"x" in data or b"X" in data or data.startswith(_BOM):
        return None
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=list(FIELDS), block_size=len(data) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                quote_char=False, escape_char=False, newlines_in_values=False, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.binary() if name == "behavior" else pa.int64() for name in FIELDS},
                null_values=[],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    # A lone CR ends a line for pyarrow and not for us.
    if table.num_rows != count:
        return None
    spelling = pa.array([name.encode() for name in BEHAVIORS], pa.binary())
    codes = np.array([0, *BEHAVIORS.values()], dtype=np.uint8)
    rank = pc.fill_null(pc.index_in(table["behavior"], value_set=spelling), -1).to_numpy()
    rows = np.empty(count, LOGGED_EVENT)
    for name, column in (("user", "user_id"), ("item", "item_id"), ("category", "category_id")):
        rows[name] = table[column].to_numpy()
    rows["timestamp"] = table["timestamp"].to_numpy()
    rows["behavior"] = codes[rank + 1]
    rows["line"] = np.arange(count)
    return rows


def _parse_around_faults(lines: list[bytes]) -> tuple[Records, list[BadRow]]:
    """Parses the pieces without a fault at once and the others line by line."""
    parts: list[Records] = []
    bad_rows: list[BadRow] = []
    for start in range(0, len(lines), _LINES_BETWEEN_FAULTS):
        piece = lines[start : start + _LINES_BETWEEN_FAULTS]
        rows = _parse_fast(b"\n".join(piece) + b"\n", len(piece))
        if rows is None:
            rows, bad = _parse_exactly(piece)
            bad_rows += [(start + line, reason, detail, text) for line, reason, detail, text in bad]
        rows["line"] += start
        parts.append(rows)
    return np.concatenate(parts), bad_rows


def _parse_exactly(lines: list[bytes]) -> tuple[Records, list[BadRow]]:
    good: list[tuple[int, int, int, int, int, int]] = []
    bad: list[BadRow] = []
    for number, raw in enumerate(lines):
        line = raw.removesuffix(b"\r")
        fields = line.split(b",")
        if len(fields) != len(FIELDS):
            detail = f"{len(fields)} fields, not {len(FIELDS)}" if line else "blank line"
            bad.append((number, quarantine.WRONG_FIELD_COUNT, detail, quarantine.escape(line)))
            continue
        stripped = {name: field.strip(b" \t") for name, field in zip(FIELDS, fields, strict=True) if name != "behavior"}
        fault = next((name for name, field in stripped.items() if not _INTEGER.fullmatch(field)), None)
        if fault is not None:
            bad.append((number, quarantine.NOT_AN_INTEGER, fault, quarantine.escape(line)))
            continue
        user, item, category, timestamp = (_clipped(field) for field in stripped.values())
        if max(user, item, category) > _LARGEST:
            ids = dict(zip(ID_FIELDS, (user, item, category), strict=True))
            fault = next(name for name, value in ids.items() if not 1 <= value <= _LARGEST)
            bad.append((number, quarantine.ID_OUT_OF_RANGE, fault, quarantine.escape(line)))
            continue
        behavior = BEHAVIORS.get(fields[3].decode("latin-1"), 0)
        good.append((max(user, 0), max(item, 0), max(category, 0), behavior, _within_int64(timestamp), number))
    return np.array(good, LOGGED_EVENT), bad


def _clipped(field: bytes) -> int:
    """The integer, or one just as far out of int64 if it has too many digits to be in it."""
    digits = field.lstrip(b"-").lstrip(b"0")
    value = int(digits or b"0") if len(digits) <= 20 else 10**20
    return -value if field.startswith(b"-") else value


def _within_int64(value: int) -> int:
    return min(max(value, -_LARGEST), _LARGEST)


def _judge(rows: Records, window: tuple[int, int]) -> tuple[Records, list[tuple[int, str, str]]]:
    """Separates events that can be kept from rows whose values cannot; each has the first reason that fits."""
    start, end = window
    checks = [
        (rows["user"] < 1, quarantine.ID_OUT_OF_RANGE, "user_id"),
        (rows["item"] < 1, quarantine.ID_OUT_OF_RANGE, "item_id"),
        (rows["category"] < 1, quarantine.ID_OUT_OF_RANGE, "category_id"),
        (rows["behavior"] == 0, quarantine.UNKNOWN_BEHAVIOR, "behavior"),
        (rows["timestamp"] < 0, quarantine.NEGATIVE_TIMESTAMP, "timestamp"),
        (rows["timestamp"] < start, quarantine.OUTSIDE_WINDOW, "before window_start"),
        (rows["timestamp"] > end, quarantine.OUTSIDE_WINDOW, "after window_end"),
    ]
    faulty = np.logical_or.reduce([fails for fails, _, _ in checks])
    if not faulty.any():
        return rows, []
    index = np.flatnonzero(faulty)
    which = np.argmax([fails[index] for fails, _, _ in checks], axis=0)
    rejected = [(int(line), *checks[check][1:]) for line, check in zip(rows["line"][index], which, strict=True)]
    return rows[~faulty], rejected
