"""The ingest as a Beam pipeline, without TFX.

::

    blocks of lines -> events by user partition -> sorted partitions --+-> events by stretch of time --+
          |                    |                     |        |        |                               v
          v                    v                     v        v        +-> requests ----------> proposals
      bad rows            lines per block       duplicates  counts                                     |
          +-----> quarantine <-+---------------------+        +-> timeline, catalogue --> impressions <-+

Between steps packed records lie in a spool, and Beam moves references to them; no worker holds more than one block, one
partition of users or one stretch of time, besides the catalogue.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from ctr.components import quarantine
from ctr.components.counting import COUNTED_FIELDS
from ctr.components.dataset import ID_FIELDS, DatasetConfig
from ctr.components.examples import summary
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import shard_path, unfinished_folder
from ctr.components.examples.summary import IngestSummary, summarise
from ctr.components.files import create_file
from ctr.components.impression_gen import progress
from ctr.components.impression_gen.bigquery import ROWS_OF_A_BATCH, read_table
from ctr.components.impression_gen.combine import MergeCounts
from ctr.components.impression_gen.counts import ITEM_COUNT, SECOND_COUNT, count_items, count_seconds, merge_counts
from ctr.components.impression_gen.event_counts import (
    TIMED,
    Joined,
    Kept,
    join_times,
    open_counts,
    sorted_times,
    times_of,
)
from ctr.components.impression_gen.events import (
    DUPLICATE_EVENT,
    EVENT,
    Records,
    as_text,
    count_behaviors,
    dropped_because,
    earliest,
    pack_chunk,
    plain,
    sort_partition,
)
from ctr.components.impression_gen.exposures import (
    REQUEST_ROW,
    by_id,
    contradictory,
    happened,
    happened_first,
    request_rows,
    without_contradictory,
)
from ctr.components.impression_gen.hashing import id_hash, part_of, split_by
from ctr.components.impression_gen.impressions import (
    build_impressions,
    count_impressions,
    make_requests,
    proposal_width,
    targets_of,
)
from ctr.components.impression_gen.log_reader import Task, first_of_each
from ctr.components.impression_gen.names import pack_names, write_names
from ctr.components.impression_gen.negatives import REQUEST, CatalogueIndex, proposal, propose
from ctr.components.impression_gen.plausibility import check_plausible, facts_of, repeated_items
from ctr.components.impression_gen.readers import RowGroup, reader_of
from ctr.components.impression_gen.refusals import check_impressions, check_rows
from ctr.components.impression_gen.sources import Source, list_sources
from ctr.components.impression_gen.spool import NOTHING, Parcel, Spool
from ctr.components.impression_gen.tables import table_values
from ctr.components.impression_gen.targets import last_of_user
from ctr.components.impression_gen.timeline import Timeline, make_timeline
from ctr.components.impression_gen.values import (
    LOG,
    ItemValues,
    change_type,
    columns_of,
    event_type,
    known_values,
    merge_values,
    of_candidates,
    of_source,
)
from ctr.components.impression_gen.writer import write_shard
from ctr.components.settings import IngestConfig
from ctr.models.impression import declare_features, feature_modules
from ctr.models.registration import load_plugins

_COUNTS: Final = "counts"
_BAD_ROWS: Final = "bad_rows"
_EXAMPLES: Final = "examples"
_LINES: Final = "lines"
_DUPLICATES: Final = "duplicates"
_SECONDS: Final = "seconds"
_EVENTS: Final = "events"
_NAMES: Final = "names"
_ITEMS: Final = "items"
_ASKED: Final = "asked"
_REQUESTS: Final = "requests"
_PROPOSALS: Final = "proposals"

# What crosses a runner is a pair, or Any, and what is flattened has one type: Prism 2.61 refuses a longer tuple of
# types that it knows, and codes all of an input's type as the output's where a Flatten joins several types.
_KEYED: Final = beam.typehints.Tuple[int, Any]
_KEYED_PART: Final = beam.typehints.Tuple[int, beam.typehints.Tuple[int, Any]]
_COUNT: Final = beam.typehints.Tuple[str, int]
_EXAMPLE: Final = beam.typehints.Tuple[str, Any]
_NUMBERED: Final = beam.typehints.Tuple[beam.typehints.Tuple[int, int], str]

_T = TypeVar("_T")

_MEGABYTE: Final = 1 << 20

Keyed = tuple[int, Parcel]
"""A partition of users, and records of it."""
Part = tuple[int, Parcel]
"""Records, and the partition of users that they are from."""
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

    Examples and catalogue do not depend on the runner, the number of workers or ``block_megabytes``; nor on how the log
    is cut into files, nor on the order of its rows. The quarantine names rows by file and line.

    Args:
      pipeline: to be run by the caller.
      files: paths of logs, see ``sources.find_logs``; read in this order.
      ingest: the settings.
      examples_uri: gets ``Split-train``, ``Split-validation``, ``Split-eval``; while the pipeline runs, the spool.
      catalogue_uri: gets the catalogue and the summary of the ingest.
      quarantine_uri: gets the rows that could not be used.

    Raises:
      DataError: if an archive cannot be listed. While the pipeline runs: if a file is damaged, more rows than
        ``ingest`` allows cannot be used, the log is not plausible, or a split would have no event or no impression.
    """
    sources = list_sources(files, ingest.dataset)
    spool = Spool(unfinished_folder(examples_uri))
    block_bytes = ingest.block_megabytes * _MEGABYTE
    of_reading = (_BAD_ROWS, _EXAMPLES, _LINES, _COUNTS, _NAMES, _ASKED)
    if ingest.dataset.format == "bigquery":
        read = (
            pipeline
            | "ReadTable" >> read_table(sources[0].path, ingest.dataset)
            | "Batch" >> beam.BatchElements(*ROWS_OF_A_BATCH)
            | "ParseRows" >> beam.ParDo(ParseRows(sources, ingest, spool)).with_outputs(*of_reading, main=_EVENTS)
        )
    else:
        reader = reader_of(ingest.dataset)
        tasks = [(t.source, t.block, t.start, t.end) for t in reader.tasks(sources, block_bytes)]
        read = (
            pipeline
            | "Tasks" >> beam.Create(tasks)
            | "ReadAndParse" >> beam.ParDo(ReadAndParse(sources, ingest, spool)).with_outputs(*of_reading, main=_EVENTS)
        )
    first_lines = beam.pvalue.AsSingleton(
        read[_LINES] | "ListLines" >> beam.combiners.ToList() | "FirstLines" >> beam.Map(_first_lines)
    )
    refused: tuple[Any, ...] = ()
    if ingest.dataset.columns.request is not None:
        refused = (
            beam.pvalue.AsSingleton(
                _typed(read[_ASKED], _KEYED, "Requests")
                | "GroupRequests" >> beam.GroupByKey()
                | "Contradictory" >> beam.Map(_contradictory, spool)
                | "ListContradictory" >> beam.combiners.ToList()
                | "JoinContradictory" >> beam.Map(b"".join)
            ),
        )
    partitions = pipeline | "Partitions" >> beam.Create([(p, NOTHING) for p in range(ingest.user_partitions)])
    sorted_partitions = (
        (_typed(read[_EVENTS], _KEYED, "Chunks"), _typed(partitions, _KEYED, "EmptyChunks"))
        | "AllPartitions" >> beam.Flatten()
        | "GroupByPartition" >> beam.GroupByKey()
        | "SortPartition"
        >> beam.ParDo(SortPartition(ingest, spool), *refused).with_outputs(
            _DUPLICATES, _EXAMPLES, _SECONDS, _COUNTS, main=_EVENTS
        )
    )
    events = _typed(sorted_partitions[_EVENTS], _KEYED, "Events")

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

    examples = (
        (
            read[_EXAMPLES]
            | "NumberExamples" >> beam.FlatMap(_number_bad_rows, first_lines).with_output_types(_NUMBERED),
            sorted_partitions[_EXAMPLES]
            | "NumberDuplicateExamples"
            >> beam.FlatMap(_number_duplicates, sources, first_lines).with_output_types(_NUMBERED),
        )
        | "AllExamples" >> beam.Flatten()
        | "ByReason" >> beam.Map(_by_reason).with_output_types(_EXAMPLE)
        | "FirstOfReason" >> beam.combiners.Top.SmallestPerKey(quarantine.EXAMPLES)
    )

    reading_counts = (read[_COUNTS], sorted_partitions[_COUNTS]) | "ReadingCounts" >> beam.Flatten()
    reading_totals = _totals(reading_counts, "Reading")
    timeline_json = (
        sorted_partitions[_SECONDS]
        | "MergeSeconds" >> beam.CombineGlobally(MergeCounts(SECOND_COUNT))
        | "CheckRows"
        >> beam.Map(_check_rows, ingest, sources, beam.pvalue.AsDict(reading_totals), beam.pvalue.AsDict(examples))
        | "Timeline" >> beam.Map(_timeline, ingest)
    )
    timeline = beam.pvalue.AsSingleton(timeline_json)
    item_counts = (
        events
        | "CountItems" >> beam.ParDo(CountItems(ingest, spool), timeline).with_output_types(_KEYED)
        | "GroupItems" >> beam.GroupByKey()
        | "MergeItems" >> beam.ParDo(MergeItems(ingest, spool)).with_outputs(_COUNTS, main=_ITEMS)
    )
    item_totals = _totals(item_counts[_COUNTS], "Items")
    catalogue = beam.pvalue.AsSingleton(
        item_counts[_ITEMS]
        | "ListItems" >> beam.combiners.ToList()
        | "Catalogue" >> beam.Map(_make_catalogue, catalogue_uri, spool)
        | "CheckPlausible"
        >> beam.Map(
            _check_plausible,
            ingest,
            spool,
            timeline,
            beam.pvalue.AsDict(reading_totals),
            beam.pvalue.AsDict(item_totals),
        )
    )

    asked = events | "Ask" >> beam.ParDo(Ask(ingest, spool), timeline).with_outputs(_EVENTS, _REQUESTS)
    proposals = (
        {key: _typed(asked[key], _KEYED_PART, f"By time: {key}") for key in (_EVENTS, _REQUESTS)}
        | "GroupByTime" >> beam.CoGroupByKey()
        | "Propose" >> beam.ParDo(Propose(ingest, spool), timeline).with_output_types(_KEYED)
    )
    impression_counts = (
        {_EVENTS: events, _PROPOSALS: proposals}
        | "GroupProposals" >> beam.CoGroupByKey()
        | "WriteImpressions"
        >> beam.ParDo(
            WriteImpressions(ingest, examples_uri, spool),
            timeline,
            catalogue,
            _item_values(events, ingest, spool),
            _event_times(events, ingest, spool, catalogue_uri),
        ).with_output_types(_COUNT)
    )
    counts = [reading_totals, impression_counts, item_totals]
    if ingest.dataset.string_ids:
        # What ends the ingest waits for these counts, too, and the spool goes then.
        counts.append(
            _typed(read[_NAMES], _KEYED, "Names")
            | "GroupNames" >> beam.GroupByKey()
            | "WriteNames" >> beam.ParDo(WriteNames(ingest, spool, catalogue_uri)).with_output_types(_COUNT)
        )
    all_counts = counts | "AllCounts" >> beam.Flatten()
    totals = _totals(all_counts, "All")
    _ = (
        pipeline
        | "Once" >> beam.Create([[source.label for source in sources]])
        | "Finish" >> beam.Map(_finish, ingest, catalogue_uri, spool, beam.pvalue.AsDict(totals), timeline)
    )


def _item_values(events: beam.PCollection, ingest: IngestConfig, spool: Spool) -> beam.pvalue.AsSingleton | None:
    """Values as of a time, as columns in the spool: of items, if candidates are to have any, and of each table."""
    sources = []
    if of_candidates(ingest.dataset.features):
        sources.append(
            events
            | "GatherValues" >> beam.ParDo(GatherValues(ingest, spool)).with_output_types(_KEYED)
            | "GroupValues" >> beam.GroupByKey()
            | "MergeValues" >> beam.ParDo(MergeValues(ingest, spool)).with_output_types(_KEYED)
            | "ListValues" >> beam.combiners.ToList()
            | "JoinValues" >> beam.Map(_join_values, spool).with_output_types(_EXAMPLE)
        )
    if ingest.dataset.tables:
        sources.append(
            events.pipeline
            | "Tables" >> beam.Create(sorted(ingest.dataset.tables))
            | "ReadTables" >> beam.Map(_read_table, ingest.dataset, spool).with_output_types(_EXAMPLE)
        )
    if not sources:
        return None
    return beam.pvalue.AsSingleton(sources | "AllValues" >> beam.Flatten() | "ValuesAsOf" >> beam.combiners.ToDict())


def _event_times(
    events: beam.PCollection, ingest: IngestConfig, spool: Spool, catalogue_uri: str
) -> beam.pvalue.AsSingleton | None:
    """When the events of each id were, in the spool, if candidates are to have counts."""
    if not ingest.counts.counts:
        return None
    return beam.pvalue.AsSingleton(
        events
        | "TimeEvents" >> beam.ParDo(TimeEvents(ingest, spool)).with_output_types(_KEYED)
        | "GroupTimes" >> beam.GroupByKey()
        | "SortTimes" >> beam.ParDo(SortTimes(ingest, spool)).with_output_types(_KEYED)
        | "ListTimes" >> beam.combiners.ToList()
        | "JoinTimes" >> beam.Map(join_times, ingest, spool, catalogue_uri)
    )


def _typed(elements: beam.PCollection, kind: object, name: str) -> beam.PCollection:
    """Says of what type elements are, which a tagged output cannot, so that Beam codes them as that."""
    return elements | name >> beam.Map(_same).with_output_types(kind)


def _totals(counts: beam.PCollection, name: str) -> beam.PCollection:
    summed = _typed(counts, _COUNT, f"Counts{name}") | f"Sum{name}" >> beam.CombinePerKey(sum)
    return _typed(summed, _COUNT, f"Totals{name}")


def _same(element: _T) -> _T:
    return element


class _Step(beam.DoFn):
    def __init__(self, ingest: IngestConfig, spool: Spool) -> None:
        self._ingest = ingest
        self._spool = spool
        self._kind = event_type(ingest.dataset)

    def _events(self, parcel: Parcel) -> Records:
        return np.frombuffer(self._spool.read(parcel), self._kind)


class _Parse(_Step):
    """Rows -> (partition, chunk of events); bad rows, lines and counts aside."""

    def __init__(self, sources: Sequence[Source], ingest: IngestConfig, spool: Spool) -> None:
        super().__init__(ingest, spool)
        self._sources = sources
        self._reader = reader_of(ingest.dataset)
        self._rows = Metrics.counter("ingest", "rows_read")
        self._bad = Metrics.counter("ingest", "rows_quarantined")

    def _parse(self, source: int, block: Any) -> Iterator[Keyed | beam.pvalue.TaggedOutput]:
        parsed = self._reader.parse(self._sources[source], block, self._ingest.window)
        self._rows.inc(parsed.rows)
        self._bad.inc(len(parsed.bad_rows))
        yield beam.pvalue.TaggedOutput(_LINES, (source, block.number, parsed.lines))
        yield beam.pvalue.TaggedOutput(_COUNTS, (summary.ROWS_READ, parsed.rows))
        if parsed.left_out:
            yield beam.pvalue.TaggedOutput(_COUNTS, (summary.ROWS_LEFT_OUT, parsed.left_out))
        by_reason = parsed.by_reason()
        if parsed.bad_rows:
            for tag, rows in ((_BAD_ROWS, parsed.bad_rows), (_EXAMPLES, first_of_each(by_reason))):
                text = "".join(quarantine.record(*row) for row in rows)
                yield beam.pvalue.TaggedOutput(tag, (source, block.number, text))
        for reason, bad_rows in by_reason.items():
            yield beam.pvalue.TaggedOutput(_COUNTS, (summary.key("quarantined", reason), len(bad_rows)))
        partition = part_of(id_hash(parsed.events["user"]), self._ingest.user_partitions)
        with self._spool.file(progress.READ, parsed.rows, block.file_bytes) as write:
            chunks = [
                (key, write(pack_chunk(source, block.number, rows))) for key, rows in split_by(partition, parsed.events)
            ]
            names = [
                (key, write(packed))
                for field, (ids, strings) in parsed.names.items()
                for key, packed in pack_names(field, ids, strings, self._ingest.user_partitions)
            ]
            asked = []
            if self._ingest.dataset.columns.request is not None:
                of_requests = request_rows(source, block.number, parsed.events)
                shard = part_of(id_hash(of_requests["request"]), self._ingest.user_partitions)
                asked = [(key, write(part.tobytes())) for key, part in split_by(shard, of_requests)]
        yield from chunks
        yield from (beam.pvalue.TaggedOutput(_ASKED, each) for each in asked)
        yield from (beam.pvalue.TaggedOutput(_NAMES, each) for each in names)


class ReadAndParse(_Parse):
    """A task's lines -> as of :class:`_Parse`."""

    def process(self, task: tuple[int, int, int, int]) -> Iterator[Keyed | beam.pvalue.TaggedOutput]:
        """Reads one task block by block."""
        where = Task(*task)
        block_bytes = self._ingest.block_megabytes * _MEGABYTE
        for block in self._reader.blocks(self._sources[where.source], where, block_bytes):
            yield from self._parse(where.source, block)


class ParseRows(_Parse):
    """Rows of a table, in no order -> as of :class:`_Parse`; their lines are numbers without a meaning."""

    def process(self, rows: list[dict[str, Any]]) -> Iterator[Keyed | beam.pvalue.TaggedOutput]:
        """Parses one batch."""
        yield from self._parse(0, RowGroup(uuid.uuid4().int >> 96, pa.Table.from_pylist(rows), 0))


class WriteNames(_Step):
    """(range of the ids of a field, strings) -> a file of the catalogue; yields counts."""

    def __init__(self, ingest: IngestConfig, spool: Spool, catalogue_uri: str) -> None:
        super().__init__(ingest, spool)
        self._catalogue_uri = catalogue_uri

    def process(self, element: tuple[int, Iterable[Parcel]]) -> Iterator[tuple[str, int]]:
        """Merges one range, and refuses two strings of one id."""
        key, parcels = element
        field, shard = divmod(key, self._ingest.user_partitions)
        yield write_names(self._catalogue_uri, ID_FIELDS[field], shard, map(self._spool.read, parcels))


class SortPartition(_Step):
    """(partition, chunks) -> (partition, events in order); duplicates and counts aside."""

    def process(
        self, element: tuple[int, Iterable[Parcel]], refused: bytes = b""
    ) -> Iterator[Keyed | beam.pvalue.TaggedOutput]:
        """Sorts one partition, without what is of contradictory requests."""
        partition, chunks = element
        parts: Iterable[bytes] = (self._spool.read(chunk) for chunk in chunks if chunk != NOTHING)
        contradictions = np.empty(0, DUPLICATE_EVENT)
        if refused:
            parts, contradictions = without_contradictory(parts, by_id(refused), self._kind)
        events, duplicates = sort_partition(parts, self._ingest.dataset.duplicates, self._kind)
        with self._spool.file(progress.SORT, len(events) + len(duplicates)) as write:
            parcel = write(events.tobytes())
        yield partition, parcel
        for reason, rows in (
            (quarantine.DUPLICATE, duplicates),
            (quarantine.CONTRADICTORY_REQUEST, contradictions),
        ):
            if len(rows):
                yield beam.pvalue.TaggedOutput(_DUPLICATES, rows.tobytes())
                yield beam.pvalue.TaggedOutput(_EXAMPLES, earliest(rows, quarantine.EXAMPLES).tobytes())
                yield beam.pvalue.TaggedOutput(_COUNTS, (summary.key("quarantined", reason), len(rows)))
        yield beam.pvalue.TaggedOutput(_SECONDS, count_seconds(events, self._ingest).tobytes())
        yield beam.pvalue.TaggedOutput(_COUNTS, (summary.USERS, int(last_of_user(events).sum())))
        for name, count in count_behaviors(events).items():
            yield beam.pvalue.TaggedOutput(_COUNTS, (summary.key("behavior", name), count))


class CountItems(_Step):
    """(partition, events) -> (range of item hashes, ITEM_COUNTs)."""

    def process(self, element: Keyed, timeline_json: str) -> Iterator[Keyed]:
        """Counts one partition."""
        events = self._events(element[1])
        merged = count_items(events, Timeline.model_validate_json(timeline_json), self._ingest)
        shard = part_of(id_hash(merged["item"]), self._ingest.user_partitions)
        with self._spool.file(progress.COUNT, len(events)) as write:
            parts = [(key, write(rows.tobytes())) for key, rows in split_by(shard, merged)]
        yield from parts


class MergeItems(_Step):
    """(range of item hashes, ITEM_COUNTs) -> ITEM_COUNTs, each (item, category) once; counts aside."""

    def process(self, element: tuple[int, Iterable[Parcel]]) -> Iterator[Parcel | beam.pvalue.TaggedOutput]:
        """Merges one range."""
        merged = merge_counts(np.frombuffer(b"".join(map(self._spool.read, element[1])), ITEM_COUNT))
        with self._spool.file(progress.MERGE) as write:
            parcel = write(merged.tobytes())
        yield parcel
        _, categories = np.unique(merged["item"], return_counts=True)
        several = int((categories > 1).sum())
        repeated = zip(summary.REPEATED_ITEMS, repeated_items(merged), strict=True)
        for name, count in ((summary.ITEMS_WITH_SEVERAL_CATEGORIES, several), *repeated):
            yield beam.pvalue.TaggedOutput(_COUNTS, (name, count))


class GatherValues(_Step):
    """(partition, events) -> (range of item hashes, what their rows say of items)."""

    def process(self, element: Keyed) -> Iterator[Keyed]:
        """Takes the values out of one partition."""
        found = known_values("item", self._events(element[1]), of_candidates(self._ingest.dataset.features))
        shard = part_of(found["key"], self._ingest.user_partitions)
        with self._spool.file(progress.VALUES) as write:
            parts = [(key, write(rows.tobytes())) for key, rows in split_by(shard, found)]
        yield from parts


class MergeValues(_Step):
    """(range of item hashes, what rows say of items) -> (range, what changes, a parcel a column)."""

    def process(self, element: tuple[int, Iterable[Parcel]]) -> Iterator[tuple[int, list[Parcel]]]:
        """Merges one range."""
        key, parcels = element
        kind = change_type(of_candidates(self._ingest.dataset.features))
        merged = merge_values(np.frombuffer(b"".join(map(self._spool.read, parcels)), kind))
        with self._spool.file(progress.VALUES) as write:
            columns = [write(column.tobytes()) for column in columns_of(merged)]
        yield key, columns


class TimeEvents(_Step):
    """(partition, events) -> (range of the ids of a field, TIMEDs)."""

    def process(self, element: Keyed) -> Iterator[Keyed]:
        """Takes what is counted out of one partition; what was shown in vain is not."""
        events = self._events(element[1])
        if self._ingest.dataset.shown is not None:
            events = happened(happened_first(events))
        ranges = self._ingest.user_partitions
        with self._spool.file(progress.TIME) as write:
            parts = [
                (number * ranges + shard, write(rows.tobytes()))
                for number, field in enumerate(COUNTED_FIELDS)
                if self._ingest.counts.windows(field)
                for times in [times_of(events, field, self._ingest)]
                for shard, rows in split_by(part_of(id_hash(times["id"]), ranges), times)
            ]
        yield from parts


class SortTimes(_Step):
    """(range of the ids of a field, TIMEDs) -> (range, SPANs and seconds)."""

    def process(self, element: tuple[int, Iterable[Parcel]]) -> Iterator[tuple[int, Kept]]:
        """Sorts one range."""
        key, parcels = element
        spans, seconds = sorted_times(np.frombuffer(b"".join(map(self._spool.read, parcels)), TIMED))
        with self._spool.file(progress.TIME) as write:
            kept = write(spans.tobytes()), write(seconds.tobytes())
        yield key, kept


class Ask(_Step):
    """(partition, events) -> (bucket, events) and (bucket, requests), each with the partition."""

    def process(self, element: Keyed, timeline_json: str) -> Iterator[beam.pvalue.TaggedOutput]:
        """Sends what each stretch of time needs of one partition."""
        partition, parcel = element
        timeline = Timeline.model_validate_json(timeline_json)
        ordered, targets = targets_of(self._events(parcel), timeline, self._ingest)
        requests = make_requests(ordered, targets, self._ingest)
        events = plain(ordered if self._ingest.dataset.shown is None else happened(ordered))
        with self._spool.file(progress.ASK, len(events)) as write:
            parts = [
                beam.pvalue.TaggedOutput(_EVENTS, (bucket, (partition, write(rows.tobytes()))))
                for reached in timeline.buckets_reached(events["timestamp"])
                for bucket, rows in split_by(reached[1], events[reached[0]])
            ] + [
                beam.pvalue.TaggedOutput(_REQUESTS, (bucket, (partition, write(rows.tobytes()))))
                for bucket, rows in split_by(timeline.buckets(requests["timestamp"]), requests)
            ]
        yield from parts


class Propose(_Step):
    """(bucket, its events and requests) -> (partition, proposals)."""

    def process(self, element: tuple[int, dict[str, Iterable[Part]]], timeline_json: str) -> Iterator[Keyed]:
        """Answers the requests of one stretch of time."""
        _, grouped = element
        timeline = Timeline.model_validate_json(timeline_json)
        asking, requests = self._read(grouped[_REQUESTS], REQUEST)
        if not requests:
            return
        _, events = self._read(grouped[_EVENTS], EVENT)
        width = proposal_width(self._ingest)
        # All at once: the events are put in order once, not once a partition.
        answers = propose(np.concatenate(events), np.concatenate(requests), timeline, self._ingest, width)
        ends = np.cumsum([len(part) for part in requests])
        with self._spool.file(progress.PROPOSE, len(answers)) as write:
            parts = [
                (partition, write(part.tobytes()))
                for partition, part in zip(asking, np.split(answers, ends[:-1]), strict=True)
            ]
        yield from parts

    def _read(self, parts: Iterable[Part], kind: np.dtype[Any]) -> tuple[list[int], list[Records]]:
        """Partitions in order, and the records of each."""
        by_partition = sorted(parts)
        return [partition for partition, _ in by_partition], [
            np.frombuffer(self._spool.read(parcel), kind) for _, parcel in by_partition
        ]


class WriteImpressions(_Step):
    """(partition, its events and proposals) -> a shard of each split; yields counts."""

    def __init__(self, ingest: IngestConfig, examples_uri: str, spool: Spool) -> None:
        super().__init__(ingest, spool)
        self._examples_uri = examples_uri
        self._written = Metrics.counter("ingest", "impressions")
        self._index: tuple[Parcel, CatalogueIndex] | None = None
        self._plugins = feature_modules()

    def setup(self) -> None:
        """Makes the features of plugins, and those of the settings, known to the worker."""
        load_plugins(self._plugins)
        declare_features(self._ingest.rows)

    def process(
        self,
        element: tuple[int, dict[str, Iterable[Parcel]]],
        timeline_json: str,
        catalogue: Parcel,
        values: Mapping[str, Sequence[Parcel]] | None = None,
        event_times: Sequence[Joined] | None = None,
    ) -> Iterator[tuple[str, int]]:
        """Builds and writes one partition."""
        partition, grouped = element
        timeline = Timeline.model_validate_json(timeline_json)
        dataset = self._ingest.dataset
        events = np.frombuffer(b"".join(map(self._spool.read, grouped[_EVENTS])), self._kind)
        answers = b"".join(map(self._spool.read, grouped[_PROPOSALS]))
        proposals = np.frombuffer(answers, proposal(proposal_width(self._ingest)))
        index = self._index_of(catalogue)
        items = {
            source: ItemValues.opened(columns, of_source(dataset.features, source), self._spool)
            for source, columns in (values or {}).items()
        }
        counts = open_counts(event_times, self._ingest, self._spool) if event_times is not None else None
        impressions, dropped = build_impressions(events, proposals, timeline, self._ingest, index, items, counts)
        for split, built in impressions.items():
            path = shard_path(self._examples_uri, split, partition, self._ingest.user_partitions)
            self._written.inc(write_shard(built, path, self._spool.folder))
        yield from count_impressions(events, timeline, impressions, dropped)
        with self._spool.file(progress.WRITE, len(events), sum(len(built.positive) for built in impressions.values())):
            pass

    def _index_of(self, catalogue: Parcel) -> CatalogueIndex:
        # One worker writes many partitions.
        if self._index is None or self._index[0] != catalogue:
            self._index = catalogue, CatalogueIndex(Catalogue.from_bytes(self._spool.read(catalogue)))
        return self._index[1]


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
        record = quarantine.record(line, *dropped_because(row, first), as_text(row["event"]))
        yield (source, (line - 1) // quarantine.LINES_PER_SHARD), record


def _write_quarantine(
    element: tuple[tuple[int, int], Iterable[str]], sources: Sequence[Source], quarantine_uri: str
) -> None:
    (source, shard), records = element
    by_line = sorted(records, key=lambda record: int(record.split("\t", 1)[0]))
    text = quarantine.HEADER + "".join(f"{sources[source].label}\t{record}" for record in by_line)
    with closing(create_file(os.path.join(quarantine_uri, quarantine.shard_name(source, shard)))) as file:
        file.write(text.encode())


def _by_reason(numbered: tuple[tuple[int, int], str]) -> tuple[str, tuple[int, int, str, str]]:
    (source, _), record = numbered
    line, reason, detail, text = record.rstrip("\n").split("\t")
    return reason, (source, int(line), detail, text)


def _check_rows(
    packed_seconds: bytes,
    ingest: IngestConfig,
    sources: Sequence[Source],
    totals: dict[str, int],
    examples: dict[str, list[tuple[int, int, str, str]]],
) -> bytes:
    quarantined = {reason: totals.get(summary.key("quarantined", reason), 0) for reason in quarantine.REASONS}
    named = {
        reason: [quarantine.Example(sources[source].label, line, detail, text) for source, line, detail, text in rows]
        for reason, rows in examples.items()
    }
    check_rows(totals.get(summary.ROWS_READ, 0), quarantined, named, ingest, totals.get(summary.ROWS_LEFT_OUT, 0))
    return packed_seconds


def _contradictory(element: tuple[int, Iterable[Parcel]], spool: Spool) -> bytes:
    """Of one range of requests."""
    rows = np.frombuffer(b"".join(map(spool.read, element[1])), REQUEST_ROW)
    return contradictory(rows).tobytes()


def _timeline(packed_seconds: bytes, ingest: IngestConfig) -> str:
    return make_timeline(np.frombuffer(packed_seconds, SECOND_COUNT), ingest).model_dump_json()


def _make_catalogue(counts: list[Parcel], catalogue_uri: str, spool: Spool) -> Parcel:
    catalogue = Catalogue.from_counts(np.frombuffer(b"".join(map(spool.read, counts)), ITEM_COUNT))
    catalogue.write(catalogue_uri)
    with spool.file(progress.CATALOGUE) as write:
        return write(catalogue.to_bytes())


def _join_values(ranges: list[tuple[int, list[Parcel]]], spool: Spool) -> tuple[str, list[Parcel]]:
    """One parcel a column, in the order of the hashes."""
    joined = []
    with spool.file(progress.VALUES) as write:
        for parts in zip(*(columns for _, columns in sorted(ranges)), strict=True):
            # No more than one part is held.
            written = [write(spool.read(part)) for part in parts]
            joined.append((*written[0][:2], sum(length for _, _, length in written)))
    return LOG, joined


def _read_table(name: str, dataset: DatasetConfig, spool: Spool) -> tuple[str, list[Parcel]]:
    values = table_values(name, dataset)
    with spool.file(progress.VALUES) as write:
        return name, [write(column.tobytes()) for column in columns_of(values)]


def _check_plausible(
    packed_catalogue: Parcel,
    ingest: IngestConfig,
    spool: Spool,
    timeline_json: str,
    reading: dict[str, int],
    items: dict[str, int],
) -> Parcel:
    catalogue = Catalogue.from_bytes(spool.read(packed_catalogue))
    facts = facts_of({**reading, **items}, catalogue, Timeline.model_validate_json(timeline_json))
    check_plausible(facts, ingest.plausibility, ingest.dataset)
    return packed_catalogue


def _finish(
    files: list[str], ingest: IngestConfig, catalogue_uri: str, spool: Spool, totals: dict[str, int], timeline_json: str
) -> IngestSummary:
    timeline = Timeline.model_validate_json(timeline_json)
    result = summarise(files, totals, (timeline.validation_start, timeline.eval_start))
    check_impressions(result, ingest)
    result.write(catalogue_uri)
    spool.remove()
    return result
