"""What a run would say of a log, from a sample of it: of each file the beginning, the middle and the end.

Of a compressed file of lines it is the beginning alone: what is behind it would have to be unpacked.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ctr.components import quarantine
from ctr.components.examples import summary
from ctr.components.examples.catalogue import Catalogue
from ctr.components.files import is_address
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.counts import count_items, count_seconds
from ctr.components.impression_gen.events import (
    CLICKED,
    NOT_CLICKED,
    NOT_SHOWN,
    count_behaviors,
    pack_chunk,
    sort_partition,
)
from ctr.components.impression_gen.log_reader import Task
from ctr.components.impression_gen.look import look_at
from ctr.components.impression_gen.plausibility import check_plausible, facts_of, repeated_items
from ctr.components.impression_gen.readers import ParquetReader, Reader, reader_of
from ctr.components.impression_gen.refusals import check_rows
from ctr.components.impression_gen.sources import Source, find_logs, list_sources
from ctr.components.impression_gen.spans import find_span, has_span
from ctr.components.impression_gen.tables import table_values
from ctr.components.impression_gen.targets import last_of_user
from ctr.components.impression_gen.timeline import make_timeline
from ctr.components.impression_gen.values import event_type
from ctr.components.settings import IngestConfig
from ctr.models.errors import ConfigError, DataError

_FILES: Final = 9
_BYTES: Final = 3 << 20
"""Of all files together, where they are no Parquet."""


@dataclass
class Checked:
    """What was found."""

    files: list[str]
    ignored: list[str]
    """Names that are no log's."""
    whole: bool = False
    """Whether every row was seen, and went through the whole ingest."""
    rows: int = 0
    left_out: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    """Reason -> rows of the sample; duplicates are found in the whole log alone."""
    examples: dict[str, list[quarantine.Example]] = field(default_factory=dict)
    """Of each reason some; a line is known in the first block of a file alone, and 0 elsewhere."""
    behaviors: dict[str, int] = field(default_factory=dict)
    """Events of each kind; what was shown and not clicked is none."""
    exposures: dict[str, int] = field(default_factory=dict)
    """Of a log of exposures: rows that were ``shown``, and of these ``clicked``."""
    first_second: int | None = None
    last_second: int | None = None
    unused: list[str] = field(default_factory=list)
    """Columns that the description does not name."""
    refusal: str | None = None
    """Why a run would stop, or would as far as the sample tells."""
    warning: str | None = None
    """What of the sample is not plausible; the whole log may be."""


def check(data: str, ingest: IngestConfig, span: int | None = None) -> Checked:
    """Looks at a log as a run would.

    Raises:
      ConfigError: if ``data`` names no log, or a table.
      DataError: if a file is damaged, not of the kind that its name says, or lacks a column.
      OSError: if a file cannot be read.
    """
    if ingest.dataset.format == "bigquery":
        raise ConfigError("check-data reads files, and no table; export some of its rows as Parquet to look at them")
    ingest, path = ingest.of_path(data), data
    if has_span(data):
        number, _, path = find_span(data, span, ingest.dataset)
        ingest = ingest.of_span(number)
    found = find_logs(path, ingest.dataset)
    sources = list_sources(found.files, ingest.dataset)
    reader = reader_of(ingest.dataset)
    checked = Checked(found.files, found.ignored)
    used = {column for _, column in ingest.dataset.all_columns()}
    columns = dict.fromkeys(itertools.chain.from_iterable(map(reader.columns, _some(sources))))
    checked.unused = [name for name in columns if name not in used]
    blocks = list(_sample(reader, sources, ingest))
    _count(checked, blocks, sources)
    try:
        for name in ingest.dataset.tables:
            table_values(name, ingest.dataset)
        checked.whole = not is_address(path) and look_at(data, ingest, span) is not None
        if not checked.whole:
            _judge(checked, blocks, ingest)
    except DataError as error:
        checked.refusal = str(error)
    return checked


def _some(sources: Sequence[Source]) -> list[Source]:
    """The first, the last, and those between at equal distances."""
    if len(sources) <= _FILES:
        return list(sources)
    return [sources[i * (len(sources) - 1) // (_FILES - 1)] for i in range(_FILES)]


def _sample(reader: Reader, sources: Sequence[Source], ingest: IngestConfig) -> Iterator[tuple[int, bool, ParsedBlock]]:
    """Index of the source, whether its lines count from its first, and the rows."""
    some = _some(sources)
    share = _BYTES // len(some) // 3
    for source in some:
        for task in _places(reader, source, share):
            for block in itertools.islice(reader.blocks(source, task, share), 1):
                yield sources.index(source), not task.start, reader.parse(source, block, ingest.window)


def _places(reader: Reader, source: Source, share: int) -> list[Task]:
    tasks = reader.tasks([source], share)
    if not isinstance(reader, ParquetReader) and not source.splittable:
        return tasks
    return [tasks[i] for i in sorted({0, len(tasks) // 2, len(tasks) - 1})] if tasks else []


def _count(checked: Checked, blocks: Sequence[tuple[int, bool, ParsedBlock]], sources: Sequence[Source]) -> None:
    behaviors: Counter[str] = Counter()
    exposures: Counter[str] = Counter()
    for source, from_first, block in blocks:
        checked.rows += block.rows
        checked.left_out += block.left_out
        if shown := "shown" in (block.events.dtype.names or ()):
            exposures.update({"shown": int((block.events["shown"] != NOT_SHOWN).sum())})
            exposures.update({"clicked": int((block.events["shown"] == CLICKED).sum())})
        happened = block.events[block.events["shown"] != NOT_CLICKED] if shown else block.events
        behaviors.update(count_behaviors(happened))
        if len(block.events):
            first, last = int(block.events["timestamp"].min()), int(block.events["timestamp"].max())
            checked.first_second = first if checked.first_second is None else min(first, checked.first_second)
            checked.last_second = last if checked.last_second is None else max(last, checked.last_second)
        for line, reason, detail, text in block.bad_rows:
            checked.quarantined[reason] += 1
            kept = checked.examples.setdefault(reason, [])
            if len(kept) < quarantine.EXAMPLES:
                example = quarantine.Example(sources[source].label, from_first * (line + 1), detail, text)
                kept.append(example)
    checked.behaviors = {name: count for name, count in behaviors.items() if count}
    checked.exposures = dict(exposures)


def _judge(checked: Checked, blocks: Sequence[tuple[int, bool, ParsedBlock]], ingest: IngestConfig) -> None:
    """Of a log that was not seen as a whole.

    Raises:
      DataError: if more rows of the sample than a bound allows cannot be used.
    """
    check_rows(checked.rows, checked.quarantined, checked.examples, ingest, checked.left_out, of="the sampled ")
    alone = ingest.model_copy(update={"user_partitions": 1})
    chunks = [pack_chunk(number, 0, block.events) for number, (_, _, block) in enumerate(blocks)]
    events, _ = sort_partition(chunks, ingest.dataset.duplicates, event_type(ingest.dataset))
    try:
        timeline = make_timeline(count_seconds(events, alone), alone)
        items = count_items(events, timeline, alone)
        totals: dict[str, Any] = {
            summary.USERS: int(last_of_user(events).sum()),
            **{summary.key("behavior", name): count for name, count in count_behaviors(events).items()},
            **dict(zip(summary.REPEATED_ITEMS, repeated_items(items), strict=True)),
        }
        facts = facts_of(totals, Catalogue.from_counts(items), timeline)
        check_plausible(facts, ingest.plausibility, ingest.dataset)
    except DataError as error:
        checked.warning = str(error)
