"""Impressions of one partition of users: requests for proposals first, then the features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ctr.components.dataset import POSITION
from ctr.components.examples import summary
from ctr.components.examples.summary import NO_NEGATIVE
from ctr.components.impression_gen import exposures, negatives
from ctr.components.impression_gen.event_counts import CandidateCounts
from ctr.components.impression_gen.events import EventColumns, Records, count_behaviors
from ctr.components.impression_gen.exposures import Requests, Shown
from ctr.components.impression_gen.negatives import Candidates, CatalogueIndex, OwnLog
from ctr.components.impression_gen.targets import Targets, find_targets
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.impression_gen.values import AsOf, DeclaredFields, were_drawn
from ctr.components.lookup import starts_run
from ctr.components.settings import IngestConfig
from ctr.models import impression as names
from ctr.models.arrays import Array, BoolArray, Int64Array
from ctr.models.impression import (
    BEHAVIORS,
    CONTEMPORANEOUS,
    EVAL_SPLIT,
    MIXED,
    NEGATIVE_SETS,
    PADDING_ID,
    PAGE_VIEW,
    REVISIT,
    SAME_CATEGORY,
    SHOWN,
    SPLITS,
    UNIFORM,
    VALIDATION_SPLIT,
    NegativeSet,
    features_of,
)

_EVAL = SPLITS.index(EVAL_SPLIT)
_IMPRESSIONS_OF_A_BATCH = 8192


def proposal_width(ingest: IngestConfig) -> int:
    """Proposals that an answer has room for."""
    wanted = max(ingest.training_negatives[CONTEMPORANEOUS], ingest.evaluation_negatives)
    return wanted + negatives.SPARE_PROPOSALS


def make_requests(events: Records, targets: Targets, ingest: IngestConfig) -> Records:
    """What a partition asks of the log around its impressions: REQUESTs in the order of the targets.

    Without contemporaneous training negatives only eval impressions ask.
    """
    positives = events[targets.event]
    is_eval = targets.split == _EVAL
    requests = np.empty(len(positives), negatives.REQUEST)
    requests["index"] = np.arange(len(positives))
    requests["user"] = positives["user"]
    requests["timestamp"] = positives["timestamp"]
    stream = np.where(is_eval, negatives.EVALUATION_STREAM, negatives.TRAINING_STREAM)
    requests["hash"] = negatives.draw_hashes(positives, ingest.seed, stream, CONTEMPORANEOUS)
    evaluation = ingest.evaluation_negatives if CONTEMPORANEOUS in ingest.evaluation_sets else 0
    needed = np.where(is_eval, evaluation, ingest.training_negatives[CONTEMPORANEOUS])
    requests["wanted"] = needed + negatives.SPARE_PROPOSALS
    return requests[needed > 0]


@dataclass(frozen=True, eq=False)
class Impressions:
    """The impressions of one partition and split, in the order of their positives, then of the negative sets.

    Histories are ranges of the partition's events, so that they are in memory once.
    """

    events: EventColumns
    """[m] of the partition."""
    declared: DeclaredFields
    """Likewise."""
    positive: Int64Array
    """[n] index into events, not falling."""
    history_start: Int64Array
    """[n]"""
    history_end: Int64Array
    """[n]"""
    negative_sets: tuple[str, ...]
    """How negatives were drawn here."""
    negative_set: Int64Array
    """[n] index into negative_sets."""
    items: Int64Array
    """[n, 1 + negatives], the positive first."""
    categories: Int64Array
    """[n, 1 + negatives]"""
    labels: Int64Array
    """[n, 1 + negatives]"""
    candidate_event: Int64Array
    """[n, 1 + negatives] index into events of the candidate's own row, -1 where it was drawn or may have been."""
    candidate_in_history: bool = False
    ragged: bool = False
    """Whether rows of candidates may end in padding."""
    position: Int64Array | None = None
    """[m] where each event's item was shown; None where nothing says so."""

    def batches(self) -> Iterator[ImpressionBatch]:
        """Features as ``ctr.models.impression`` defines them, some thousand impressions at a time."""
        for start in range(0, len(self.positive), _IMPRESSIONS_OF_A_BATCH):
            yield self._batch(slice(start, start + _IMPRESSIONS_OF_A_BATCH))

    def _batch(self, rows: slice) -> ImpressionBatch:
        positive = self.positive[rows]
        items, categories, labels, own = (
            each[rows] for each in (self.items, self.categories, self.labels, self.candidate_event)
        )
        shared = starts_run(positive, were_drawn(items, own))
        new = np.ones(len(positive), dtype=bool) if self.candidate_in_history else shared
        # Where all have as many candidates, nothing needs a mask.
        real: BoolArray | slice = items != PADDING_ID if self.ragged else slice(None)
        count = (items != PADDING_ID).sum(axis=1) if self.ragged else np.full(len(items), items.shape[1])
        offsets = np.concatenate([[0], np.cumsum(count)])
        of_candidates = self.declared.of_candidates(items, self.events.timestamp[positive], own)
        shown = {
            "item": items[real].ravel(),
            "category": categories[real].ravel(),
            **{name: each.reshape(items.shape)[real].ravel() for name, each in of_candidates.items()},
        }
        shown |= self.declared.counted(shown, np.repeat(self.events.timestamp[positive], count))
        if self.position is not None:
            at = own[real].ravel()
            shown[POSITION] = np.where(at >= 0, self.position[at], 0).astype(np.float32)
        if self.ragged:
            told = np.concatenate([self.negative_set[rows, None], count[:, None], labels], axis=1)
            kinds, first, kind = np.unique(told, axis=0, return_index=True, return_inverse=True)
            sets, kind = kinds[:, 0], kind.reshape(-1)
        else:
            # Labels after the first are 0: the first one tells all.
            kinds, first, kind = np.unique(
                2 * self.negative_set[rows] + labels[:, 0], return_index=True, return_inverse=True
            )
            sets = kinds // 2
        of_kinds = labels[first]
        return ImpressionBatch(
            contexts=self._contexts(np.flatnonzero(new) + rows.start),
            context=np.cumsum(new) - 1,
            candidates=_record_batch({name: (offsets, values) for name, values in _from(shown, "candidate").items()}),
            kinds=_record_batch(
                {
                    names.NEGATIVE_SET: (
                        np.arange(len(kinds) + 1),
                        np.array([self.negative_sets[number].encode() for number in sets]),
                    ),
                    names.LABEL: (
                        np.concatenate([[0], np.cumsum(count[first])]),
                        of_kinds[real[first] if isinstance(real, np.ndarray) else real].ravel(),
                    ),
                }
            ),
            kind=kind,
        )

    def _contexts(self, rows: Int64Array) -> pa.RecordBatch:
        positive = self.positive[rows]
        timestamp = self.events.timestamp[positive]
        lengths = self.history_end[rows] - self.history_start[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(offsets[-1]) + np.repeat(self.history_start[rows] - offsets[:-1], lengths)
        one_each = np.arange(len(rows) + 1)
        events = {
            "item": self.events.item[place],
            "category": self.events.category[place],
            "behavior": self.events.behavior[place],
            "timestamp": self.events.timestamp[place],
            "age": np.repeat(timestamp, lengths) - self.events.timestamp[place],
            **self.declared.of_history(place),
        }
        if self.candidate_in_history:
            alike = np.ones(len(rows), dtype=np.int64)
            last = {
                "item": self.items[rows, 0],
                "category": self.categories[rows, 0],
                "behavior": alike * BEHAVIORS[PAGE_VIEW],
                "timestamp": timestamp - alike,
                "age": alike,
            }
            events = {name: np.insert(values, offsets[1:], last[name]) for name, values in events.items()}
            offsets = offsets + one_each
        context = {
            "user": self.events.user[positive],
            "timestamp": timestamp,
            "behavior": self.events.behavior[positive],
        }
        own = self.candidate_event[rows]
        # Of what was shown at once the first row speaks for all: the one that was clicked would tell the label, where
        # rows of a request differ.
        speaks = np.where(own[:, 0] >= 0, own[:, 0], positive)
        given = self.declared.of_context(speaks, were_drawn(self.items[rows], own))
        of_one = _from(context, "context") | _from(given, "context_input")
        return _record_batch(
            {name: (one_each, values) for name, values in of_one.items()}
            | {name: (offsets, values) for name, values in _from(events, "history").items()}
        )


@dataclass(frozen=True, eq=False)
class ImpressionBatch:
    """Some impressions as ragged columns; what several of them share is there once."""

    contexts: pa.RecordBatch
    """[c] the user, the time and the history."""
    context: Int64Array
    """[n] which of them an impression has."""
    candidates: pa.RecordBatch
    """[n] the candidates."""
    kinds: pa.RecordBatch
    """[k] the negative set and the labels."""
    kind: Int64Array
    """[n] which of them an impression has."""


def _from(fields: Mapping[str, Array], group: names.Group) -> dict[str, Array]:
    """The features of a group, made of fields of events."""
    return {feature.name: feature.of_events(fields) for feature in features_of(group) if feature.source}


def _record_batch(columns: dict[str, tuple[Int64Array, Array]]) -> pa.RecordBatch:
    """Name -> (offsets, values), as lists."""
    return pa.RecordBatch.from_arrays([_lists(*column) for column in columns.values()], list(columns))


def _lists(offsets: Int64Array, values: Array) -> pa.ListArray:
    kind = {"S": pa.binary(), "f": pa.float32()}.get(values.dtype.kind, pa.int64())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(np.ascontiguousarray(values), kind))


def targets_of(events: Records, timeline: Timeline, ingest: IngestConfig) -> tuple[Records, Targets]:
    """What becomes impressions of a partition [m], beside its events in the order that this refers to."""
    if ingest.dataset.shown is None:
        return events, find_targets(events, timeline, ingest)
    events = exposures.happened_first(events)
    return events, exposures.find_requests(events, timeline, ingest)


def build_impressions(
    events: Records,
    proposals: Records,
    timeline: Timeline,
    ingest: IngestConfig,
    index: CatalogueIndex,
    item_values: AsOf | None = None,
    counts: CandidateCounts | None = None,
) -> tuple[dict[str, Impressions], dict[tuple[str, str], int]]:
    """Builds all impressions of a partition.

    Args:
      events: [m] ``values.event_type`` as ``sort_partition`` orders them.
      proposals: the answers to :func:`make_requests`, in any order.
      timeline: when the splits begin.
      ingest: the settings.
      index: of the catalogue of the train split.
      item_values: what there is as of a time, where that is declared.
      counts: of the events of candidates, where the settings ask for them.

    Returns:
      impressions by split, and (split, reason) -> events that became none; in eval a ``no_negative`` reason
      counts the missing impression of that set. Of exposures these are requests, and what is counted of them stands
      beside the reasons.
    """
    events, targets = targets_of(events, timeline, ingest)
    answers = np.zeros(len(targets.event), negatives.proposal(proposal_width(ingest)))
    answers[proposals["index"]] = proposals
    columns = EventColumns.of(events)
    declared = DeclaredFields(events, ingest.dataset, item_values, counts)
    draws = _Draws(events, columns, targets, answers, ingest, index)
    impressions = {}
    dropped = dict(targets.dropped) | (targets.counts if isinstance(targets, Requests) else {})
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero(targets.split == number)
        if split == EVAL_SPLIT:
            sets, lost = draws.evaluation_sets(rows)
        elif split == VALIDATION_SPLIT and isinstance(targets, Requests):
            # What a model is chosen and calibrated by is what was shown.
            sets, lost = {MIXED: draws.shown(rows)}, {}
        else:
            sets, lost = draws.mixed(rows)
        dropped.update({(split, NO_NEGATIVE[kind]): count for kind, count in lost.items()})
        impressions[split] = _assemble(events, columns, declared, targets, rows, sets, ingest)
    return impressions, dropped


_Drawn = dict[str, tuple[Candidates, BoolArray]]
"""Negative set -> candidates of n impressions, and which [n] of them are complete."""


def count_impressions(
    events: Records, timeline: Timeline, impressions: Mapping[str, Impressions], dropped: Mapping[tuple[str, str], int]
) -> Iterator[tuple[str, int]]:
    """Yields (name in the summary, count) of what :func:`build_impressions` made of events [n]."""
    for split, built in impressions.items():
        counts = np.bincount(built.negative_set, minlength=len(built.negative_sets))
        for negative_set, count in zip(built.negative_sets, counts, strict=True):
            yield summary.key("impressions", split, negative_set), int(count)
    for (split, reason), count in dropped.items():
        kind: summary.Count = "exposures" if reason in exposures.SHOWN_COUNTS else "dropped"
        yield summary.key(kind, split, reason), count
    of_split = timeline.splits(events["timestamp"])
    for number, split in enumerate(SPLITS):
        kept = events[of_split == number]
        yield summary.key("events", split), len(kept)
        for name, count in count_behaviors(kept).items():
            yield summary.key("behaviors", split, name), count
        for hour, count in zip(*np.unique(kept["timestamp"] // 3600, return_counts=True), strict=True):
            yield summary.key("hours", split, str(hour)), int(count)


class _Draws:
    """Of the targets of a partition, some rows of them at a time."""

    def __init__(
        self,
        events: Records,
        columns: EventColumns,
        targets: Targets,
        answers: Records,
        ingest: IngestConfig,
        index: CatalogueIndex,
    ) -> None:
        self._events = events
        self._columns = columns
        self._targets = targets
        self._answers = answers
        self._ingest = ingest
        self._index = index
        self._own_log = OwnLog(exposures.happened(events) if isinstance(targets, Requests) else events)

    def mixed(self, rows: Int64Array) -> tuple[_Drawn, dict[str, int]]:
        wanted = self._ingest.training_negatives
        candidates = self._candidates(rows, wanted.total)
        complete = np.ones(len(rows), dtype=bool)
        lost: dict[str, int] = {}
        goal = candidates.filled.copy()
        for kind in NEGATIVE_SETS:
            goal += wanted[kind]
            self._add(kind, wanted[kind], candidates, rows, negatives.TRAINING_STREAM)
            lost[kind] = int((complete & (candidates.filled < goal)).sum())
            complete &= candidates.filled == goal
        return {MIXED: (candidates, complete)}, lost

    def evaluation_sets(self, rows: Int64Array) -> tuple[_Drawn, dict[str, int]]:
        count = self._ingest.evaluation_negatives
        drawn: _Drawn = {}
        for kind in self._ingest.evaluation_sets:
            if kind == SHOWN:
                drawn[kind] = self.shown(rows)
                continue
            candidates = self._of_positives(rows, count)
            self._add(kind, count, candidates, rows, negatives.EVALUATION_STREAM)
            drawn[kind] = (candidates, (candidates.filled == 1 + count) & self._happened(rows))
        lost = {name: int((~complete).sum()) for name, (_, complete) in drawn.items() if name != SHOWN}
        return drawn, lost

    def shown(self, rows: Int64Array) -> tuple[Candidates, BoolArray]:
        """What requests have shown, and nothing beside it."""
        return self._candidates(rows, 0), np.ones(len(rows), dtype=bool)

    def _happened(self, rows: Int64Array) -> BoolArray:
        """Which targets are events that happened: of a request without a click, none did."""
        if not isinstance(self._targets, Requests):
            return np.ones(len(rows), dtype=bool)
        found: BoolArray = self._targets.clicked[rows].any(axis=1)
        return found

    def _candidates(self, rows: Int64Array, count: int) -> Candidates:
        if isinstance(self._targets, Requests):
            return Shown(self._targets, rows, self._columns, count)
        return self._of_positives(rows, count)

    def _of_positives(self, rows: Int64Array, count: int) -> Candidates:
        event = self._targets.event[rows]
        return Candidates(self._columns.item[event], self._columns.category[event], 1 + count)

    def _add(self, kind: NegativeSet, count: int, candidates: Candidates, rows: Int64Array, stream: int) -> None:
        positives = self._events[self._targets.event[rows]]
        users = positives["user"]
        if kind == CONTEMPORANEOUS:
            negatives.admit(candidates, count, self._answers[rows], users, self._own_log)
            return
        hashes = negatives.draw_hashes(positives, self._ingest.seed, stream, kind)
        if kind == REVISIT:
            start, end = self._targets.history_start[rows], self._targets.history_end[rows]
            negatives.draw_from_history(candidates, count, hashes, self._columns, start, end)
            return
        pool = {UNIFORM: self._index.whole, SAME_CATEGORY: self._index.of_category}[kind](positives["category"])
        negatives.draw_from_catalogue(candidates, count, hashes, self._index.catalogue, pool, users, self._own_log)


def _assemble(
    events: Records,
    columns: EventColumns,
    declared: DeclaredFields,
    targets: Targets,
    rows: Int64Array,
    sets: _Drawn,
    ingest: IngestConfig,
) -> Impressions:
    """Joins the sets, positive by positive, without the incomplete impressions."""
    complete: BoolArray = np.stack([done for _, done in sets.values()], axis=1).ravel()
    repeated = np.repeat(rows, len(sets))[complete]

    ragged = isinstance(targets, Requests)
    width = max(candidates.items.shape[1] for candidates, _ in sets.values())

    def interleaved(values: list[Int64Array], nothing: int = PADDING_ID) -> Int64Array:
        if ragged:
            values = [_widened(each, width, nothing) for each in values]
        return np.stack(values, axis=1).reshape(-1, width)[complete]

    items = interleaved([candidates.items for candidates, _ in sets.values()])
    categories = interleaved([candidates.categories for candidates, _ in sets.values()])
    if ragged:
        shown = [_as_shown(candidates, targets.event[rows]) for candidates, _ in sets.values()]
        labels = interleaved([each for each, _ in shown], 0)
        own = interleaved([each for _, each in shown], -1)
    else:
        labels = np.zeros(items.shape, dtype=np.int64)
        labels[:, :1] = 1
        own = np.full(items.shape, -1)
        own[:, 0] = targets.event[repeated]
    if ingest.flip_labels:
        # One of the two candidates, by a hash that no draw of negatives uses.
        positives = events[targets.event[repeated]]
        flipped = negatives.flip_hashes(positives, ingest.seed) % 2 == 1
        place = np.arange(len(items)), flipped.astype(np.int64)
        items, categories, labels = (values[place][:, None] for values in (items, categories, labels))
        # What stands alone must not tell whether it was drawn.
        own = np.full(items.shape, -1)
    return Impressions(
        events=columns,
        declared=declared,
        positive=targets.event[repeated],
        history_start=targets.history_start[repeated],
        history_end=targets.history_end[repeated],
        negative_sets=tuple(sets),
        negative_set=np.tile(np.arange(len(sets)), len(rows))[complete],
        items=items,
        categories=categories,
        labels=labels,
        candidate_event=own,
        candidate_in_history=ingest.candidate_in_history,
        ragged=ragged,
        position=exposures.positions(events, ingest),
    )


def _as_shown(candidates: Candidates, event: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Labels and own events of [n, W] candidates; where a positive stands first, it is the event [n]."""
    if isinstance(candidates, Shown):
        return candidates.labels, candidates.events
    labels, own = np.zeros(candidates.items.shape, np.int64), np.full(candidates.items.shape, -1)
    labels[:, 0], own[:, 0] = 1, event
    return labels, own


def _widened(values: Int64Array, width: int, nothing: int) -> Int64Array:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=nothing)
