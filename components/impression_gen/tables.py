"""Tables beside the log: values that hold of items or users whoever's events the log has, always or from a time on.

A table is read by the readers of logs, so its ids, times and values are written and judged as a log's are. It is small
beside a log: a row that cannot be used is refused, and one worker holds a table while it reads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np

from ctr.components.dataset import Columns, DatasetConfig, Ids, Time, format_of
from ctr.components.files import stat
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.events import Records
from ctr.components.impression_gen.hashing import id_hash
from ctr.components.impression_gen.readers import reader_of
from ctr.components.impression_gen.sources import NoLogError, Source, find_logs, list_sources
from ctr.components.impression_gen.values import change_type, merge_values, of_source
from ctr.models.errors import DataError

_ALWAYS: Final = "from the beginning on"
"""Stands for a column of times in a table that has none."""
_BEGINNING: Final = -(2**62)
_BLOCK_BYTES: Final = 32 << 20


def table_files(dataset: DatasetConfig) -> list[tuple[str, int, int]]:
    """Path, size and time of the files of all tables.

    Raises:
      ConfigError: if there is no such file; the message names the table.
      OSError: if one cannot be read.
    """
    files = []
    for name in dataset.tables:
        form = _form(name, dataset)
        files += [(source.path, *stat(source.path)) for source in _sources(name, dataset, form)]
    return files


def table_values(name: str, dataset: DatasetConfig) -> Records:
    """The values of a table as ``values.ItemValues`` takes them; the key is of the items or users that it is of.

    Raises:
      ConfigError: if there is no such file.
      DataError: if a column is missing, a row cannot be used, or, without a time, two rows have one key.
    """
    config = dataset.tables[name]
    features = of_source(dataset.features, name)
    form = _form(name, dataset)
    blocks = list(_blocks(name, dataset, form))
    if not any(len(block.events) for block in blocks):
        raise DataError(f"ingest.dataset.tables.{name}: {config.path} has no row; give a table with some")
    events = np.concatenate([block.events for block in blocks])
    found = np.empty(len(events), change_type(features))
    found["key"], found["values"] = id_hash(events["item"]), events["values"]
    found["time"] = events["timestamp"] if config.time is not None else _BEGINNING
    if config.time is None:
        repeated = int((np.unique(events["item"], return_counts=True)[1] > 1).sum())
        if repeated:
            raise DataError(
                f"ingest.dataset.tables.{name}: {repeated:,} values of its key, column {config.key!r}, stand in "
                f"several rows of {config.path}; keep one row of each, or name the column of the time from which on a "
                f"row holds (tables.{name}.time)"
            )
    return merge_values(found)


def _form(name: str, dataset: DatasetConfig) -> DatasetConfig:
    """The description of a table as a log of its own."""
    config = dataset.tables[name]
    kind = getattr(dataset.ids, config.of)
    form = format_of(config.path)
    return DatasetConfig(
        format=form or "csv",
        header=form == "csv",
        columns=Columns(user=config.key, item=config.key, time=config.time or _ALWAYS),
        ids=Ids(user=kind, item=kind),
        time=dataset.time if config.time else Time(),
        features={
            each: one.model_copy(update={"table": None}) for each, one in of_source(dataset.features, name).items()
        },
    )


def _sources(name: str, dataset: DatasetConfig, form: DatasetConfig) -> list[Source]:
    config = dataset.tables[name]
    try:
        files = find_logs(config.path, form).files
    except NoLogError as error:
        raise NoLogError(f"ingest.dataset.tables.{name}.path: {str(error).removeprefix('data: ')}") from error
    sources = list_sources(files, form)
    if config.time is not None:
        return sources
    return [dataclasses.replace(source, partition=(*source.partition, (_ALWAYS, "0"))) for source in sources]


def _blocks(name: str, dataset: DatasetConfig, form: DatasetConfig) -> Iterator[ParsedBlock]:
    config = dataset.tables[name]
    reader = reader_of(form)
    sources = _sources(name, dataset, form)
    lines: dict[int, int] = {}
    try:
        for task in reader.tasks(sources, _BLOCK_BYTES):
            source = sources[task.source]
            for block in reader.blocks(source, task, _BLOCK_BYTES):
                parsed = reader.parse(source, block, (0, 2**62))
                if parsed.bad_rows:
                    line, reason, detail, text = parsed.bad_rows[0]
                    what = config.of + detail.removeprefix("user") if detail.startswith("user") else detail
                    raise DataError(
                        f"ingest.dataset.tables.{name}: {source.path}, line {1 + line + lines.get(task.source, 0)}: "
                        f"{reason} ({what}): {text}; mend the row, or take it out"
                    )
                lines[task.source] = lines.get(task.source, 0) + parsed.lines
                yield parsed
    except DataError as error:
        # The readers know a log's settings.
        message = str(error)
        for role, setting in (("user", "key"), ("time", "time")):
            message = message.replace(f"ingest.dataset.columns.{role}", f"ingest.dataset.tables.{name}.{setting}")
        raise DataError(message) from error
