"""A look at a log before anything runs: within a second, without Beam and TensorFlow.

What is refused here, ingest would refuse as well, later and in the same words. A log that is small enough to be seen as
a whole goes through the whole ingest in memory, writing nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ctr.components import quarantine
from ctr.components.examples import summary
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.summary import summarise
from ctr.components.files import is_address, open_file
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.counts import count_items, count_seconds
from ctr.components.impression_gen.events import (
    DUPLICATE_EVENT,
    as_text,
    count_behaviors,
    dropped_because,
    earliest,
    pack_chunk,
    sort_partition,
)
from ctr.components.impression_gen.exposures import contradictory, happened, request_rows, without_contradictory
from ctr.components.impression_gen.impressions import (
    build_impressions,
    count_impressions,
    make_requests,
    proposal_width,
    targets_of,
)
from ctr.components.impression_gen.log_reader import Task
from ctr.components.impression_gen.negatives import CatalogueIndex, propose
from ctr.components.impression_gen.plausibility import check_plausible, facts_of, repeated_items
from ctr.components.impression_gen.readers import ParquetReader, Reader, reader_of
from ctr.components.impression_gen.refusals import check_impressions, check_rows
from ctr.components.impression_gen.sources import Source, find_logs, list_sources
from ctr.components.impression_gen.spans import find_span, has_span
from ctr.components.impression_gen.tables import table_files
from ctr.components.impression_gen.targets import last_of_user
from ctr.components.impression_gen.timeline import make_timeline
from ctr.components.impression_gen.values import event_type
from ctr.components.settings import IngestConfig

BYTES: Final = 1 << 20
"""How much of a log's rows is read, of all its files together."""
_FILES: Final = 8
"""Files whose rows are read; of the others only the first bytes."""
_OF_TIME: Final = (quarantine.NEGATIVE_TIMESTAMP, quarantine.OUTSIDE_WINDOW)


@dataclass(frozen=True)
class _Seen:
    """The first rows of a log's files."""

    sources: Sequence[Source]
    blocks: list[tuple[int, ParsedBlock]]
    """(Index of the source, its first block)."""
    whole: bool
    """Whether there are no other rows."""

    @property
    def rows(self) -> int:
        return sum(block.rows for _, block in self.blocks)

    @property
    def left_out(self) -> int:
        return sum(block.left_out for _, block in self.blocks)

    def quarantined(self) -> Counter[str]:
        return Counter(row[1] for _, block in self.blocks for row in block.bad_rows)

    def examples(self) -> dict[str, list[quarantine.Example]]:
        examples: dict[str, list[quarantine.Example]] = {}
        for source, block in self.blocks:
            for line, reason, detail, text in block.bad_rows:
                kept = examples.setdefault(reason, [])
                if len(kept) < quarantine.EXAMPLES:
                    kept.append(quarantine.Example(self.sources[source].label, line + 1, detail, text))
        return examples


def look_at(data: str, ingest: IngestConfig, span: int | None = None) -> Catalogue | None:
    """Refuses what cannot be ingested, as far as the first rows tell; what lies at an address is left to the ingest.

    Returns:
      The catalogue that ingest will make, where the whole log was seen.

    Raises:
      NoLogError: if ``data`` names no log.
      DataError: if the log cannot be used; the message says why.
      OSError: if a file cannot be read.
    """
    if is_address(data):
        return None
    ingest = ingest.of_path(data)
    if has_span(data):
        number, _, data = find_span(data, span, ingest.dataset)
        ingest = ingest.of_span(number)
    found = find_logs(data, ingest.dataset)
    table_files(ingest.dataset)
    seen = _first_rows(list_sources(found.files, ingest.dataset), ingest)
    if seen.whole:
        return _rehearse(seen, ingest)
    _check_form(seen, ingest)
    return None


def _first_rows(sources: Sequence[Source], ingest: IngestConfig) -> _Seen:
    share = max(1, BYTES // min(len(sources), _FILES))
    reader = reader_of(ingest.dataset)
    blocks = []
    whole = len(sources) <= _FILES
    for index, source in enumerate(sources):
        if index >= _FILES:
            if source.member is None and source.size:
                with closing(open_file(source.path)) as file:
                    hints.check_kind(source.path, file.read(hints.MAGIC_BYTES), ingest.dataset)
            continue
        first = list(itertools.islice(_first_blocks(reader, index, source, share), 2))
        whole = whole and len(first) < 2 and (ingest.dataset.format == "parquet" or not _is_cut(source, share))
        blocks += [(index, reader.parse(source, block, ingest.window)) for block in first[:1]]
    return _Seen(sources, blocks, whole)


def _is_cut(source: Source, share: int) -> bool:
    return source.splittable and source.size > share


def _first_blocks(reader: Reader, index: int, source: Source, share: int) -> Iterator[Any]:
    """The first blocks of a log; of a plain file of lines, only so many bytes."""
    if isinstance(reader, ParquetReader):
        for task in reader.tasks([source], share):
            yield from reader.blocks(source, task, share)
        return
    end = share if _is_cut(source, share) else source.size
    yield from reader.blocks(source, Task(index, 0, 0, end), share)


def _check_form(seen: _Seen, ingest: IngestConfig) -> None:
    """Refuses a log none of whose first rows has the form of a row; of their times the others may be better."""
    counts, examples = seen.quarantined(), seen.examples()
    timely = {reason: count for reason, count in counts.items() if reason in _OF_TIME}
    if sum(counts.values()) == seen.rows and (
        not timely or hints.wrong_unit(examples.get(quarantine.OUTSIDE_WINDOW, []), ingest.dataset)
    ):
        check_rows(seen.rows, counts, examples, ingest, of="the first ")


def _rehearse(seen: _Seen, ingest: IngestConfig) -> Catalogue:
    """The ingest of a whole log, see ``build.py``, in one partition and without its output."""
    ingest = ingest.model_copy(update={"user_partitions": 1})
    chunks = [pack_chunk(source, 0, block.events) for source, block in seen.blocks]
    kind, contradictions = event_type(ingest.dataset), np.empty(0, DUPLICATE_EVENT)
    if ingest.dataset.columns.request is not None and chunks:
        rows = np.concatenate([request_rows(source, 0, block.events) for source, block in seen.blocks])
        chunks, contradictions = without_contradictory(chunks, contradictory(rows), kind)
    events, duplicates = sort_partition(chunks, ingest.dataset.duplicates, kind)
    quarantined, examples = seen.quarantined(), seen.examples()
    for reason, lost in ((quarantine.DUPLICATE, duplicates), (quarantine.CONTRADICTORY_REQUEST, contradictions)):
        if len(lost):
            quarantined[reason] = len(lost)
            first = earliest(lost, quarantine.EXAMPLES)
            examples[reason] = [_dropped(row, seen.sources) for row in first]
    check_rows(seen.rows, quarantined, examples, ingest, seen.left_out)

    timeline = make_timeline(count_seconds(events, ingest), ingest)
    items = count_items(events, timeline, ingest)
    catalogue = Catalogue.from_counts(items)
    totals = {
        summary.ROWS_READ: seen.rows,
        summary.ROWS_LEFT_OUT: seen.left_out,
        summary.USERS: int(last_of_user(events).sum()),
        **{summary.key("behavior", name): count for name, count in count_behaviors(events).items()},
        **dict(zip(summary.REPEATED_ITEMS, repeated_items(items), strict=True)),
    }
    check_plausible(facts_of(totals, catalogue, timeline), ingest.plausibility, ingest.dataset)

    ordered, targets = targets_of(events, timeline, ingest)
    requests = make_requests(ordered, targets, ingest)
    pool = happened(ordered) if ingest.dataset.shown is not None else events
    proposals = propose(pool, requests, timeline, ingest, proposal_width(ingest))
    impressions, dropped = build_impressions(events, proposals, timeline, ingest, CatalogueIndex(catalogue))
    totals |= count_impressions(events, timeline, impressions, dropped)
    boundaries = (timeline.validation_start, timeline.eval_start)
    check_impressions(summarise([], totals, boundaries), ingest)
    return catalogue


def _dropped(row: np.void, sources: Sequence[Source]) -> quarantine.Example:
    (source, _, line), (first, _, first_line) = row["place"].tolist(), row["first"].tolist()
    _, detail = dropped_because(row, f"{sources[first].label}:{first_line + 1}")
    return quarantine.Example(sources[source].label, line + 1, detail, as_text(row["event"]))
