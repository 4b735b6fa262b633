"""A first description of a log, guessed from a sample of its files."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import yaml
from pydantic import TypeAdapter, ValidationError

from ctr.components import quarantine
from ctr.components.dataset import PUBLIC_LOG, SUFFIXES, Columns, DatasetConfig, Format
from ctr.components.features import Features
from ctr.components.files import is_address, is_table, list_folder, open_file
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.log_reader import unpacked
from ctr.components.impression_gen.sources import NoLogError, Source, find_logs, list_sources
from ctr.components.parquet import open_parquet
from ctr.models.errors import DataError
from ctr.models.impression import BehaviorName

SECONDS: Final = 5.0
"""After so long a compressed file is not read on to its end."""
_FILES: Final = 3
_PIECE: Final = 1 << 17
"""Bytes of the beginning, the middle and the end of a file."""
_ROWS: Final = 5_000
"""Rows of a Parquet file's first, middle and last row group."""
_SEPARATORS: Final = ",\t;|"
_TIME_FORMATS: Final = (
    "%Y/%m/%d %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y%m%d%H%M%S",
    "%d/%b/%Y:%H:%M:%S %z", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d",
)  # fmt: skip
_UNITS: Final = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1}
_NAMES: Final[dict[str, str]] = {
    "time": r"time|timestamp|ts|date|datetime|at|when",
    "behavior": r"behaviou?r|event|action|activity|type|interaction",
    "rating": r"rating|ratings|score|stars|overall|rate",
    "user": r"user|visitor|customer|reviewer|session|member|client|uid|cookie|shopper|buyer",
    "item": r"item|product|asin|sku|article|movie|goods|track|book|business|content|news|video|iid|song",
    "category": r"category|cat|cate|genre|department|section|class|categories",
    "clicked": r"click(s|ed)?|clk|label",
    "request": r"request|req|impression|exposure|slate|query",
    "position": r"position|pos|rank|slot",
}
_OF_EXPOSURES: Final = ("clicked", "request", "position")
_YES_OR_NO: Final = ({"0", "1"}, {"false", "true"})
_KINDS: Final[dict[BehaviorName, str]] = {
    "buy": r"buy|bought|purchase[ds]?|transaction|order(ed)?|pay|paid|conversion|sale",
    "fav": r"fav(ou?rites?)?|wish(list)?|like[ds]?|bookmark|collect|save[ds]?",
    "cart": r"cart|basket|add|addtocart|bag",
    "pv": r"pv|views?|viewed|click(ed|s)?|clk|visit|read|watch(ed)?|play(ed)?|detail|impression|open",
}
_UNDONE: Final = re.compile(r"remove|delete|un|dis|cancel|refund|return", re.IGNORECASE)
_MOST_KINDS: Final = 25
_FAVOURABLE: Final = 0.8
_FEWEST_VALUES: Final = 2
"""Of a column that a model can learn from."""
_KEPT: Final = 0.95
"""Share of rows with the commonest value of their item, or user, from which on it is taken for its own."""
_OF_SEVERAL: Final = ("|", ";", ",")
_SEVERAL: Final = 0.3
"""Share of values with a separator from which on they are taken for several."""
_HASHES: Final = re.compile(r"[0-9a-fA-F]{16,}|[0-9a-fA-F-]{36}|[A-Za-z0-9+/_-]{22,}={0,2}")

Rows = list[dict[str, str | None]]


@dataclass
class Inspection:
    """What was guessed."""

    yaml: str
    """The description, with reasons as comments."""
    warnings: list[str]
    complete: bool
    """Whether a column was found for each field that there must be."""


@dataclass
class _Sample:
    form: Format
    settings: dict[str, Any]
    """Of the description: how files are read."""
    reasons: dict[str, str]
    files: list[str]
    names: list[str]
    """Of the columns; places counted from 1 where there are none."""
    rows: Rows
    """Each value as text."""
    warnings: list[str]
    times: dict[str, str] = field(default_factory=dict)
    """Columns of a type of time, and its zone, or nothing."""


@dataclass(frozen=True)
class _Column:
    name: str
    values: list[str]
    """Without missing ones."""
    missing: int

    @classmethod
    def of(cls, name: str, rows: Rows) -> _Column:
        """A column of these rows."""
        values = [value for row in rows if (value := row.get(name))]
        return cls(name, values, len(rows) - len(values))

    @property
    def distinct(self) -> int:
        return len(set(self.values))

    @property
    def integers(self) -> list[int] | None:
        """All values, if they are whole numbers."""
        if self.values and all(re.fullmatch(r"-?\d{1,19}", value) for value in self.values):
            return [int(value) for value in self.values]
        return None

    @property
    def numbers(self) -> list[float] | None:
        """All values, if they are numbers."""
        try:
            return [float(value) for value in self.values] or None
        except ValueError:
            return None

    def described(self) -> str:
        """In words: type, range, how many different values."""
        many = f"{self.distinct:,} different of {len(self.values):,}"
        missing = f", {self.missing:,} missing" if self.missing else ""
        if not self.values:
            return f"empty{missing}"
        if (numbers := self.integers or self.numbers) is not None:
            kind = "whole number" if self.integers is not None else "number"
            return f"{kind}, {min(numbers):,} to {max(numbers):,}, {many}{missing}"
        return f"text such as {quarantine.escape(self.values[0].encode()[:40])}, {many}{missing}"

    def called(self, role: str) -> bool:
        """Whether its name speaks of a role."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        parts = re.split(r"[^a-z]+", words)
        # itemid, movieId, user_id and userid.
        bare = [part.removesuffix("id") or part for part in parts]
        return any(re.fullmatch(_NAMES[role], part) for part in (*parts, *bare))


def inspect(data: str, seconds: float = SECONDS) -> Inspection:
    """Looks at a log for some seconds.

    Raises:
      NoLogError: if ``data`` names no file.
      DataError: if a file cannot be read as any format.
      OSError: if it cannot be read.
    """
    sample = _sample(data, time.monotonic() + seconds)
    if not sample.rows:
        raise DataError(f"data: {data} has no row to look at")
    columns = [_Column.of(name, sample.rows) for name in sample.names]
    guess = _Guess(sample, {column.name: column for column in columns})
    guess.run()
    return Inspection(guess.text(data), guess.warnings, all(role in guess.roles for role in ("user", "item", "time")))


def _sample(data: str, until: float) -> _Sample:
    form, files, pattern = _files(data)
    settings: dict[str, Any] = {"format": form}
    reasons = {"format": "by the names of the files" if pattern is None else "by the first bytes"}
    if pattern is not None:
        settings["files"] = pattern
    dataset = _reading(form, pattern)
    some = [files[i] for i in sorted({0, len(files) // 2, len(files) - 1})][:_FILES]
    sources = [list_sources([file], dataset)[0] for file in some]
    for source in sources:
        with closing(open_file(source.path)) as raw:
            hints.check_kind(source.path, raw.read(hints.MAGIC_BYTES), dataset)
    sample = _Sample(form, settings, reasons, files, [], [], [])
    if form == "parquet":
        for source in sources:
            _read_parquet(source, sample)
    else:
        pieces = [piece for source in sources for piece in _pieces(source, until)]
        try:
            (_read_json if form == "json" else _read_csv)([piece for piece in pieces if piece], sample)
        except csv.Error as error:
            raise DataError(f"{files[0]}: cannot be cut into fields: {error}") from error
    partitions = [dict(source.partition) for source in sources]
    for name in partitions[0]:
        sample.names.append(name)
        reasons[f"column {name}"] = "of the folders' names"
        for row, partition in zip(sample.rows, itertools.cycle(partitions), strict=False):
            row[name] = partition.get(name)
    return sample


def _reading(form: Format, pattern: str | None) -> DatasetConfig:
    """Enough of a description to find and open files."""
    any_column: dict[str, Any] = {"user": "-", "item": "-", "time": "-"}
    more: dict[str, Any] = {"header": True} if form == "csv" else {}
    return DatasetConfig(format=form, files=pattern, columns=Columns(**any_column), **more)


def _files(data: str) -> tuple[Format, list[str], str | None]:
    """The format of which there is most, its files, and a pattern for their names where their suffix says nothing."""
    names: list[str] = []
    if not data:
        raise NoLogError("data: name a file, or a folder of files")
    if is_table(data):
        raise NoLogError(f"data: {data} is a table; export some of its rows as Parquet to look at them")
    if is_address(data) or os.path.isdir(data):
        names = [name for name in list_folder(data) if not name.startswith((".", "_"))]
    elif not os.path.exists(data):
        raise NoLogError(f"data: {data} does not exist")
    counts: dict[Format, list[str]] = {}
    for form in SUFFIXES:
        dataset = _reading(form, None)
        if form == "csv":
            dataset = dataset.model_copy(update={"separator": "\t"})
        try:
            counts[form] = find_logs(data, dataset).files
        except NoLogError:
            counts[form] = []
    form = max(counts, key=lambda each: len(counts[each]))
    if counts[form]:
        return form, counts[form], None
    plain = [data] if os.path.isfile(data) else [os.path.join(data, name) for name in sorted(names)]
    plain = [path for path in plain if not os.path.isdir(path)]
    if not plain:
        raise NoLogError(f"data: the folder {data} holds no file")
    with closing(open_file(plain[0])) as raw:
        first = raw.read(hints.MAGIC_BYTES)
    sniffed: Format = "parquet" if first.startswith(b"PAR1") else "json" if first.lstrip()[:1] == b"{" else "csv"
    suffix = os.path.splitext(plain[0])[1]
    pattern = os.path.basename(plain[0]) if len(plain) == 1 or not suffix else f"*{suffix}"
    return sniffed, find_logs(data, _reading(sniffed, pattern)).files, pattern


def _pieces(source: Source, until: float) -> Iterator[bytes]:
    """Whole lines of the beginning, the middle and the end of a file, the first of them as it is."""
    with closing(open_file(source.path)) as raw:
        if source.splittable:
            for start in sorted({0, max(0, source.size // 2 - _PIECE // 2), max(0, source.size - _PIECE)}):
                raw.seek(start)
                piece = raw.read(_PIECE)
                cut = piece if not start else piece[piece.find(b"\n") + 1 :]
                yield cut if start + _PIECE >= source.size else cut[: cut.rfind(b"\n") + 1]
            return
        with unpacked(source, raw) as stream:
            piece = stream.read(_PIECE)
            yield piece if len(piece) < _PIECE else piece[: piece.rfind(b"\n") + 1]
            last = piece
            # The end of what the time suffices for.
            while (piece := stream.read(_PIECE)) and time.monotonic() < until:
                last = last[-_PIECE:] + piece
            if len(last) > _PIECE:
                lines = last[last.find(b"\n") + 1 :]
                yield lines[: lines.rfind(b"\n") + 1]


def _read_parquet(source: Source, sample: _Sample) -> None:
    with closing(open_file(source.path)) as raw:
        file = open_parquet(raw, source.path)
        for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True):
            if name not in sample.names:
                sample.names.append(name)
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                sample.times[name] = getattr(kind, "tz", None) or ""
        groups = file.num_row_groups
        for group in sorted({0, groups // 2, groups - 1}) if groups else ():
            try:
                batch = next(file.iter_batches(_ROWS, row_groups=[group]), None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{source.path}: a damaged Parquet file: {error}") from error
            for row in batch.to_pylist() if batch is not None else ():
                sample.rows.append({name: _text(value) for name, value in row.items()})


def _read_json(pieces: Sequence[bytes], sample: _Sample) -> None:
    names: dict[str, None] = {}
    broken = 0
    for line in itertools.chain.from_iterable(piece.splitlines() for piece in pieces):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            broken += 1
            continue
        names.update(dict.fromkeys(row))
        sample.rows.append({name: _text(value) for name, value in row.items()})
    sample.names = list(names)
    if broken:
        sample.warnings.append(f"{broken:,} lines are no JSON objects")


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dt.date):
        return value.isoformat()
    return json.dumps(value, default=str)


def _read_csv(pieces: Sequence[bytes], sample: _Sample) -> None:
    whole = b"\n".join(pieces)
    settings, reasons = sample.settings, sample.reasons
    encoding = "utf-8"
    try:
        whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        encoding = settings["encoding"] = "latin-1"
        reasons["encoding"] = "it is not UTF-8; it may be another one, such as cp1252 or gb18030"
        sample.warnings.append(f"encoding: {reasons['encoding']}")
    lines = [line for piece in pieces for line in piece.decode(encoding).removeprefix("\ufeff").splitlines() if line]
    if not lines:
        return
    fields_of: dict[str, Counter[int]] = {
        each: Counter(len(row) for row in csv.reader(lines[:2000], delimiter=each)) for each in _SEPARATORS
    }

    def steady(separator: str) -> tuple[float, int]:
        width, count = fields_of[separator].most_common(1)[0]
        return (count / len(lines[:2000]) if width > 1 else 0.0, width)

    separator = max(_SEPARATORS, key=steady)
    share, width = steady(separator)
    settings["separator"] = separator
    reasons["separator"] = f"{share:.1%} of the lines have {width} fields with it"
    if width < 3:
        raise DataError(
            f"{sample.files[0]}: no separator among comma, tab, semicolon and bar cuts its lines into fields; "
            f"the first is {quarantine.escape(lines[0].encode())}"
        )
    rows = [row for row in csv.reader(lines, delimiter=separator) if len(row) == width]
    if len(rows) < len(lines):
        sample.warnings.append(f"{len(lines) - len(rows):,} of {len(lines):,} lines have another number of fields")
    first, rest = rows[0], rows[1:]
    numeric = [all(re.search(r"^-?\d", row[place]) for row in rest[:200] if row[place]) for place in range(width)]
    named = len(set(first)) == width and all(cell and not re.search(r"^-?\d", cell) for cell in first)
    settings["header"] = header = bool(rest) and named and any(numeric)
    reasons["header"] = (
        "the first line has no number where the others have" if header else "the first line is a row like the others"
    )
    if not header and '"' not in whole.decode(encoding):
        settings["quote"] = None
        reasons["quote"] = "there is none in the sample"
    sample.names = first if header else [str(place) for place in range(1, width + 1)]
    # Each file has the header.
    sample.rows = [dict(zip(sample.names, row, strict=True)) for row in rows if not header or row != first]


class _Guess:
    """Gives columns their roles, each with a reason."""

    def __init__(self, sample: _Sample, columns: Mapping[str, _Column]) -> None:
        self.sample = sample
        self.columns = columns
        self.roles: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.warnings = list(sample.warnings)
        self.time: dict[str, str] = {}
        self.time_reasons: dict[str, str] = {}
        self.behaviors: dict[str, str | None] = {}
        self.ratings: dict[str, float] = {}
        self.ids: dict[str, str] = {}
        self.id_reasons: dict[str, str] = {}
        self.range = ""

    def run(self) -> None:
        """All roles; then what is odd about them."""
        self._find_time()
        self._find_exposures()
        self._find_behavior()
        for role in ("user", "item", "category"):
            self._find(role, lambda column, role=role: column.called(role), "by its name")  # type: ignore[misc]
        self._find_by_place()
        for role in ("user", "item", "category"):
            if role in self.roles:
                self._judge_ids(role, self.columns[self.roles[role]])
        self._judge_rows()

    def _free(self) -> list[_Column]:
        return [column for name, column in self.columns.items() if name not in self.roles.values() and column.values]

    def _take(self, role: str, column: _Column, reason: str) -> None:
        self.roles[role] = column.name
        self.reasons[role] = f"{reason}; {column.described()}"

    def _find(self, role: str, fits: Callable[[_Column], bool], reason: str) -> None:
        # A column of one value tells nothing, and an address or a price is no id.
        found = [column for column in self._free() if column.distinct > 1 and fits(column)]
        found.sort(key=lambda column: (column.missing > 0, not column.name.lower().endswith("id")))
        if found:
            self._take(role, found[0], reason)
            if len(found) > 1 and reason == "by its name":
                others = ", ".join(column.name for column in found[1:])
                self.warnings.append(f"{role}: {others} might be it as well as {found[0].name}")

    def _find_time(self) -> None:
        found = [(column, read) for column in self._free() if (read := self._read_time(column))]
        found.sort(key=lambda each: not each[0].called("time"))
        if not found:
            return
        column, (settings, reason, first, last) = found[0]
        self._take("time", column, "by its name and its values" if column.called("time") else "by its values")
        self.time, self.time_reasons = settings, reason
        self.range = f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}"
        if settings.get("unit", "s") != "s":
            self.warnings.append(f"time: read as {settings['unit']}, as the numbers are of these years then")
        if "zone" in reason:
            self.warnings.append(f"time.zone: {reason['zone']}")

    def _read_time(self, column: _Column) -> tuple[dict[str, str], dict[str, str], dt.datetime, dt.datetime] | None:
        """Settings, their reasons, the first and the last time, if these are times."""
        no_zone = "times have no offset: say of which zone they are"
        if column.name in self.sample.times:
            times = [dt.datetime.fromisoformat(value) for value in column.values]
            zone = {} if self.sample.times[column.name] else {"zone": no_zone}
            return {}, zone, min(times), max(times)
        if (numbers := column.integers) is not None and column.distinct > 1:
            for unit, factor in _UNITS.items():
                if all(hints.is_recent(number // factor) for number in numbers):
                    utc = dt.timezone.utc
                    first, last = (dt.datetime.fromtimestamp(n / factor, utc) for n in (min(numbers), max(numbers)))
                    return {"unit": unit}, {"unit": "numbers are of these years then"}, first, last
        for form in ("iso", *_TIME_FORMATS):
            times = _times(column.values, form)
            if times:
                local = times[0].tzinfo is None
                if local and len(column.values[0]) <= 10 and column.distinct > 1 and not column.called("time"):
                    continue
                reasons = {"format": f"{column.values[0]} is so"} | ({"zone": no_zone} if local else {})
                return {"format": form}, reasons, min(times), max(times)
        return None

    def _find_exposures(self) -> None:
        """Of a log whose rows are what was shown."""
        yes_or_no = "by its name and its values"
        self._find(
            "clicked", lambda each: each.called("clicked") and set(map(str.lower, each.values)) in _YES_OR_NO, yes_or_no
        )
        if "clicked" not in self.roles:
            return
        self.warnings.append(
            f"clicked: rows are taken for what was shown, as {self.roles['clicked']} says what of it was clicked"
        )
        self._find("request", lambda each: each.called("request") and each.missing == 0, "by its name")
        self._find("position", lambda each: each.called("position") and min(each.integers or [0]) >= 1, "by its name")

    def _find_behavior(self) -> None:
        for column in sorted(self._free(), key=lambda column: not column.called("behavior")):
            names = Counter(column.values)
            kinds = {name: _kind_of(name) for name, _ in names.most_common()}
            known = sum(names[name] for name, kind in kinds.items() if kind)
            if len(names) > _MOST_KINDS or column.numbers is not None or known < 0.5 * len(column.values):
                continue
            self._take("behavior", column, "its values are kinds of event")
            self.behaviors = dict(kinds)
            if lost := [name for name, kind in kinds.items() if kind is None]:
                self.warnings.append(f"behaviors: nothing known is called {', '.join(lost)}: such rows are left out")
            return
        for column in self._free():
            numbers = column.numbers
            if numbers and column.called("rating") and column.distinct <= 101 and max(numbers) > min(numbers):
                self._take("behavior", column, "it is a rating, by its name")
                self.ratings = {"fav": round(_FAVOURABLE * max(numbers), 2), "pv": min(numbers)}
                self.warnings.append(
                    f"ratings: at least {self.ratings['fav']:g} is taken for a positive, less for history alone"
                )
                return

    def _find_by_place(self) -> None:
        for role in ("user", "item"):
            if role not in self.roles:
                self._find(role, lambda each: each.distinct > 2 and "." not in each.values[0], "by its place alone")
                if role in self.roles:
                    self.warnings.append(f"{role}: {self.roles[role]} is a guess by its place alone")
        item = self.columns.get(self.roles.get("item", ""))
        if "category" not in self.roles and item is not None and not self.sample.settings.get("header", True):
            self._find("category", lambda column: 1 < column.distinct < item.distinct, "by its place and number alone")

    def _judge_ids(self, role: str, column: _Column) -> None:
        numbers = column.integers
        if numbers is not None and min(numbers) >= 1 and max(numbers) < 2**63:
            self.ids[role] = "integer"
            return
        self.ids[role] = "string"
        if numbers is not None:
            self.id_reasons[role] = f"{min(numbers)} is among the {role} ids, and whole numbers count from 1"
        if sum(bool(_HASHES.fullmatch(value)) for value in column.values) > 0.95 * len(column.values):
            self.warnings.append(f"{role}: {column.name} looks like hashes; strings are taken as they are")

    def _judge_rows(self) -> None:
        names = [self.roles[role] for role in Columns.model_fields if role in self.roles]
        seen = Counter(tuple(row.get(name) for name in names) for row in self.sample.rows)
        again = sum(count - 1 for count in seen.values())
        if again:
            share = again / len(self.sample.rows)
            self.warnings.append(f"duplicates: {again:,} rows ({share:.1%}) repeat another one in all of these columns")
        if "item" in self.roles and "category" in self.roles:
            pairs = {(row.get(self.roles["item"]), row.get(self.roles["category"])) for row in self.sample.rows}
            items = len({item for item, _ in pairs})
            if len(pairs) > 1.05 * items:
                self.warnings.append(f"category: items have {len(pairs) / items:.2f} of them on average; expected 1")
        if len(self.columns.get(self.roles.get("time", ""), _Column("", [], 0)).values) > 1 and not self._sorted():
            self.warnings.append("the rows are not in order of time, which they need not be")

    def _sorted(self) -> bool:
        times = [row.get(self.roles["time"]) or "" for row in self.sample.rows]
        keys = [(len(value), value) if value.isdecimal() else (0, value) for value in times]
        return keys == sorted(keys)

    def text(self, data: str) -> str:
        """The description as YAML."""
        sample = self.sample
        lines = [
            f"# What `inspect` made of {data}: {len(sample.files):,} file(s), {len(sample.rows):,} rows looked at.",
            "# All of it is guessed. Read it, mend it, and see what a run would say:",
            f"#   ctr check-data {data} --dataset THIS.yaml",
            *(f"# ! {warning}" for warning in self.warnings),
        ]
        for name, value in sample.settings.items():
            lines.append(_line(name, value, sample.reasons.get(name)))
        lines.append("columns:")
        for role in Columns.model_fields:
            if role in _OF_EXPOSURES and role not in self.roles:
                continue
            missing = "the log has none" if role in ("category", "behavior") else "not found; choose one of those below"
            lines.append(_line(f"  {role}", self._column(role), self.reasons.get(role, missing)))
        unused = [column for name, column in self.columns.items() if name not in self.roles.values()]
        if same := [column for column in unused if column.distinct < _FEWEST_VALUES]:
            lines.append("# Columns that are not used:")
            lines += [f"#   {column.name}: {column.described()}" for column in same]
        lines.append("ids:")
        for role, kind in self.ids.items():
            lines.append(_line(f"  {role}", kind, self.id_reasons.get(role)))
        if not self.ids:
            lines[-1] = "ids: integer"
        if self.behaviors:
            lines.append("behaviors:  # name in the log: pv, cart, fav or buy; null leaves such rows out")
            lines += [_line(f"  {_scalar(name)}", kind, None) for name, kind in self.behaviors.items()]
        if self.ratings:
            lines.append("ratings:  # the smallest rating that is one; lower ones are left out")
            lines += [_line(f"  {kind}", smallest, None) for kind, smallest in self.ratings.items()]
            lines.append(_line("targets", ["fav"], "the others are history alone; leave this out to take all"))
        lines.append("time:")
        lines += [_line(f"  {name}", value, self.time_reasons.get(name)) for name, value in self.time.items()]
        lines.append(_line("  zone", "UTC", self.time_reasons.get("zone", "of the window below")))
        lines.append(_line("window", "all", f"or {{start: ..., end: ...}}; the sample is of {self.range}"))
        lines.append(_line("duplicates", PUBLIC_LOG.duplicates, None))
        lines += self._features([column for column in unused if column not in same])
        # Names of columns stand in comments, too, and may hold anything.
        return "".join(
            re.sub(r"[^ -~\u00a0-\ud7ff\ue000-\U0010ffff]|[\u2028\u2029\ufeff]", "?", line) + "\n" for line in lines
        )

    def _features(self, columns: Sequence[_Column]) -> Iterator[str]:
        """Declarations of what has no role, as comments: whose a value is, and when it was known, a log cannot tell."""
        if columns:
            yield "# Columns without a role can be features (docs/features.md). Take the # off this and off those that"
            yield "# models are to look at; see whose each is, and that it was known when it was shown:"
            yield "# features:"
        taken: set[str] = set()
        for column in columns:
            owner, why = self._owner(column)
            declared = {"of": owner, "column": self._place(column.name), **self._type_of(column)}
            name = _feature_name(column.name, declared, taken)
            taken.add(name)
            yield f"#   {_line(_scalar(name), declared, f'{column.described()}; {why}')}"

    def _owner(self, column: _Column) -> tuple[str, str]:
        for role in ("item", "user", "request"):
            kept, rows = self._share_kept(column, role)
            if rows and kept >= _KEPT * rows:
                return role, f"the same in {kept / rows:.0%} of the rows of one {role}"
        known = "request" in self.roles
        return "event", "it changes from row to row" + ("" if known else ", and may be of the request")

    def _share_kept(self, column: _Column, role: str) -> tuple[int, int]:
        """Of ids that stand in several rows: the rows with the id's commonest value, and all rows."""
        if role not in self.roles:
            return 0, 0
        of_id: dict[str, Counter[str]] = {}
        for row in self.sample.rows:
            if (key := row.get(self.roles[role])) and (value := row.get(column.name)):
                of_id.setdefault(key, Counter())[value] += 1
        several = [values for values in of_id.values() if sum(values.values()) > 1]
        return sum(max(values.values()) for values in several), sum(sum(values.values()) for values in several)

    def _type_of(self, column: _Column) -> dict[str, Any]:
        whole = column.integers is not None
        if whole and not re.search(r"(id|code|type|kind)$", column.name.lower()):
            return {"type": "number"}
        if not whole and (numbers := column.numbers) is not None and all(map(math.isfinite, numbers)):
            return {"type": "number"}
        if self.sample.form != "csv" and all(value.startswith("[") for value in column.values):
            return {"type": "categories"}
        for separator in _OF_SEVERAL:
            if sum(separator in value for value in column.values) > _SEVERAL * len(column.values):
                return {"type": "categories"} | ({"separator": separator} if separator != "|" else {})
        return {"type": "category"}

    def _column(self, role: str) -> int | str | None:
        name = self.roles.get(role)
        return None if name is None else self._place(name)

    def _place(self, name: str) -> int | str:
        placed = self.sample.form == "csv" and not self.sample.settings["header"]
        return int(name) if placed and name.isdecimal() else name


def _feature_name(column: str, declared: Mapping[str, Any], taken: Collection[str]) -> str:
    """The column's name, or one like it that a feature may have."""
    words = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column), flags=re.ASCII).lower().strip("_")
    for name in (words, f"my_{words}"):
        try:
            TypeAdapter(Features).validate_python({name: declared})
        except ValidationError:
            continue
        if name not in taken:
            return name
    return f"column{len(taken) + 1}"


def _times(values: Sequence[str], form: str) -> list[dt.datetime]:
    """The values as times, or none where one of the first is none."""
    times = []
    for value in values[:500]:
        try:
            if form == "iso":
                if not re.match(r"\d{4}-\d\d-\d\d", value):
                    return []
                times.append(dt.datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", value)))
            else:
                times.append(dt.datetime.strptime(value, form))
        except ValueError:
            return []
    return times


def _kind_of(name: str) -> BehaviorName | None:
    if _UNDONE.match(name):
        return None
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return next((kind for kind, pattern in _KINDS.items() if any(re.fullmatch(pattern, word) for word in words)), None)


def _scalar(value: Any) -> str:
    quoted = '"' if isinstance(value, str) and not re.fullmatch(r"\w+", value) else None
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=quoted, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _line(name: str, value: Any, reason: str | None) -> str:
    return f"{name}: {_scalar(value)}" + (f"  # {reason}" if reason else "")
