"""What is probably wrong with a file or a row, and what to do: from first bytes, and from rows in quarantine."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from ctr.components import quarantine
from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.impression_gen.events import FIELDS
from ctr.components.local_time import shown
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS

MAGIC_BYTES: Final = 64
"""How much of a file :func:`kind_of` looks at."""


class Kind(NamedTuple):
    """A kind of file that is no plain CSV."""

    name: str
    advice: str


_GZIP: Final = Kind("gzip", "name it .csv.gz")
_ZIP: Final = Kind("a zip archive", "name it .csv.zip if it holds a CSV file, else export the CSV from it")
_ZSTD: Final = Kind("zstd", "name it .csv.zst")
_EXPORT: Final = "export it as CSV"
_PARQUET: Final = Kind("Parquet", f"{_EXPORT}, or describe it with format: parquet")
_UTF16: Final = Kind("UTF-16 text", "convert it, e.g. iconv -f UTF-16 -t UTF-8 old.csv > log.csv")
_MAGIC: Final = (
    (b"\x1f\x8b", _GZIP),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", _ZIP),
    (b"\x28\xb5\x2f\xfd", _ZSTD),
    (b"BZh", Kind("bzip2", "decompress it, e.g. bunzip2; .csv.gz is read, too")),
    (b"\xfd7zXZ\x00", Kind("xz", "decompress it, e.g. unxz; .csv.gz is read, too")),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", "extract it; .csv.zip is read, too")),
    (b"PAR1", _PARQUET),
    (b"ORC", Kind("ORC", _EXPORT)),
    (b"Obj\x01", Kind("Avro", _EXPORT)),
    (b"SQLite format 3\x00", Kind("an SQLite database", _EXPORT)),
    (b"version https://git-lfs", Kind("a pointer of Git LFS", "fetch the file itself with git lfs pull")),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
)


def kind_of(first: bytes) -> Kind | None:
    """What a file is by its first bytes; None where it may be CSV."""
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind
    # UTF-16 without a mark: each character of a log is a zero and a byte that is none, in either order.
    even, odd = first[:8:2], first[1:8:2]
    pairs = ((even, odd), (odd, even))
    return _UTF16 if len(first) >= 4 and any(all(text) and not any(zeros) for text, zeros in pairs) else None


def check_kind(path: str, first: bytes, dataset: DatasetConfig = PUBLIC_LOG) -> None:
    """Compares a file's first bytes with its name and its description.

    Raises:
      DataError: if they do not fit.
    """
    kind = kind_of(first)
    plain = _PARQUET if dataset.format == "parquet" else None
    expected = {"gzip": _GZIP, "zip": _ZIP, "zstd": _ZSTD, "none": plain}[dataset.compression_of(path)]
    if kind == expected:
        return
    if kind is not None:
        advice = _advice(kind, dataset)
        raise DataError(f"{path}: by its first bytes it is {kind.name}, which its name does not say; {advice}")
    if not first:
        raise DataError(f"{path}: the file is empty")
    written, suffix = "CSV" if dataset.format == "csv" else dataset.format, f".{dataset.format}"
    raise DataError(
        f"{path}: by its name it is {expected.name if expected else written}, and by its first bytes it is not "
        f"({quarantine.escape(first[:20])}); was it cut, or is it plain {written} that should be named {suffix}?"
    )


def check_content(name: str, first: bytes, dataset: DatasetConfig = PUBLIC_LOG) -> None:
    """Looks at the first bytes of what was decompressed.

    Raises:
      DataError: if they are no text's.
    """
    if kind := kind_of(first):
        text = "CSV" if dataset.format == "csv" else dataset.format
        advice = _advice(kind, dataset)
        raise DataError(f"{name}: what it holds is no {text} by its first bytes, but {kind.name}; {advice}")


def _advice(kind: Kind, dataset: DatasetConfig) -> str:
    """In the words of the format that is expected."""
    if dataset.format == "parquet":
        return "Parquet is expected: unpack it, or describe the format that it has"
    return kind.advice.replace("csv", "json").replace("CSV", "JSON") if dataset.format == "json" else kind.advice


def advise(reason: str, examples: Sequence[quarantine.Example], dataset: DatasetConfig = PUBLIC_LOG) -> str | None:
    """What rows in quarantine have in common, and what to do.

    Args:
      reason: why they are there, one of ``quarantine.REASONS``.
      examples: some of them, earliest first.
      dataset: the form of the log.

    Returns:
      A sentence without a full stop, or None where nothing is seen.
    """
    if not examples:
        return None
    if not dataset.is_public_form and reason not in (quarantine.DUPLICATE, quarantine.CONTRADICTORY_REQUEST):
        return _of_description(reason, examples, dataset)
    if reason == quarantine.OUTSIDE_WINDOW:
        return _outside_window(examples, dataset.zone)
    return _ADVICE[reason](examples)


def _of_description(reason: str, examples: Sequence[quarantine.Example], dataset: DatasetConfig) -> str | None:
    """Which part of the description does not fit."""
    field, _, rest = examples[0].detail.partition(" (")
    values = list(dict.fromkeys(_shown(example) for example in examples))
    few = ", ".join(map(repr, values[:5]))
    if reason == quarantine.WRONG_FIELD_COUNT:
        return "the separator or the quotes are others (separator, quote), or fields hold line ends"
    if reason == quarantine.NOT_AN_INTEGER and field == "time":
        return f"times are text ({few}); set time.format to iso, or to a format of strptime"
    if reason == quarantine.NOT_AN_INTEGER and field != "position":
        return f"ids of {field} are no whole numbers ({few}); set ids.{field} to string"
    if reason == quarantine.ID_OUT_OF_RANGE:
        return f"ids of {field} are not all from 1 to 2**63 - 1 ({few}); as strings they pass, ids.{field}: string"
    if reason == quarantine.UNKNOWN_BEHAVIOR:
        column, known = rest.partition(":")[0], ", ".join(dataset.behaviors or ())
        of_names = f"behaviors does not name {few} ({column}); it has {known}, and null leaves rows out"
        return of_names if dataset.ratings is None else f"ratings are numbers, and {few} are none ({column})"
    if reason == quarantine.NOT_A_TIME:
        return f"times such as {few} are not written as time.format says ({dataset.time.format})"
    if reason == quarantine.OUTSIDE_WINDOW:
        return wrong_unit(examples, dataset) or f"times such as {few} are outside of window; widen it, or set it to all"
    name, _, why = field.partition(" ")
    return {
        (
            quarantine.BAD_VALUE,
            field,
        ): f"values of features.{name} are others than its type says ({few}: {why}); declare the type that they have",
        (quarantine.BAD_EXPOSURE, "clicked"): f"exposures.clicked does not name {few}; without it 1, 0, true and false "
        "are taken",
        **dict.fromkeys(
            ((quarantine.BAD_EXPOSURE, "position"), (quarantine.NOT_AN_INTEGER, "position")),
            f"positions count from 1 ({few}); leave columns.position out otherwise",
        ),
    }.get((reason, field))


def _shown(example: quarantine.Example) -> str:
    """The value that a row's detail shows."""
    return example.detail.partition(": ")[2].removesuffix(")")


def _wrong_field_count(examples: Sequence[quarantine.Example]) -> str | None:
    for separator, name in (("\\t", "tabs"), (";", "semicolons"), ("|", "bars"), (" ", "blanks")):
        if all(len(example.text.split(separator)) == len(FIELDS) for example in examples):
            return f"the fields are separated by {name}; write commas"
    return None


def _not_an_integer(examples: Sequence[quarantine.Example]) -> str | None:
    if order := _order(examples):
        return order
    first = examples[0]
    fields = first.text.split(",")
    if first.line == 1 and len(fields) == len(FIELDS) and not any(re.search(r"\d{2}", field) for field in fields):
        rest = advise(quarantine.NOT_AN_INTEGER, examples[1:])
        return "the first line looks like a header; remove it" + (f". Beside that, {rest}" if rest else "")
    if all('"' in example.text or "'" in example.text for example in examples):
        return "the fields are quoted; write them without quotes"
    values = [_field(example) for example in examples]
    if all(re.fullmatch(r"\s*-?\d+\.\d*(e\+?\d+)?\s*", value) for value in values):
        return f"{first.detail} is written as a fraction ({values[0].strip()}); write whole numbers"
    if first.detail == "timestamp" and all(re.search(r"\d{4}-\d\d|\d\d?[/.:]\d\d", value) for value in values):
        return f"timestamps are written as dates ({values[0].strip()}); write Unix seconds"
    if first.detail != "timestamp" and all(value.strip() for value in values):
        return f"{first.detail} must be a whole number from 1 on; number what is named otherwise ({values[0].strip()})"
    return None


def _unknown_behavior(examples: Sequence[quarantine.Example]) -> str | None:
    if order := _order(examples):
        return order
    names = list(dict.fromkeys(_field(example) for example in examples))
    found, known = ", ".join(map(repr, names)), ", ".join(BEHAVIORS)
    if all(name.strip().lower() in BEHAVIORS for name in names):
        return f"the kinds of event are written {found}; write {known}, in small letters and without blanks"
    return f"the log has the kinds of event {found}; write each as one of {known}, or leave its rows out"


def _order(examples: Sequence[quarantine.Example]) -> str | None:
    """Where the kind of event stands in another column."""
    for place in (0, 1, 2, 4):
        fields = [example.text.split(",") for example in examples]
        if all(len(row) == len(FIELDS) and row[place].strip() in BEHAVIORS for row in fields):
            return f"the kind of event stands in column {place + 1} and belongs into column 4; the order is {_ORDER}"
    return None


def _id_out_of_range(examples: Sequence[quarantine.Example]) -> str | None:
    if all(_field(example).strip() == "0" for example in examples):
        return f"{examples[0].detail} is 0, which stands for padding; count from 1"
    return None


def _outside_window(examples: Sequence[quarantine.Example], zone: ZoneInfo) -> str | None:
    times = _times(examples)
    if not times:
        return None
    if unit := wrong_unit(examples):
        return unit
    if all(is_recent(time) for time in times):
        first, last = (shown(time, zone, "%Y-%m-%d %H:%M") for time in (min(times), max(times)))
        return (
            f"such rows are of {first} to {last} ({zone.key}) and more; set "
            "ingest.window_start and ingest.window_end to the time that the log is of"
        )
    return f"{min(times)} is no Unix time of these years; the order of the columns is {_ORDER}"


def wrong_unit(examples: Sequence[quarantine.Example], dataset: DatasetConfig = PUBLIC_LOG) -> str | None:
    """Says so where the rows' times are of the unit in no year of this age, but of another one in one."""
    if not dataset.is_public_form:
        shown = [_shown(example) for example in examples]
        values = [int(value) for value in shown if value.isdecimal()]
        for unit, factor in (("ns", 10**9), ("us", 10**6), ("ms", 10**3), ("s", 1)):
            if unit != dataset.time.unit and values and all(is_recent(value // factor) for value in values):
                return f"times such as {values[0]} are in {unit}; set time.unit to {unit}"
        return None
    times = _times(examples)
    for name, factor in (("nanoseconds", 10**9), ("microseconds", 10**6), ("milliseconds", 10**3)):
        if times and all(is_recent(time // factor) for time in times):
            return f"timestamps are in {name}; divide them by {factor}"
    return None


def _times(examples: Sequence[quarantine.Example]) -> list[int]:
    last = [
        fields[-1].strip() for fields in (example.text.split(",") for example in examples) if len(fields) == len(FIELDS)
    ]
    return [int(time) for time in last if time.isdecimal()]


def _duplicate(examples: Sequence[quarantine.Example]) -> str | None:
    pairs = {(example.detail.removeprefix("first at ").rpartition(":")[0], example.file) for example in examples}
    if all(first != again for first, again in pairs):
        first, again = min(pairs)
        return f"{again} repeats rows of {first}; is the same log there twice?"
    return None


_ORDER: Final = ",".join(FIELDS)
_ADVICE: Final[dict[str, Callable[[Sequence[quarantine.Example]], str | None]]] = {
    quarantine.WRONG_FIELD_COUNT: _wrong_field_count,
    quarantine.NOT_AN_INTEGER: _not_an_integer,
    quarantine.ID_OUT_OF_RANGE: _id_out_of_range,
    quarantine.UNKNOWN_BEHAVIOR: _unknown_behavior,
    quarantine.NEGATIVE_TIMESTAMP: lambda _: None,
    quarantine.DUPLICATE: _duplicate,
    quarantine.CONTRADICTORY_REQUEST: lambda _: "ids of requests come again, for other users or later; tell them apart",
    # Of a log of the public form there are none of these.
    **dict.fromkeys(
        (
            quarantine.UNREADABLE_ROW,
            quarantine.MISSING_VALUE,
            quarantine.NOT_A_TIME,
            quarantine.BAD_VALUE,
            quarantine.BAD_EXPOSURE,
        ),
        lambda _: None,
    ),
}


def _field(example: quarantine.Example) -> str:
    """The value of the field that a row's detail names; the text may be cut before it."""
    fields = example.text.split(",")
    place = FIELDS.index(example.detail)
    return fields[place] if place < len(fields) else ""


def is_recent(seconds: int) -> bool:
    """Whether a Unix time is of a year that logs are of."""
    return dt.datetime(2000, 1, 1).timestamp() <= seconds < dt.datetime(2100, 1, 1).timestamp()
