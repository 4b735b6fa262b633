"""The ingest once more: one event at a time, in plain Python integers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctr.components.settings import IngestConfig

MASK = 2**64 - 1
BEHAVIORS = {"pv": 1, "cart": 2, "fav": 3, "buy": 4}
SETS = ("uniform", "same_category", "contemporaneous", "revisit")
SPARE = 5

Row = tuple[int, int, int, str, int]
"""user, item, category, behavior, timestamp"""
Pair = tuple[int, int]
"""item, category"""


def mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hash_of(seed: int, *values: int) -> int:
    state = mix(seed)
    for value in values:
        state = mix(state ^ (value & MASK))
    return state


def walk(start_hash: int, size: int) -> Iterator[int]:
    if not size:
        return
    step = 1 + mix(start_hash) % size
    while math.gcd(step, size) != 1:
        step += 1
    for k in range(size):
        yield (start_hash % size + k * step) % size


@dataclass
class Expected:
    impressions: dict[str, list[dict[str, list[Any]]]]
    """By split, in the order of the shards."""
    dropped: Counter[tuple[str, str]]
    duplicates: int
    boundaries: tuple[int, int]
    items: list[tuple[int, int, int]]


def ingest_by_hand(rows: list[Row], ingest: IngestConfig) -> Expected:
    """Good rows in the order of the log -> what the ingest has to write."""
    log = list(dict.fromkeys(rows))
    n = len(log)
    seconds = sorted({row[4] for row in log})

    def boundary(share: float) -> int:
        return next(s for s in seconds if sum(row[4] >= s for row in log) <= share * n)

    validation_start = boundary(ingest.eval_share + ingest.validation_share)
    eval_start = boundary(ingest.eval_share)

    def split_of(t: int) -> str:
        return "train" if t < validation_start else "validation" if t < eval_start else "eval"

    item_counts: Counter[int] = Counter()
    category_counts: dict[int, Counter[int]] = defaultdict(Counter)
    for _, item, category, _, t in log:
        if split_of(t) == "train":
            item_counts[item] += 1
            category_counts[item][category] += 1
    catalogue = sorted(item_counts, key=lambda item: (-item_counts[item], item))
    category_of = {item: min(c, key=lambda k: (-c[k], k)) for item, c in category_counts.items()}

    by_user: dict[int, list[Row]] = defaultdict(list)
    for row in log:
        by_user[row[0]].append(row)
    for events in by_user.values():
        events.sort(key=lambda row: (row[4], row[1], BEHAVIORS[row[3]], row[2]))
    ordered = sorted(log, key=lambda row: (row[4], hash_of(0, row[0]), row[1], BEHAVIORS[row[3]], row[2]))

    def draw(row: Row, kind: str, count: int, stream: int, taken: list[Pair], history: list[Row]) -> list[Pair] | None:
        user, item, category, behavior, t = row
        own = {event[1] for event in by_user[user]} if kind != "revisit" else set()
        start_hash = hash_of(ingest.seed, user, t, item, BEHAVIORS[behavior], stream, SETS.index(kind))
        if kind == "contemporaneous":
            window = [e for e in ordered if e[4] > t and split_of(e[4]) == split_of(t)][: ingest.contemporaneous_events]
            proposed: list[Pair] = []
            for place in walk(start_hash, len(window)):
                other, other_item, other_category = window[place][:3]
                if len(proposed) == count + SPARE:
                    break
                if other != user and other_item not in [i for i, _ in proposed]:
                    proposed.append((other_item, other_category))
        elif kind == "revisit":
            proposed = [history[place][1:3] for place in walk(start_hash, len(history))]
        else:
            pool = [i for i in catalogue if kind == "uniform" or category_of[i] == category]
            proposed = [(pool[place], category_of[pool[place]]) for place in walk(start_hash, len(pool))]
        drawn: list[Pair] = []
        for pair in proposed:
            if len(drawn) < count and pair[0] not in own and pair[0] not in [i for i, _ in taken + drawn]:
                drawn.append(pair)
        return drawn if len(drawn) == count else None

    dropped: Counter[tuple[str, str]] = Counter()
    impressions: dict[str, list[tuple[tuple[Any, ...], dict[str, list[Any]]]]] = defaultdict(list)
    for user, events in by_user.items():
        user_hash = hash_of(0, user)
        eligible: dict[str, list[Row]] = defaultdict(list)
        for row in events:
            t = row[4]
            if row[3] not in ingest.target_kinds:
                dropped[split_of(t), "not_a_target_behavior"] += 1
            elif sum(e[4] < t for e in events) < ingest.min_history:
                dropped[split_of(t), "short_history"] += 1
            else:
                eligible[split_of(t)].append(row)
        for split, candidates in eligible.items():
            kept = candidates[-ingest.targets_per_user :] if ingest.targets_per_user else candidates
            dropped[split, "over_targets_per_user"] += len(candidates) - len(kept)
            for row in kept:
                t = row[4]
                history = [e for e in events if e[4] < t][-ingest.history_length :]
                positive = (row[1], row[2])
                sets: dict[str, list[Pair]] = {}
                if split == "eval":
                    for kind in SETS:
                        drawn = draw(row, kind, ingest.evaluation_negatives, 1, [positive], history)
                        if drawn is None:
                            dropped[split, f"no_negative:{kind}"] += 1
                        else:
                            sets[kind] = [positive, *drawn]
                else:
                    shown = [positive]
                    for kind in SETS:
                        drawn = draw(row, kind, getattr(ingest.training_negatives, kind), 0, shown, history)
                        if drawn is None:
                            dropped[split, f"no_negative:{kind}"] += 1
                            break
                        shown += drawn
                    else:
                        sets["mixed"] = shown
                for rank, (kind, shown) in enumerate(sets.items()):
                    features: dict[str, list[Any]] = {
                        "user_id": [user],
                        "timestamp": [t],
                        "negative_set": [kind.encode()],
                        "target_behavior": [BEHAVIORS[row[3]]],
                        "history_item_id": [e[1] for e in history],
                        "history_category_id": [e[2] for e in history],
                        "history_behavior": [BEHAVIORS[e[3]] for e in history],
                        "history_age": [t - e[4] for e in history],
                        "candidate_item_id": [i for i, _ in shown],
                        "candidate_category_id": [c for _, c in shown],
                        "label": [1] + [0] * (len(shown) - 1),
                    }
                    order = (user_hash, t, row[1], BEHAVIORS[row[3]], row[2], rank)
                    impressions[split].append((order, features))
    return Expected(
        impressions={
            split: [features for _, features in sorted(impressions[split], key=lambda pair: pair[0])]
            for split in ("train", "validation", "eval")
        },
        dropped=+dropped,
        duplicates=len(rows) - n,
        boundaries=(validation_start, eval_start),
        items=[(item, category_of[item], item_counts[item]) for item in catalogue],
    )
