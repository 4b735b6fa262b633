"""The description of a log: where in its files the five fields of an event stand, and what their values mean.

It is a section of the configuration, so that it travels with a run as its content, is part of what the cache compares,
and stands in the report. The fields of an event are :data:`ctr.models.impression`'s, whatever a log calls them.
"""

from __future__ import annotations

import codecs
import datetime as dt
import fnmatch
import os
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, NaiveDatetime, field_validator, model_validator

from ctr.components.features import Column, Features, TableConfig, rows_of
from ctr.models.impression import BEHAVIORS, MAX_SHOWN, BehaviorName, Encoding, Feature
from ctr.models.section import Section
from ctr.models.validation import instead_of

IdField = Literal["user", "item", "category"]
ID_FIELDS: Final[tuple[IdField, ...]] = get_args(IdField)

Format = Literal["csv", "json", "parquet", "bigquery"]
Compression = Literal["none", "gzip", "zstd", "zip"]

SUFFIXES: Final[dict[Format, tuple[str, ...]]] = {
    "csv": (".csv",),
    "json": (".json", ".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}
COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".zip": "zip", ".zst": "zstd"}
"""Behind the suffix of the format; Parquet compresses itself."""

ISO: Final = "iso"
POSITION: Final = "position"
"""Of a candidate among those of its request, counted from 1; those behind ``exposures.max_candidates`` are alike."""
_EVER: Final = dt.datetime(1970, 1, 1), dt.datetime(2099, 12, 31, 23, 59, 59)
_CSV_ALONE: Final = ("separator", "header", "quote", "encoding")


def format_of(path: str) -> Format | None:
    """The format that the suffix of a file's name says, packed or not."""
    name = path.lower()
    for form, suffixes in SUFFIXES.items():
        packed = ("",) if form == "parquet" else ("", *COMPRESSIONS)
        if name.endswith(tuple(suffix + behind for suffix in suffixes for behind in packed)):
            return form
    return None


class Columns(Section):
    """Which column holds which field of an event; all others are passed over."""

    user: Column
    item: Column
    category: Column | None = None
    """Null where the log has none: all items are then in one category."""
    behavior: Column | None = None
    """What kind of event it was, read by ``behaviors`` or ``ratings``; null where the log has none: all are pv."""
    time: Column
    clicked: Column | None = None
    """Of a log of exposures, whose rows are what was shown: whether the item was clicked, read by
    ``exposures.clicked``."""
    request: Column | None = None
    """Of such a log, what was shown at once: any values, equal ones in the rows of a request. Null: the rows of a user
    in the same second."""
    position: Column | None = None
    """Of such a log, where in its request an item was shown, from 1 on."""


class Ids(Section):
    """Whole numbers from 1 on, or strings, which become numbers by a hash (``models/string_ids.py``)."""

    user: Literal["integer", "string"] = "integer"
    item: Literal["integer", "string"] = "integer"
    category: Literal["integer", "string"] = "integer"


class Time(Section):
    """What a time is."""

    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of numbers, counted from 1970 in UTC; an event keeps whole seconds."""
    format: str | None = None
    """Of text: ``iso`` (2017-11-25T10:00:00, with or without fraction and offset) or one for strptime such as
    ``%d/%m/%Y %H:%M:%S``. Null: times are numbers, or a type of their own in Parquet."""
    zone: str = "UTC"
    """Of times without an offset, of the window and of the days in ``data``. A time that a clock shows twice is the
    earlier one; one that it leaves out counts on from before the gap."""

    @field_validator("zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError):
            raise ValueError("is no time zone of the IANA database; write e.g. UTC or Europe/Berlin") from None
        return value

    @field_validator("format")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value in (None, ISO):
            return value
        some = dt.datetime(2003, 2, 13, 14, 5, 6, tzinfo=dt.timezone.utc)
        try:
            found = dt.datetime.strptime(some.strftime(value), value).date()
        except ValueError as error:
            raise ValueError(f"is no format of strptime: {error}") from None
        if found != some.date():
            raise ValueError("does not say the day; it needs e.g. %Y, %m and %d")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Time:
        if self.format is not None and self.unit != "s":
            raise ValueError("unit is of numbers and format of text; leave one of them out")
        return self


class Window(Section):
    """The stretch of time that is kept, local to ``time.zone``."""

    start: NaiveDatetime
    """First second."""
    end: NaiveDatetime
    """Last second."""


class Exposures(Section):
    """How a log of exposures is read."""

    max_candidates: Annotated[int, Field(ge=2, le=MAX_SHOWN)] = 50
    """Of a request; of longer ones the first so many are kept, and the others counted."""
    clicked: dict[str, bool | None] | None = None
    """What stands in column ``clicked`` -> true, false, or null, which leaves such rows out. Null: 1, 0, true and
    false."""

    @field_validator("clicked")
    @classmethod
    def _both(cls, value: dict[str, bool | None] | None) -> dict[str, bool | None] | None:
        if value is not None and not {True, False} <= set(value.values()):
            raise ValueError("name what is true and what is false, as in {click: true, show: false}")
        return value


class DatasetConfig(Section):
    """A log's files, columns and values; ``ctr inspect`` writes a first one."""

    format: Format = "csv"
    """``json`` is one object a line. ``bigquery`` is a table, ``bq://project.dataset.table`` as ``data``."""
    files: str | None = None
    """Of a folder, the names that are logs, e.g. ``events-*.txt``; null: those with a suffix of the format."""
    compression: Literal["auto", "none", "gzip", "zstd", "zip"] = "auto"
    """``auto`` goes by the name: .gz, .zst, .zip. Of an archive, each file with a suffix of the format is a log."""
    separator: Annotated[str, Field(pattern=r'^[^\r\n"\w]$')] = ","
    """One character; write a tab as "\\t"."""
    header: bool = False
    """Whether the first line of each file names the columns."""
    quote: Annotated[str, Field(pattern=r"^[\"']$")] | None = '"'
    """Around a field that holds the separator; no field holds a line end. Null: a quote is a character like others."""
    encoding: str = "utf-8"
    columns: Columns
    ids: Ids = Ids()
    """``string`` or ``integer`` for all, or each its own."""
    behaviors: dict[str, BehaviorName | None] | None = None
    """The log's name of a kind of event -> pv, cart, fav or buy; null leaves such rows out."""
    ratings: dict[BehaviorName, float] | None = None
    """Where column ``behavior`` is a number: kind of event -> the smallest number that is one; rows below all are left
    out. E.g. ``{fav: 4, pv: 2}``."""
    targets: Annotated[tuple[BehaviorName, ...], Field(min_length=1)] | None = None
    """Kinds that become positives; the others are history alone. Null: all."""
    exposures: Exposures | None = None
    """Of a log with a column ``clicked``: its requests are the impressions, and what was shown in them the
    candidates."""
    time: Time = Time()
    window: Annotated[Window | None, BeforeValidator(lambda value: None if value == "all" else value)] = None
    """``all``, or null: every event from 1970 to 2099."""
    duplicates: Literal["same_event", "same_item_and_second", "none"] = "same_event"
    """Of rows alike in user, item, category, behaviour and second the first is kept, or of those alike in user, item
    and second; or all are."""
    features: Features = Field(default_factory=dict)
    """Features of one's own: name -> declaration, e.g. ``{price: {of: item, column: price, type: number}}``; see
    docs/features.md."""
    tables: dict[str, TableConfig] = Field(default_factory=dict)
    """Name -> table beside the log that features are taken from."""

    @model_validator(mode="before")
    @classmethod
    def _of_all_ids(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("ids"), str):
            columns = values.get("columns")
            given = columns if isinstance(columns, dict) else getattr(columns, "__dict__", {})
            there = [field for field in ID_FIELDS if given.get(field) is not None]
            return {**values, "ids": dict.fromkeys(there, values["ids"])}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> DatasetConfig:
        for name in _CSV_ALONE if self.format != "csv" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of format csv alone; leave it out for {self.format}")
        if self.format in ("parquet", "bigquery") and self.compression != "auto":
            raise ValueError(f"compression: {self.format} compresses itself; leave it out")
        if self.format == "bigquery" and self.files is not None:
            raise ValueError("files: a table has none; leave it out")
        named = self.format != "csv" or self.header
        columns = {f"columns.{field}": column for field, column in self.given_columns()}
        columns |= {f"features.{name}.column": each for name, each in self.all_columns() if name in self.features}
        for field, column in columns.items():
            if named and isinstance(column, int):
                raise ValueError(f"{field}: give the column's name, as the log has names (got {column})")
            if not named and isinstance(column, str):
                raise ValueError(
                    f"{field}: without a header give the column's place, counted from 1 (got {column!r}); or "
                    "set header to true"
                )
        self._check_behaviors()
        self._check_exposures()
        self._check_tables()
        if self.columns.category is None and self.ids.category != "integer":
            raise ValueError("ids.category: there is no column of categories; set columns.category, or leave it out")
        if self.window is not None and self.window.end <= self.window.start:
            raise ValueError("window.end must be after window.start")
        return self

    def _check_behaviors(self) -> None:
        given = [name for name in ("behaviors", "ratings") if getattr(self, name) is not None]
        if self.columns.behavior is None and given:
            raise ValueError(f"{given[0]}: there is no column to read it from; set columns.behavior")
        if self.columns.behavior is not None and len(given) != 1:
            raise ValueError(
                "columns.behavior is read by behaviors (names of events) or by ratings (numbers); give one of them"
            )
        if not self.kinds:
            raise ValueError(f"{given[0]}: name at least one kind of {', '.join(BEHAVIORS)}")
        if len(set(self.targets or ())) != len(self.targets or ()):
            raise ValueError("targets: name each kind once")
        if unknown := sorted(set(self.targets or ()) - set(self.kinds)):
            raise ValueError(f"targets: no event becomes {unknown[0]}; there are {', '.join(self.kinds)}")

    def _check_exposures(self) -> None:
        if self.columns.clicked is None:
            for name in ("request", "position"):
                if getattr(self.columns, name) is not None:
                    raise ValueError(f"columns.{name}: belongs to a log of exposures; set columns.clicked, too")
            if self.exposures is not None:
                raise ValueError("exposures: nothing says what was clicked; set columns.clicked")
        elif self.targets is not None:
            raise ValueError(
                "targets: of a log of exposures (columns.clicked) what was clicked is the label; leave it out"
            )

    def _check_tables(self) -> None:
        for name, feature in self.features.items():
            if feature.table is None:
                continue
            if (table := self.tables.get(feature.table)) is None:
                raise ValueError(
                    f"features.{name}.table is {feature.table!r}; {instead_of(feature.table, self.tables)}"
                )
            if table.of != feature.of:
                raise ValueError(f"features.{name}: table {feature.table} is of the {table.of}; set of to {table.of}")
        for name, table in self.tables.items():
            if format_of(table.path) is None:
                known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
                raise ValueError(f"tables.{name}.path: {table.path} has none of the suffixes {known}; rename it")
        used = {feature.table for feature in self.features.values()}
        if unused := [name for name in self.tables if name not in used]:
            raise ValueError(f"tables.{unused[0]}: no feature is taken from it; name it as a feature's table")

    @field_validator("encoding")
    @classmethod
    def _of_ascii(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
            usual = bytes(range(128)).decode(name) == "".join(map(chr, range(128)))
        except (LookupError, UnicodeError):
            raise ValueError("is no encoding of text; write e.g. utf-8, latin-1 or gb18030") from None
        if not usual:
            raise ValueError(
                "does not hold line ends as ASCII does; convert the files, e.g. iconv -f UTF-16 -t UTF-8 old > log.csv"
            )
        return name

    @property
    def rows(self) -> list[Feature]:
        """What this log adds to the table of features."""
        return [*rows_of(self.features), *self._position()]

    def _position(self) -> Iterator[Feature]:
        """Where an item was shown: learned from, and asked for as if all stood first (0: it was not shown)."""
        if self.shown is not None and self.columns.position is not None:
            last = self.shown.max_candidates
            yield Feature(
                f"candidate_{POSITION}",
                "candidate",
                POSITION,
                dtype="float",
                declared=POSITION,
                encoding=Encoding("buckets", boundaries=tuple(map(float, range(1, 1 + last)))),
                served=1,
            )

    @property
    def kinds(self) -> tuple[BehaviorName, ...]:
        """The kinds of event that rows can become, in the order of the codes."""
        if self.columns.behavior is None:
            return (get_args(BehaviorName)[0],)
        found = set(self.ratings or ()) | set((self.behaviors or {}).values())
        return tuple(name for name in get_args(BehaviorName) if name in found)

    @property
    def shown(self) -> Exposures | None:
        """How exposures are read; None where the log has none."""
        return (self.exposures or Exposures()) if self.columns.clicked is not None else None

    @property
    def zone(self) -> ZoneInfo:
        """Of the window and of times without an offset."""
        return ZoneInfo(self.time.zone)

    @property
    def bounds(self) -> tuple[dt.datetime, dt.datetime]:
        """First and last second kept, local to :attr:`zone`."""
        return (self.window.start, self.window.end) if self.window else _EVER

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the names of logs."""
        packed = ("", *COMPRESSIONS) if self.format in ("csv", "json") else ("",)
        return tuple(suffix + behind for suffix in self.plain_suffixes for behind in packed)

    @property
    def plain_suffixes(self) -> tuple[str, ...]:
        """Likewise, of files that are not packed."""
        tabs = (".tsv",) if self.separator == "\t" else ()
        return (*SUFFIXES.get(self.format, ()), *tabs)

    @property
    def is_public_form(self) -> bool:
        """Whether rows have the public log's form, whatever they are used for: such are read fastest."""
        if any(feature.in_log for feature in self.features.values()):
            return False
        of_form = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_OF_FORM}
        public = {name: getattr(PUBLIC_LOG, name) for name in of_form}
        return of_form == public and (self.time.unit, self.time.format) == ("s", None)

    @property
    def string_ids(self) -> tuple[IdField, ...]:
        """The fields whose ids are strings."""
        return tuple(field for field in ID_FIELDS if getattr(self.ids, field) == "string")

    def given_columns(self) -> Iterator[tuple[str, int | str]]:
        """Field of an event -> its column, of those that the log has."""
        for field in Columns.model_fields:
            if (column := getattr(self.columns, field)) is not None:
                yield field, column

    def all_columns(self) -> Iterator[tuple[str, int | str]]:
        """Likewise, and then declared feature -> its column."""
        yield from self.given_columns()
        for name, feature in self.features.items():
            if feature.column is not None and feature.in_log:
                yield name, feature.column

    def is_log(self, name: str) -> bool:
        """Whether a file of this name is one."""
        if self.files is not None:
            return fnmatch.fnmatchcase(os.path.basename(name), self.files)
        return name.lower().endswith(self.suffixes)

    def compression_of(self, path: str) -> Compression:
        """How a file is packed, by its name where nothing is said."""
        if self.format not in ("csv", "json"):
            return "none"
        by_name = COMPRESSIONS.get(os.path.splitext(path.lower())[1], "none")
        return by_name if self.compression == "auto" else self.compression

    def column_of(self, field: str) -> str:
        """A column in words, for messages."""
        column = dict(self.all_columns())[field]
        return f"column {column}" if isinstance(column, int) else f"column {column!r}"

    def unknown_column(self, field: str, there: list[str], where: str) -> str:
        """What to say of a column that a file does not have, or has several times."""
        column = dict(self.all_columns())[field]
        setting = "ingest.dataset." + (f"features.{field}.column" if field in self.features else f"columns.{field}")
        if column in there:
            return f"{where}: {setting} is {column!r}, which {there.count(column)} columns are called"
        if isinstance(column, int):
            return f"{where}: {setting} is {column}, and the first line has {len(there)} fields"
        return f"{where}: {setting} is {column!r}; {instead_of(column, there)}"


_NOT_OF_FORM: Final = ("files", "compression", "targets", "time", "window", "duplicates", "features", "tables")

PUBLIC_LOG: Final = DatasetConfig(
    quote=None,
    columns=Columns(user=1, item=2, category=3, behavior=4, time=5),
    behaviors={name: name for name in BEHAVIORS},
    time=Time(zone="Asia/Shanghai"),
    # Its nine days.
    window=Window(start=dt.datetime(2017, 11, 25), end=dt.datetime(2017, 12, 3, 23, 59, 59)),
)
"""UserBehavior.csv's; its days are Shanghai days: its first row is 25 November there and 24 November in UTC."""
