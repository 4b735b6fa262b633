"""Rows that cannot be used: why, and how they are written down.

The quarantine artifact holds TSV files with a header: ``file``, ``line`` (1-based), ``reason`` (one of
:data:`REASONS`), ``detail`` and ``text`` (the row, cut at :data:`TEXT_LIMIT` characters, escaped). A file
holds the bad rows of at most :data:`LINES_PER_SHARD` consecutive lines of one log file, in order of line.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final, NamedTuple

from ctr.components.files import list_folder, open_file

WRONG_FIELD_COUNT: Final = "wrong_field_count"
NOT_AN_INTEGER: Final = "not_an_integer"
ID_OUT_OF_RANGE: Final = "id_out_of_range"
UNKNOWN_BEHAVIOR: Final = "unknown_behavior"
NEGATIVE_TIMESTAMP: Final = "negative_timestamp"
OUTSIDE_WINDOW: Final = "outside_window"
DUPLICATE: Final = "duplicate"
UNREADABLE_ROW: Final = "unreadable_row"
"""Of JSON; and so are the next two of logs with a description of their own."""
MISSING_VALUE: Final = "missing_value"
NOT_A_TIME: Final = "not_a_time"
BAD_VALUE: Final = "bad_value"
"""Of a declared feature."""
BAD_EXPOSURE: Final = "bad_exposure"
"""Of a log of exposures: ``clicked`` is none of its values, or a position is below 1; and so is the next one."""
CONTRADICTORY_REQUEST: Final = "contradictory_request"
"""The rows of its request are of several users or seconds."""
REASONS: Final = (
    WRONG_FIELD_COUNT,
    UNREADABLE_ROW,
    NOT_AN_INTEGER,
    BAD_VALUE,
    MISSING_VALUE,
    ID_OUT_OF_RANGE,
    BAD_EXPOSURE,
    UNKNOWN_BEHAVIOR,
    NOT_A_TIME,
    NEGATIVE_TIMESTAMP,
    OUTSIDE_WINDOW,
    CONTRADICTORY_REQUEST,
    DUPLICATE,
)
"""All reasons, in the order in which they are looked for: a row has the first that fits."""

OF_SOME_LOGS: Final = (BAD_VALUE, BAD_EXPOSURE, CONTRADICTORY_REQUEST)
"""Those of logs with declared features or of exposures, which are told only where there are such rows."""

OF_FORM: Final = (WRONG_FIELD_COUNT, NOT_AN_INTEGER, UNKNOWN_BEHAVIOR, OUTSIDE_WINDOW)
"""Those of a log that has another form than the one that is expected."""

EXAMPLES: Final = 20
"""Rows of a reason that are kept in mind, to say what they have in common."""

HEADER: Final = "file\tline\treason\tdetail\ttext\n"
TEXT_LIMIT: Final = 200
LINES_PER_SHARD: Final = 1_000_000

_ESCAPES: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029)},
    # What is not UTF-8 decodes to these surrogates, one for each byte.
    **{0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)},
    ord("\\"): "\\\\",
    ord("\t"): "\\t",
    ord("\r"): "\\r",
}


class Example(NamedTuple):
    """A row in quarantine, as its files have it."""

    file: str
    line: int
    detail: str
    text: str


def escape(raw: bytes) -> str:
    """A row's bytes as printable text without tabs or line ends, cut at :data:`TEXT_LIMIT` characters."""
    text = raw[: 4 * TEXT_LIMIT].decode("utf-8", "surrogateescape")
    return text[:TEXT_LIMIT].translate(_ESCAPES)


def record(line: int, reason: str, detail: str, text: str) -> str:
    """One bad row without its file; ``text`` is already escaped."""
    return f"{line}\t{reason}\t{detail}\t{text}\n"


def shard_name(source: int, shard: int) -> str:
    """File name of the bad rows of lines ``shard * LINES_PER_SHARD + 1`` and on of the ``source``-th log file."""
    return f"rows-{source:05d}-{shard:05d}.tsv"


def sample(
    uri: str, counts: Mapping[str, int], of_each: int, lines: int = LINES_PER_SHARD
) -> Iterator[tuple[str, Example]]:
    """The first rows of each reason in a quarantine, as its files are in order.

    Args:
      uri: of the artifact.
      counts: reason -> rows that there are; those of no reason named here are passed over.
      of_each: rows of a reason, at most.
      lines: after so many, rows that are missing yet are not looked for.

    Yields:
      Reason and row.
    """
    wanted = {reason: min(count, of_each) for reason, count in counts.items() if count}
    for name in sorted(name for name in list_folder(uri) if name.endswith(".tsv")):
        with closing(open_file(os.path.join(uri, name))) as file:
            rows = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
            next(rows, None)
            for row in rows:
                if lines == 0 or not any(wanted.values()):
                    return
                lines -= 1
                source, line, reason, detail, text = row.rstrip("\n").split("\t")
                if wanted.get(reason):
                    wanted[reason] -= 1
                    yield reason, Example(source, int(line), detail, text)
