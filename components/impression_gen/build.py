"""The ingest as a Beam pipeline, without TFX.

::

    blocks of lines -> events by user partition -> sorted partitions --+-> events by stretch of time --+
          |                    |                     |        |        |                               v
          v                    v                     v        v        +-> requests ----------> proposals
      bad rows            lines per block       duplicates  counts                                     |
          +-----> quarantine <-+---------------------+        +-> timeline, catalogue --> impressions <-+

What travels between steps are packed records as bytes; no step holds more than one block, one partition of users
or one stretch of time, besides the catalogue.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Final, TypeVar

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from components.config import IngestConfig
from components.impression_gen import quarantine, summary
from components.impression_gen.catalogue import Catalogue
from components.impression_gen.counts import ITEM_COUNT, SECOND_COUNT, MergeCounts, merge_counts
from components.impression_gen.events import DUPLICATE_EVENT, EVENT, pack_chunk, sort_partition
from components.impression_gen.hashing import partition_of
from components.impression_gen.impressions import build_impressions, make_requests, proposal_width
from components.impression_gen.log_reader import Source, Task, list_sources, list_tasks, parse_block, read_blocks
from components.impression_gen.negatives import REQUEST, proposal, propose
from components.impression_gen.summary import IngestSummary, summarise
from components.impression_gen.targets import find_targets, last_of_user
from components.impression_gen.timeline import Timeline, make_timeline
from components.impression_gen.writer import remove_temporary_files, shard_path, write_shard
from models.impression import BEHAVIORS, SPLITS

_COUNTS: Final = "counts"
_BAD_ROWS: Final = "bad_rows"
_LINES: Final = "lines"
_DUPLICATES: Final = "duplicates"
_SECONDS: Final = "seconds"
_EVENTS: Final = "events"
_REQUESTS: Final = "requests"
_PROPOSALS: Final = "proposals"

_PACKED: Final = beam.typehints.Tuple[int, bytes]
_COUNT: Final = beam.typehints.Tuple[str, int]
_NUMBERED: Final = beam.typehints.Tuple[beam.typehints.Tuple[int, int], str]

_T = TypeVar("_T")

_MEGABYTE: Final = 1 << 20
_NAMES_OF_CODES: Final = {code: name for name, code in BEHAVIORS.items()}

Packed = tuple[int, bytes]
LineCount = tuple[int, int, int]
"""Log file, block, lines."""
FirstLines = dict[tuple[int, int], int]
"""(log file, block) -> 1-based number of the block's first line."""


def run_ingest(
    pipeline: beam.Pipeline,
    files: Sequence[str],
    ingest: IngestConfig,
    examples_uri: str,
    catalogue_uri: str,
    quarantine_uri: str,
) -> None:
    """Adds the ingest to a pipeline.

    The result does not depend on the runner, the number of workers or ``block_megabytes``; nor on how the log is
    cut into files, but for events of one user in the same second, which keep the order of the files.

    Args:
      pipeline: to be run by the caller.
      files: paths of logs, see ``log_reader.find_files``; read in this order.
      ingest: the settings.
      examples_uri: gets ``Split-train``, ``Split-validation``, ``Split-eval``.
      catalogue_uri: gets the catalogue and the summary of the ingest.
      quarantine_uri: gets the rows that could not be used.

    Raises:
      ValueError: if an archive cannot be listed. While the pipeline runs: if a file is damaged, no row can be used, or
        a split would have no event.
    """
    sources = list_sources(files)
    block_bytes = ingest.block_megabytes * _MEGABYTE
    tasks = [(t.source, t.block, t.start, t.end) for t in list_tasks(sources, block_bytes)]
    read = (
        pipeline
        | "Tasks" >> beam.Create(tasks)
        | "ReadAndParse"
        >> beam.ParDo(ReadAndParse(sources, ingest)).with_outputs(_BAD_ROWS, _LINES, _COUNTS, main=_EVENTS)
    )
    first_lines = beam.pvalue.AsSingleton(
        read[_LINES] | "ListLines" >> beam.combiners.ToList() | "FirstLines" >> beam.Map(_first_lines)
    )
    partitions = pipeline | "Partitions" >> beam.Create([(p, b"") for p in range(ingest.user_partitions)])
    sorted_partitions = (
        (_keyed(read[_EVENTS], "Chunks"), _keyed(partitions, "EmptyChunks"))
        | "AllPartitions" >> beam.Flatten()
        | "GroupByPartition" >> beam.GroupByKey()
        | "SortPartition"
        >> beam.ParDo(SortPartition(ingest)).with_outputs(_DUPLICATES, _SECONDS, _COUNTS, main=_EVENTS)
    )
    events = _keyed(sorted_partitions[_EVENTS], "Events")

    numbered = (
        read[_BAD_ROWS] | "NumberBadRows" >> beam.FlatMap(_number_bad_rows, first_lines).with_output_types(_NUMBERED),
        sorted_partitions[_DUPLICATES]
        | "NumberDuplicates" >> beam.FlatMap(_number_duplicates, sources, first_lines).with_output_types(_NUMBERED),
    )
    _ = (
        numbered
        | "AllBadRows" >> beam.Flatten()
        | "GroupBadRows" >> beam.GroupByKey()
        | "WriteQuarantine" >> beam.Map(_write_quarantine, sources, quarantine_uri)
    )

    reading_counts = (read[_COUNTS], sorted_partitions[_COUNTS]) | "ReadingCounts" >> beam.Flatten()
    reading_totals = _totals(reading_counts, "Reading")
    timeline_json = (
        sorted_partitions[_SECONDS]
        | "MergeSeconds" >> beam.CombineGlobally(MergeCounts(SECOND_COUNT))
        | "Timeline" >> beam.Map(_timeline, ingest, beam.pvalue.AsDict(reading_totals))
    )
    timeline = beam.pvalue.AsSingleton(timeline_json)
    item_counts = (
        events
        | "CountItems" >> beam.Map(_count_items, ingest, timeline)
        | "MergeItems" >> beam.CombineGlobally(MergeCounts(ITEM_COUNT))
    )
    catalogue = beam.pvalue.AsSingleton(item_counts | "Catalogue" >> beam.Map(_pack_catalogue))

    asked = events | "Ask" >> beam.ParDo(Ask(ingest), timeline).with_outputs(_EVENTS, _REQUESTS)
    proposals = (
        {key: _keyed(asked[key], f"By time: {key}") for key in (_EVENTS, _REQUESTS)}
        | "GroupByTime" >> beam.CoGroupByKey()
        | "Propose" >> beam.ParDo(Propose(ingest), timeline)
    )
    impression_counts = (
        {_EVENTS: events, _PROPOSALS: _keyed(proposals, "Proposals")}
        | "GroupProposals" >> beam.CoGroupByKey()
        | "WriteImpressions" >> beam.ParDo(WriteImpressions(ingest, examples_uri), timeline, catalogue)
    )
    item_facts = item_counts | "ItemFacts" >> beam.Map(_item_facts)
    totals = _totals((reading_totals, impression_counts, item_facts) | "AllCounts" >> beam.Flatten(), "All")
    _ = (
        pipeline
        | "Once" >> beam.Create([[source.label for source in sources]])
        | "Finish" >> beam.Map(_finish, examples_uri, catalogue_uri, beam.pvalue.AsDict(totals), timeline, catalogue)
    )


def _keyed(packed: beam.PCollection, name: str) -> beam.PCollection:
    """Says that elements are (int, bytes), which a tagged output cannot, so that Beam codes them as that."""
    return packed | name >> beam.Map(_same).with_output_types(_PACKED)


def _totals(counts: beam.PCollection, name: str) -> beam.PCollection:
    typed = counts | f"Counts{name}" >> beam.Map(_same).with_output_types(_COUNT)
    return typed | f"Sum{name}" >> beam.CombinePerKey(sum)


def _same(element: _T) -> _T:
    return element


class ReadAndParse(beam.DoFn):
    """A task's lines -> (partition, chunk of events); bad rows, lines and counts aside."""

    def __init__(self, sources: Sequence[Source], ingest: IngestConfig) -> None:
        self._sources = sources
        self._ingest = ingest
        self._rows = Metrics.counter("ingest", "rows_read")
        self._bad = Metrics.counter("ingest", "rows_quarantined")

    def process(self, task: tuple[int, int, int, int]) -> Iterator[Packed | beam.pvalue.TaggedOutput]:
        """Reads one task block by block."""
        where = Task(*task)
        block_bytes = self._ingest.block_megabytes * _MEGABYTE
        for block, data in read_blocks(self._sources[where.source], where, block_bytes):
            yield from self._parse(where.source, block, data)

    def _parse(self, source: int, block: int, data: bytes) -> Iterator[Packed | beam.pvalue.TaggedOutput]:
        parsed = parse_block(data, self._ingest.window)
        self._rows.inc(parsed.lines)
        self._bad.inc(len(parsed.bad_rows))
        yield beam.pvalue.TaggedOutput(_LINES, (source, block, parsed.lines))
        yield beam.pvalue.TaggedOutput(_COUNTS, (summary.ROWS_READ, parsed.lines))
        if parsed.bad_rows:
            text = "".join(quarantine.record(*row) for row in parsed.bad_rows)
            yield beam.pvalue.TaggedOutput(_BAD_ROWS, (source, block, text))
        for reason in quarantine.REASONS:
            count = sum(row[1] == reason for row in parsed.bad_rows)
            yield beam.pvalue.TaggedOutput(_COUNTS, (summary.quarantined_key(reason), count))
        if not len(parsed.events):
            return
        partition = partition_of(parsed.events["user"], self._ingest.user_partitions)
        order = np.argsort(partition, kind="stable")
        present, starts = np.unique(partition[order], return_index=True)
        for key, rows in zip(present, np.split(parsed.events[order], starts[1:]), strict=True):
            yield int(key), pack_chunk(source, block, rows)


class SortPartition(beam.DoFn):
    """(partition, chunks) -> (partition, events in order); duplicates and counts aside."""

    def __init__(self, ingest: IngestConfig) -> None:
        self._ingest = ingest

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Packed | beam.pvalue.TaggedOutput]:
        """Sorts one partition."""
        partition, chunks = element
        events, duplicates = sort_partition(chunk for chunk in chunks if chunk)
        yield partition, events.tobytes()
        if len(duplicates):
            yield beam.pvalue.TaggedOutput(_DUPLICATES, duplicates.tobytes())
        # The shares of the splits are of these.
        counted = events[last_of_user(events)] if self._ingest.targets == "last" else events
        seconds = np.ones(len(counted), SECOND_COUNT)
        seconds["second"] = counted["timestamp"]
        yield beam.pvalue.TaggedOutput(_SECONDS, merge_counts(seconds).tobytes())
        yield beam.pvalue.TaggedOutput(_COUNTS, (summary.quarantined_key(quarantine.DUPLICATE), len(duplicates)))
        yield beam.pvalue.TaggedOutput(_COUNTS, (summary.USERS, len(np.unique(events["user"]))))


class Ask(beam.DoFn):
    """(partition, events) -> (bucket, events) and (bucket, requests)."""

    def __init__(self, ingest: IngestConfig) -> None:
        self._ingest = ingest

    def process(self, element: Packed, timeline_json: str) -> Iterator[beam.pvalue.TaggedOutput]:
        """Sends what each stretch of time needs of one partition."""
        partition, packed = element
        timeline = Timeline.from_json(timeline_json)
        events = np.frombuffer(packed, EVENT)
        requests = make_requests(events, find_targets(events, timeline, self._ingest), self._ingest)
        buckets = timeline.buckets(requests["timestamp"])
        asked = np.unique(buckets)
        by_time = events[np.argsort(events["timestamp"], kind="stable")]
        starts = np.searchsorted(by_time["timestamp"], timeline.bucket_starts, side="left")
        ends = np.searchsorted(by_time["timestamp"], timeline.bucket_ends, side="left")
        for bucket, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if end > start:
                yield beam.pvalue.TaggedOutput(_EVENTS, (bucket, by_time[start:end].tobytes()))
        for bucket in asked:
            rows = requests[buckets == bucket]
            yield beam.pvalue.TaggedOutput(_REQUESTS, (int(bucket), _partition_header(partition) + rows.tobytes()))


def _partition_header(partition: int) -> bytes:
    return partition.to_bytes(4, "little")


class Propose(beam.DoFn):
    """(bucket, its events and requests) -> (partition, proposals)."""

    def __init__(self, ingest: IngestConfig) -> None:
        self._ingest = ingest

    def process(self, element: tuple[int, dict[str, Iterable[bytes]]], timeline_json: str) -> Iterator[Packed]:
        """Answers the requests of one stretch of time."""
        _, grouped = element
        timeline = Timeline.from_json(timeline_json)
        events = np.frombuffer(b"".join(grouped[_EVENTS]), EVENT)
        packed = list(grouped[_REQUESTS])
        if not packed:
            return
        # All at once: the events are put in order once, not once a partition.
        requests = [np.frombuffer(part, REQUEST, offset=4) for part in packed]
        answers = propose(events, np.concatenate(requests), timeline, self._ingest, proposal_width(self._ingest))
        for part, answer in zip(packed, np.split(answers, np.cumsum([len(r) for r in requests])[:-1]), strict=True):
            yield int.from_bytes(part[:4], "little"), answer.tobytes()


class WriteImpressions(beam.DoFn):
    """(partition, its events and proposals) -> a shard of each split; yields counts."""

    def __init__(self, ingest: IngestConfig, examples_uri: str) -> None:
        self._ingest = ingest
        self._examples_uri = examples_uri
        self._written = Metrics.counter("ingest", "impressions")

    def process(
        self, element: tuple[int, dict[str, Iterable[bytes]]], timeline_json: str, packed_catalogue: bytes
    ) -> Iterator[tuple[str, int]]:
        """Builds and writes one partition."""
        partition, grouped = element
        timeline = Timeline.from_json(timeline_json)
        events = np.frombuffer(b"".join(grouped[_EVENTS]), EVENT)
        proposals = np.frombuffer(b"".join(grouped[_PROPOSALS]), proposal(proposal_width(self._ingest)))
        impressions, dropped = build_impressions(
            events, proposals, timeline, self._ingest, Catalogue.from_bytes(packed_catalogue)
        )
        for split, built in impressions.items():
            path = shard_path(self._examples_uri, split, partition, self._ingest.user_partitions)
            self._written.inc(write_shard(built, path, self._examples_uri))
            for negative_set, count in zip(*np.unique(built.negative_set, return_counts=True), strict=True):
                yield summary.impressions_key(split, negative_set.decode()), int(count)
        for (split, reason), count in dropped.items():
            yield summary.dropped_key(split, reason), count
        for split, count in zip(SPLITS, np.bincount(timeline.splits(events["timestamp"]), minlength=3), strict=True):
            yield summary.events_key(split), int(count)


def _first_lines(counts: list[LineCount]) -> FirstLines:
    first_lines = {}
    for source, blocks in itertools.groupby(sorted(counts), key=lambda count: count[0]):
        line = 1
        for _, block, lines in blocks:
            first_lines[source, block] = line
            line += lines
    return first_lines


def _number_bad_rows(element: tuple[int, int, str], first_lines: FirstLines) -> Iterator[tuple[tuple[int, int], str]]:
    """Yields ((log file, shard), records with the line in the file)."""
    source, block, records = element
    for record in records.splitlines(keepends=True):
        line_in_block, rest = record.split("\t", 1)
        line = first_lines[source, block] + int(line_in_block)
        yield (source, (line - 1) // quarantine.LINES_PER_SHARD), f"{line}\t{rest}"


def _number_duplicates(
    packed: bytes, sources: Sequence[Source], first_lines: FirstLines
) -> Iterator[tuple[tuple[int, int], str]]:
    """Yields ((log file, shard), record); the text is made of the fields."""
    for row in np.frombuffer(packed, DUPLICATE_EVENT):
        source, block, line_in_block = row["place"].tolist()
        line = first_lines[source, block] + line_in_block
        first_source, first_block, first_line_in_block = row["first"].tolist()
        first = f"{sources[first_source].label}:{first_lines[first_source, first_block] + first_line_in_block}"
        user, item, category, behavior, timestamp = row["event"].tolist()
        text = f"{user},{item},{category},{_NAMES_OF_CODES[behavior]},{timestamp}"
        record = quarantine.record(line, quarantine.DUPLICATE, f"first at {first}", text)
        yield (source, (line - 1) // quarantine.LINES_PER_SHARD), record


def _write_quarantine(
    element: tuple[tuple[int, int], Iterable[str]], sources: Sequence[Source], quarantine_uri: str
) -> None:
    (source, shard), records = element
    label = quarantine.escape(sources[source].label.encode())
    by_line = sorted(records, key=lambda record: int(record.split("\t", 1)[0]))
    text = quarantine.HEADER + "".join(f"{label}\t{record}" for record in by_line)
    with closing(FileSystems.create(os.path.join(quarantine_uri, quarantine.shard_name(source, shard)))) as file:
        file.write(text.encode())


def _timeline(packed_seconds: bytes, ingest: IngestConfig, totals: dict[str, int]) -> str:
    seconds = np.frombuffer(packed_seconds, SECOND_COUNT)
    if not len(seconds):
        counts = {reason: totals.get(summary.quarantined_key(reason), 0) for reason in quarantine.REASONS}
        found = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "none quarantined"
        raise ValueError(
            f"data: none of {totals.get(summary.ROWS_READ, 0)} rows can be used ({found}); expected lines "
            f"user_id,item_id,category_id,behavior,timestamp from {ingest.window_start} to {ingest.window_end} "
            "(ingest.window_start, ingest.window_end)"
        )
    return make_timeline(seconds, ingest).to_json()


def _count_items(element: Packed, ingest: IngestConfig, timeline_json: str) -> bytes:
    events = np.frombuffer(element[1], EVENT)
    counts = np.ones(len(events), ITEM_COUNT)
    counts["item"] = events["item"]
    counts["category"] = events["category"]
    in_train = events["timestamp"] < Timeline.from_json(timeline_json).validation_start
    counts["train_events"] = in_train | (ingest.catalogue_from == "all")
    return merge_counts(counts).tobytes()


def _pack_catalogue(packed_counts: bytes) -> bytes:
    return Catalogue.from_counts(np.frombuffer(packed_counts, ITEM_COUNT)).to_bytes()


def _item_facts(packed_counts: bytes) -> tuple[str, int]:
    # Each (item, category) is there once.
    _, categories = np.unique(np.frombuffer(packed_counts, ITEM_COUNT)["item"], return_counts=True)
    return summary.ITEMS_WITH_SEVERAL_CATEGORIES, int((categories > 1).sum())


def _finish(
    files: list[str],
    examples_uri: str,
    catalogue_uri: str,
    totals: dict[str, int],
    timeline_json: str,
    packed_catalogue: bytes,
) -> IngestSummary:
    timeline = Timeline.from_json(timeline_json)
    catalogue = Catalogue.from_bytes(packed_catalogue)
    catalogue.write(catalogue_uri)
    result = summarise(
        files,
        totals,
        (timeline.validation_start, timeline.eval_start),
        (len(catalogue.item_ids), len(catalogue.category_ids)),
    )
    result.write(catalogue_uri)
    remove_temporary_files(examples_uri)
    return result
