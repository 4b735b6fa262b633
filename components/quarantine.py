"""Rows that cannot be used: why, and how they are written down.

The quarantine artifact holds TSV files with a header: ``file``, ``line`` (1-based), ``reason`` (one of
:data:`REASONS`), ``detail`` and ``text`` (the row, cut at :data:`TEXT_LIMIT` characters, escaped). A file
holds the bad rows of at most :data:`LINES_PER_SHARD` consecutive lines of one log file, in order of line.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WRONG_FIELD_COUNT: Final = "wrong_field_count"
NOT_AN_INTEGER: Final = "not_an_integer"
ID_OUT_OF_RANGE: Final = "id_out_of_range"
UNKNOWN_BEHAVIOR: Final = "unknown_behavior"
NEGATIVE_TIMESTAMP: Final = "negative_timestamp"
OUTSIDE_WINDOW: Final = "outside_window"
DUPLICATE: Final = "duplicate"
REASONS: Final = (
    WRONG_FIELD_COUNT,
    NOT_AN_INTEGER,
    ID_OUT_OF_RANGE,
    UNKNOWN_BEHAVIOR,
    NEGATIVE_TIMESTAMP,
    OUTSIDE_WINDOW,
    DUPLICATE,
)
"""All reasons, in the order in which they are looked for: a row has the first that fits."""

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
