"""Measures two behaviour logs and prints them side by side: ``python -m ctr.generator.compare A B``.

The measures are those on which a generated log must resemble the real one to be worth training on: how
much a user does, how rare items are, how sessions go, and how well one-line scorers tell the next event
from a contemporaneous negative.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ctr.components.lookup import find, starts_run, values_of
from ctr.components.scoring import auc as ranks
from ctr.components.settings import IngestConfig
from ctr.generator.events import Events
from ctr.models.arrays import BoolArray, FloatArray, Int64Array
from ctr.models.errors import CtrError, DataError
from ctr.models.impression import BEHAVIORS, PAGE_VIEW

COLUMNS: Final = ("user_id", "item_id", "category_id", "behavior_type", "timestamp")
HISTORY: Final[int] = IngestConfig().history_length
"""Events of history that the scorers may look at."""
TRAIN_SHARE: Final = 0.8
"""Share of the events, by time, before the evaluated ones."""
NEGATIVE_EVENTS: Final[int] = IngestConfig().contemporaneous_events
"""A contemporaneous negative is drawn among so many events after the impression."""
BAG: Final = 10
"""Events whose categories the unordered predictor sees."""
SHRINKAGE: Final = 5.0
"""Events of prior belief with which the next-category predictors count."""
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILE_NAMES: Final = "5 / 25 / 50 / 75 / 95 %"


def read_log(path: Path) -> Events:
    """Reads a ``.csv`` or ``.csv.gz`` log without a header, leaving out what is malformed or outside the window.

    Ties in time stand in the order of the file. Exact duplicates stay.

    Raises:
      FileNotFoundError: if there is no such file.
      DataError: if no row is left.
    """
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=list(COLUMNS)),
        parse_options=csv.ParseOptions(invalid_row_handler=lambda _: "skip"),
        convert_options=csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS}),
    )
    readable = pc.is_in(table["behavior_type"], value_set=pa.array(list(BEHAVIORS)))
    for name in COLUMNS:
        if name != "behavior_type":
            readable = pc.and_(readable, pc.match_substring_regex(table[name], r"^-?[0-9]{1,18}$"))
    table = table.filter(readable)
    user, item, category, time = (
        table[name].cast(pa.int64()).to_numpy() for name in COLUMNS if name != "behavior_type"
    )
    codes = np.array(list(BEHAVIORS.values()), np.int64)
    behavior = codes[pc.index_in(table["behavior_type"], value_set=pa.array(list(BEHAVIORS))).to_numpy()]
    first, last = IngestConfig().window
    inside = (time >= first) & (time <= last)
    if not inside.any():
        raise DataError(f"{path}: no readable row inside the window; expected {','.join(COLUMNS)} without a header")
    order = np.lexsort((time, user))
    order = order[inside[order]]
    return Events(user[order], item[order], category[order], behavior[order], time[order])


def auc(positive: FloatArray | Int64Array, negative: FloatArray | Int64Array) -> float:
    """Probability that a positive scores above a negative, ties counting one half."""
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return ranks.auc(labels, np.concatenate([positive, negative]))


def first_of_group(*keys: Int64Array) -> Int64Array:
    """For each row the first row of its run of equal keys, [rows]."""
    return np.maximum.accumulate(np.where(starts_run(*keys), np.arange(len(keys[0])), 0))


def occurs_earlier(user: Int64Array, value: Int64Array) -> BoolArray:
    """Whether the same user had the same value in an earlier row, [rows]."""
    order = np.lexsort((np.arange(len(user)), value, user))
    repeated = np.zeros(len(user), bool)
    same = (user[order][1:] == user[order][:-1]) & (value[order][1:] == value[order][:-1])
    repeated[order[1:]] = same
    return repeated


def evaluation_start(log: Events) -> int:
    """Time of the first evaluated event."""
    return int(np.sort(log.time)[int(TRAIN_SHARE * len(log))])


@dataclass(frozen=True)
class Pairs:
    """Evaluated impressions: rows of the positives, and the items of their negatives, each int64 [pairs]."""

    row: Int64Array
    negative_item: Int64Array
    negative_category: Int64Array


def contemporaneous_pairs(log: Events, *, seed: int = 0) -> Pairs:
    """One negative for each event of the evaluated part that is not its user's first.

    The negative is the item of an event of another user among the next :data:`NEGATIVE_EVENTS` events that
    the user never touched; a positive for which 20 draws find none is left out.
    """
    rng = np.random.default_rng(seed)
    by_time = np.argsort(log.time, kind="stable")
    start = first_of_group(log.user, log.time)
    rows = np.flatnonzero((log.time >= evaluation_start(log)) & (start > first_of_group(log.user)))
    touched = np.unique(np.stack([log.user, log.item], axis=1), axis=0)
    stride = int(log.item.max()) + 1
    touched_keys = touched[:, 0] * stride + touched[:, 1]
    after = np.searchsorted(log.time[by_time], log.time[rows], side="right")
    negative = np.full(len(rows), -1)
    open_ = np.flatnonzero(after < len(log))
    for _ in range(20):
        span = np.minimum(NEGATIVE_EVENTS, len(log) - after[open_])
        drawn = by_time[after[open_] + (rng.random(len(open_)) * span).astype(np.int64)]
        keys = log.user[rows[open_]] * stride + log.item[drawn]
        accepted = ~find(touched_keys, keys)[1]
        negative[open_[accepted]] = drawn[accepted]
        open_ = open_[~accepted]
        if not len(open_):
            break
    found = negative >= 0
    return Pairs(rows[found], log.item[negative[found]], log.category[negative[found]])


def recency(log: Events, rows: Int64Array, value: Int64Array, history: Int64Array) -> FloatArray:
    """Minus the seconds since ``value`` last stood in ``history`` before each row; minus infinity if it did not.

    Args:
      rows: the impressions' rows, [pairs].
      value: the candidates' item or category, [pairs].
      history: the log's item or category column, [log rows].
    """
    first = first_of_group(log.user)[rows]
    start = first_of_group(log.user, log.time)[rows]
    score = np.full(len(rows), -np.inf)
    for lag in range(HISTORY, 0, -1):
        place = start - lag
        match = (place >= first) & (history[place] == value)
        score[match] = log.time[place[match]] - log.time[rows[match]]
    return score


def training_counts(log: Events, items: Int64Array) -> Int64Array:
    """Events of each item in the first :data:`TRAIN_SHARE` of the events, [items]."""
    known, counts = np.unique(log.item[log.time < evaluation_start(log)], return_counts=True)
    return values_of(known, counts, items)


def next_category_accuracy(log: Events) -> tuple[float, float]:
    """How well the last category, and how well the recent ones as a set, tell a change of category.

    Both predictors count in the first :data:`TRAIN_SHARE` of the events which category came next; one counts by
    the last event's category, the other by each category of the last :data:`BAG` events, whatever their order,
    and adds up. They are judged on the later events whose category is none of the last :data:`BAG` (staying
    with a category, which any recency tells, does not count): does the true category score above that of a
    contemporaneous negative?

    Returns:
      AUC of the ordered and of the unordered predictor.
    """
    first = first_of_group(log.user)
    rows = np.arange(len(log))
    full = rows - first >= BAG
    recent = np.stack([log.category[np.maximum(rows - lag, 0)] for lag in range(1, BAG + 1)], axis=1)
    changes = full & ~(recent == log.category[:, None]).any(axis=1)
    pairs = contemporaneous_pairs(log)
    learnt = np.flatnonzero(changes & (log.time < evaluation_start(log)))
    judged = changes[pairs.row] & ~(recent[pairs.row] == pairs.negative_category[:, None]).any(axis=1)
    row, negative = pairs.row[judged], pairs.negative_category[judged]
    stride = int(log.category.max()) + 1

    def score(context: Int64Array, candidate: Int64Array) -> FloatArray:
        width = context.shape[1]
        keys, counts = np.unique(
            context[learnt].ravel() * stride + np.repeat(log.category[learnt], width), return_counts=True
        )
        base_keys, base_counts = np.unique(log.category[learnt], return_counts=True)
        seen_keys, seen_counts = np.unique(context[learnt], return_counts=True)
        total = np.zeros(len(candidate))
        # Each category's shrunk chance to come next, over its chance without any context.
        chance = (values_of(base_keys, base_counts, candidate) + 0.1) / len(learnt)
        for column in range(width):
            pair_count = values_of(keys, counts, context[row, column] * stride + candidate)
            total += (pair_count + SHRINKAGE * chance) / (
                values_of(seen_keys, seen_counts, context[row, column]) + SHRINKAGE
            )
        ratio: FloatArray = total / chance
        return ratio

    ordered, unordered = (
        auc(score(context, log.category[row]), score(context, negative)) for context in (recent[:, :1], recent)
    )
    return ordered, unordered


def measure(log: Events) -> dict[str, str]:
    """Every measure of a log by name, ready to print."""
    return {**_sizes(log), **_sequences(log), **_hours(log), **_pairs(log)}


def _quantiles(values: Int64Array) -> str:
    return " / ".join(f"{value:,.0f}" for value in np.quantile(values, QUANTILES))


def _sizes(log: Events) -> dict[str, str]:
    n = len(log)
    table = {"events in the window": f"{n:,}"}
    users, events_of_user = np.unique(log.user, return_counts=True)
    table["users"] = f"{len(users):,}"
    for name, code in BEHAVIORS.items():
        table[f"share of {name}"] = f"{np.mean(log.behavior == code):.4f}"
    table["events a user, mean"] = f"{events_of_user.mean():.1f}"
    table[f"events a user, {QUANTILE_NAMES}"] = _quantiles(events_of_user)
    for name, column in (("items", log.item), ("categories", log.category)):
        distinct = np.unique(np.stack([log.user, column], axis=1), axis=0)
        table[f"distinct {name} a user, {QUANTILE_NAMES}"] = _quantiles(
            np.unique(distinct[:, 0], return_counts=True)[1]
        )
    events_of_item = np.unique(log.item, return_counts=True)[1]
    users_of_item = np.unique(np.unique(np.stack([log.user, log.item], axis=1), axis=0)[:, 1], return_counts=True)[1]
    events_of_category = np.sort(np.unique(log.category, return_counts=True)[1])[::-1]
    table["events an item, 90 / 99 / 99.9 % / most"] = " / ".join(
        f"{value:,.0f}" for value in np.quantile(events_of_item, (0.9, 0.99, 0.999, 1))
    )
    table["items with one event"] = f"{np.mean(events_of_item == 1):.3f}"
    table["items with one user"] = f"{np.mean(users_of_item == 1):.3f}"
    table["items / categories that occur"] = f"{len(events_of_item):,} / {len(events_of_category):,}"
    table["events in the top 1 / 10 / 100 categories"] = " / ".join(
        f"{events_of_category[:top].sum() / n:.3f}" for top in (1, 10, 100)
    )
    return table


def _sequences(log: Events) -> dict[str, str]:
    n = len(log)
    rows = np.arange(n)
    first = first_of_group(log.user)
    gap = np.diff(log.time)[log.user[1:] == log.user[:-1]]
    table = {f"seconds to the next event, {QUANTILE_NAMES}": _quantiles(gap)}
    table["pauses above 30 minutes"] = f"{np.mean(gap > 1800):.3f}"
    table["ties in time"] = f"{np.mean(gap == 0):.4f}"
    for name, column in (("category", log.category), ("item", log.item)):
        found = np.zeros(n, bool)
        shares = []
        for lag in range(1, HISTORY + 1):
            place = rows - lag
            found |= (place >= first) & (column[place] == column)
            if lag in (1, 5, 10, HISTORY):
                shares.append(f"{found[rows > first].mean():.3f}")
        table[f"{name} among the last 1 / 5 / 10 / {HISTORY}"] = " / ".join(shares)
    table["events with an item of before"] = f"{occurs_earlier(log.user, log.item).mean():.3f}"
    order = np.lexsort((rows, log.item, log.user))
    viewed = np.cumsum(log.behavior[order] == BEHAVIORS[PAGE_VIEW])
    start = first_of_group(log.user[order], log.item[order])
    is_view = log.behavior[order] == BEHAVIORS[PAGE_VIEW]
    views_before = viewed - is_view - (viewed[start] - is_view[start])
    buys = log.behavior[order] == BEHAVIORS["buy"]
    table["buys without a pv before"] = f"{np.mean(views_before[buys] == 0):.3f}"
    return table


def _hours(log: Events) -> dict[str, str]:
    n = len(log)
    local_hour = (log.time - IngestConfig().window[0]) // 3600
    by_hour = np.bincount(local_hour % 24, minlength=24) / n
    by_day = np.bincount(local_hour // 24, minlength=9) / n
    return {
        "activity by six hours from midnight": " / ".join(f"{six.sum():.3f}" for six in by_hour.reshape(4, 6)),
        "busiest / quietest hour": f"{by_hour.argmax()} / {by_hour.argmin()}",
        "activity, first / last day": f"{by_day[0]:.3f} / {by_day[-1]:.3f}",
    }


def _pairs(log: Events) -> dict[str, str]:
    pairs = contemporaneous_pairs(log)
    row, negative = pairs.row, pairs.negative_item
    counts, negative_counts = training_counts(log, log.item[row]), training_counts(log, negative)
    table = {"evaluated pairs": f"{len(row):,}"}
    table["their items seen before, positives / negatives"] = (
        f"{np.mean(counts > 0):.3f} / {np.mean(negative_counts > 0):.3f}"
    )
    positive_recency = recency(log, row, log.category[row], log.category)
    negative_recency = recency(log, row, pairs.negative_category, log.category)
    table["AUC of popularity"] = f"{auc(counts, negative_counts):.3f}"
    known, known_negative = np.isfinite(positive_recency) * 1.0, np.isfinite(negative_recency) * 1.0
    table["AUC of category in history"] = f"{auc(known, known_negative):.3f}"
    table["AUC of category recency"] = f"{auc(positive_recency, negative_recency):.3f}"
    item_recency = (recency(log, row, value, log.item) for value in (log.item[row], negative))
    table["AUC of item recency"] = f"{auc(*item_recency):.3f}"
    ordered, unordered = next_category_accuracy(log)
    table["AUC on changes of category, last category / bag"] = f"{ordered:.3f} / {unordered:.3f}"
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a Markdown table of the measures of two logs."""
    parser = argparse.ArgumentParser(prog="python -m ctr.generator.compare", description=__doc__)
    parser.add_argument("first", type=Path, metavar="A", help="a log: .csv or .csv.gz in the format of UserBehavior")
    parser.add_argument("second", type=Path, metavar="B", help="another one")
    options = parser.parse_args(arguments)
    try:
        tables = [measure(read_log(path)) for path in (options.first, options.second)]
    except (OSError, CtrError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    lines = [("measure", options.first.name, options.second.name), ("---",) * 3]
    lines += [(name, tables[0][name], tables[1][name]) for name in tables[0]]
    for line in lines:
        print("| " + " | ".join(line) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
