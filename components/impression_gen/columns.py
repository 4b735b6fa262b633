"""From the columns of some rows, whatever format they stood in, to events and to rows that cannot be used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ctr.components import quarantine
from ctr.components.dataset import ID_FIELDS, ISO, DatasetConfig, Exposures, IdField
from ctr.components.impression_gen.events import CLICKED, NOT_CLICKED, NOT_SHOWN, Records, logged
from ctr.components.impression_gen.feature_columns import dense
from ctr.components.impression_gen.values import event_type
from ctr.models.arrays import BoolArray, Int64Array
from ctr.models.impression import BEHAVIORS, PAGE_VIEW
from ctr.models.string_ids import DIGEST_BYTES, MASK, digest

BadRow = tuple[int, str, str, str]
"""Line in the block counted from 0, reason, detail, escaped text."""
Names = dict[IdField, tuple[Int64Array, pa.Array]]
"""Field -> the ids of strings, and the strings (binary), each once."""

_ONE_CATEGORY: Final = 1
_LEFT_OUT: Final = 255
_UNKNOWN: Final = 254
_CLICKS: Final = {
    spelling(name): value
    for name, value in {"1": True, "0": False, "true": True, "false": False}.items()
    for spelling in (str, str.title, str.upper)
}
_FARTHEST: Final = 2**16 - 1
"""Position that is told apart from those behind it."""
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_TIME: Final = -(2**63)


@dataclass(frozen=True)
class ParsedBlock:
    """A block's lines, good and bad."""

    lines: int
    """The header's with them."""
    events: Records
    """[n] of ``events.logged``, in order of line."""
    bad_rows: list[BadRow]
    """In order of line."""
    left_out: int = 0
    """Rows of kinds of event that the description leaves out."""
    header_lines: int = 0
    names: Names = field(default_factory=dict)
    """Of the fields whose ids are strings."""

    @property
    def rows(self) -> int:
        """Lines that are rows."""
        return self.lines - self.header_lines

    def by_reason(self) -> dict[str, list[BadRow]]:
        """Reason -> its rows, in order of line."""
        rows: dict[str, list[BadRow]] = {}
        for row in self.bad_rows:
            rows.setdefault(row[1], []).append(row)
        return rows


Table = Mapping[str, pa.Array]
"""Field of an event -> [n] values. Ids: int64, or binary where they are strings; behaviour: binary, or float64 where it
is a rating; time: int64 of the unit, binary, or a timestamp. Declared features: see ``feature_columns.py``. Null is a
missing value."""


def to_events(
    table: Table,
    lines: Int64Array,
    dataset: DatasetConfig,
    window: tuple[int, int],
    text: Callable[[int], bytes],
) -> tuple[Records, list[BadRow], int, Names]:
    """Judges rows and keeps the events among them.

    Args:
      table: n rows.
      lines: [n] of each its line in the block, rising.
      dataset: what the values mean.
      window: first and last Unix second kept.
      text: a row's index -> what the quarantine shows of it.

    Returns:
      [m] events of ``events.logged``, the rows that cannot be used in order of line, how many rows are left out, and
      the strings.
    """
    rows = np.zeros(len(lines), logged(event_type(dataset)))
    rows["line"] = lines
    for name, feature in dataset.features.items():
        if feature.in_log:
            rows["values"][name] = dense(feature, table[name])
    names: Names = {}
    checks: list[tuple[BoolArray, str, str]] = []
    for name in ID_FIELDS:
        column = table.get(name)
        if column is None:
            rows[name] = _ONE_CATEGORY
            continue
        if name in dataset.string_ids:
            rows[name], names[name] = _hashed(column)
            checks.append((rows[name] == 0, quarantine.MISSING_VALUE, name))
        else:
            missing = _is_null(column)
            rows[name] = column.fill_null(0).to_numpy(zero_copy_only=False)
            checks.append((missing, quarantine.MISSING_VALUE, name))
            checks.append((rows[name] < 1, quarantine.ID_OUT_OF_RANGE, name))
    rows["behavior"] = _kinds(table.get("behavior"), dataset)
    rows["timestamp"] = _seconds(table["time"], dataset)
    if dataset.shown is not None:
        checks += _exposures(table, rows, dataset, dataset.shown)
    start, end = window
    missing = _is_null(table["time"])
    checks += [
        (rows["behavior"] == 0, quarantine.UNKNOWN_BEHAVIOR, "behavior"),
        (missing, quarantine.MISSING_VALUE, "time"),
        (rows["timestamp"] == _NO_TIME, quarantine.NOT_A_TIME, "time"),
        (rows["timestamp"] < 0, quarantine.NEGATIVE_TIMESTAMP, "time"),
        (rows["timestamp"] < start, quarantine.OUTSIDE_WINDOW, "before window_start"),
        (rows["timestamp"] > end, quarantine.OUTSIDE_WINDOW, "after window_end"),
    ]
    left_out = rows["behavior"] == _LEFT_OUT
    if dataset.shown is not None:
        left_out |= rows["shown"] == _LEFT_OUT
    faulty = np.logical_or.reduce([fails for fails, _, _ in checks]) & ~left_out
    index = np.flatnonzero(faulty)
    which = np.argmax([fails[index] for fails, _, _ in checks], axis=0) if len(index) else []
    bad = []
    for row, check in zip(index.tolist(), which, strict=True):
        _, reason, where = checks[check]
        bad.append((int(lines[row]), reason, detail(dataset, where, table, row), quarantine.escape(text(row))))
    return rows[~(faulty | left_out)], bad, int(left_out.sum()), names


def detail(dataset: DatasetConfig, where: str, table: Table, row: int) -> str:
    """What is wrong with a row: the field, its column, and what stands there."""
    name = where if where in table else "time"
    value = table[name][row].as_py()
    text = value if isinstance(value, bytes) else str(value).encode()
    shown = "nothing" if value in (None, b"") else quarantine.escape(text[:60])
    return f"{where} ({dataset.column_of(name)}: {shown})"


def _is_null(column: pa.Array) -> BoolArray:
    found: BoolArray = column.is_null().to_numpy(zero_copy_only=False)
    return found


def _is_empty(column: pa.Array) -> BoolArray:
    empty = _is_null(column)
    if pa.types.is_binary(column.type):
        empty |= pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False) == 0
    return empty


def _hashed(column: pa.Array) -> tuple[Int64Array, tuple[Int64Array, pa.Array]]:
    """The ids [n] of strings, 0 for a missing or an empty one, and of each different one once the id and the string."""
    encoded = column.dictionary_encode()
    different = encoded.dictionary.to_pylist()
    digests = b"".join([digest(name) for name in different])
    hashes = np.frombuffer(digests, f"<u{DIGEST_BYTES}") & np.uint64(MASK)
    ids: Int64Array = np.maximum(hashes, 1).astype(np.int64)
    ids[[place for place, name in enumerate(different) if not name]] = 0
    places = encoded.indices.fill_null(len(ids)).to_numpy(zero_copy_only=False)
    kept = ids > 0
    of_rows: Int64Array = np.append(ids, 0)[places]
    return of_rows, (ids[kept], encoded.dictionary.filter(pa.array(kept)))


def _kinds(column: pa.Array | None, dataset: DatasetConfig) -> npt.NDArray[np.uint8] | np.uint8:
    """Codes [n] of kinds of event, 0 for what is none, :data:`_LEFT_OUT` for what is left out."""
    if column is None:
        return np.uint8(BEHAVIORS[PAGE_VIEW])
    if dataset.ratings is not None:
        values = column.to_numpy(zero_copy_only=False)
        codes = np.where(np.isnan(values), 0, _LEFT_OUT).astype(np.uint8)
        for kind, smallest in sorted(dataset.ratings.items(), key=lambda each: each[1]):
            codes[values >= smallest] = BEHAVIORS[kind]
        return codes
    named = dataset.behaviors or {}
    spelling = pa.array([name.encode() for name in named], pa.binary())
    codes = np.array([0, *(_LEFT_OUT if kind is None else BEHAVIORS[kind] for kind in named.values())], np.uint8)
    rank = pc.fill_null(pc.index_in(column, value_set=spelling), -1).to_numpy(zero_copy_only=False)
    of_rows: npt.NDArray[np.uint8] = codes[rank + 1]
    return of_rows


def _exposures(
    table: Table, rows: Records, dataset: DatasetConfig, shown: Exposures
) -> list[tuple[BoolArray, str, str]]:
    """Fills what an exposure has beside other events into n rows, and gives what is wrong with which of them.

    A row that says nothing of a click is an event of histories alone where the log has kinds of event, and cannot be
    used where it has none.
    """
    rows["shown"] = _clicks(table["clicked"], shown)
    silent = rows["shown"] == NOT_SHOWN
    checks: list[tuple[BoolArray, str, str]] = [(rows["shown"] == _UNKNOWN, quarantine.BAD_EXPOSURE, "clicked")]
    if dataset.columns.behavior is None:
        checks.append((silent, quarantine.MISSING_VALUE, "clicked"))
    else:
        # What was shown needs no kind: a click on it is a page view.
        nameless = _is_empty(table["behavior"]) & ~silent
        rows["behavior"] = np.where(nameless, BEHAVIORS[PAGE_VIEW], rows["behavior"])
    if (request := table.get("request")) is not None:
        rows["request"], _ = _hashed(request)
        checks.append(((rows["request"] == 0) & ~silent, quarantine.MISSING_VALUE, "request"))
    if (position := table.get("position")) is not None:
        places = position.fill_null(1).to_numpy(zero_copy_only=False)
        rows["position"] = np.clip(places, 0, _FARTHEST)
        checks.append((_is_null(position) & ~silent, quarantine.MISSING_VALUE, "position"))
        checks.append(((places < 1) & ~silent, quarantine.BAD_EXPOSURE, "position"))
    return checks


def _clicks(column: pa.Array, shown: Exposures) -> npt.NDArray[np.uint8]:
    """What ``events.EXPOSED_EVENT`` says of a click [n], :data:`_UNKNOWN` and :data:`_LEFT_OUT` aside."""
    named: Mapping[str, bool | None] = shown.clicked or _CLICKS
    spelling = pa.array([*(name.encode() for name in named), b"", None], pa.binary())
    of_value = {True: CLICKED, False: NOT_CLICKED, None: _LEFT_OUT}
    codes = np.array([_UNKNOWN, *(of_value[value] for value in named.values()), NOT_SHOWN, NOT_SHOWN], np.uint8)
    rank = pc.fill_null(pc.index_in(column, value_set=spelling), -1).to_numpy(zero_copy_only=False)
    of_rows: npt.NDArray[np.uint8] = codes[rank + 1]
    return of_rows


def _seconds(column: pa.Array, dataset: DatasetConfig) -> Int64Array:
    """Unix seconds [n], rounded down; :data:`_NO_TIME` for what is no time."""
    if pa.types.is_timestamp(column.type):
        values = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        seconds: Int64Array = values // _PER_SECOND[column.type.unit]
        return seconds if column.type.tz is not None else local_to_unix(seconds, dataset.zone)
    if pa.types.is_integer(column.type):
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        seconds = values // _PER_SECOND[dataset.time.unit]
        return seconds
    encoded = column.dictionary_encode()
    texts = [value.decode("utf-8", "replace") for value in encoded.dictionary.to_pylist()]
    times = np.append(_read_times(texts, dataset), _NO_TIME)
    of_rows: Int64Array = times[encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]
    return of_rows


def _read_times(texts: Sequence[str], dataset: DatasetConfig) -> Int64Array:
    form = dataset.time.format
    if form is not None and form != ISO and "%f" not in form:
        read = pc.strptime(pa.array(texts, pa.string()), format=form, unit="s", error_is_null=True)
        seconds: Int64Array = read.cast(pa.int64()).fill_null(_NO_TIME).to_numpy(zero_copy_only=False).copy()
        # Arrow has taken an offset off; without one the time is a local one.
        if "%z" not in form:
            good = seconds != _NO_TIME
            seconds[good] = local_to_unix(seconds[good], dataset.zone)
        return seconds
    return np.array([_read_time(text, form, dataset.zone) for text in texts], np.int64)


def _read_time(text: str, form: str | None, zone: ZoneInfo) -> int:
    try:
        if form in (None, ISO):
            # Python before 3.11 knows no Z.
            read = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
        else:
            read = dt.datetime.strptime(text, form)
        return int((read if read.tzinfo else read.replace(tzinfo=zone)).timestamp() // 1)
    except (ValueError, OverflowError):
        return _NO_TIME


_EPOCH: Final = dt.datetime(1970, 1, 1)
_FIRST, _LAST = (int((each - _EPOCH).total_seconds()) for each in (dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)))


def local_to_unix(local: Int64Array, zone: ZoneInfo) -> Int64Array:
    """Unix seconds [n] of local times [n], given as seconds since 1970-01-01T00:00:00 of the same clock.

    A time that the clock shows twice is the earlier one, and one that it leaves out is counted on with the offset from
    before the gap, as PEP 495 has it. What is in no year of the calendar stays as it is.
    """
    if zone.key == "UTC":
        return local
    # An offset holds for whole minutes, those of before 1972 aside.
    minutes, place = np.unique(np.clip(local, _FIRST, _LAST) // 60, return_inverse=True)
    offsets = [
        int((_EPOCH + dt.timedelta(minutes=minute)).replace(tzinfo=zone).utcoffset().total_seconds())  # type: ignore[union-attr]
        for minute in minutes.tolist()
    ]
    return local - np.array(offsets, np.int64)[place]
