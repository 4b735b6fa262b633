"""What a block of users does: when, what with, and how.

The next event of a user is one of five:

* a **revisit** of an item of some events ago;
* **staying**: another item of a category of some events ago, mostly of the last one;
* a **successor** of the last event's category;
* a category of the user's **taste**, which moves on in the course of the window;
* a category that is **popular** that day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, get_args

import numpy as np

from ctr.generator.generator_config import FIRST_SECOND, LAST_SECOND, MIN_EVENTS
from ctr.generator.world import DAY, DAYS, SUCCESSOR_SHARES, World
from ctr.models.arrays import BoolArray, Int64Array
from ctr.models.impression import BehaviorName

EVENT_COUNT_SHAPE: Final = 1.3
"""Shape of the gamma distribution of a user's events."""
SESSION_START_RATE: Final = 0.19
"""Share of events that open a session."""
LOG_GAP_MEAN: Final = 4.02
LOG_GAP_DEVIATION: Final = 1.36
"""Seconds between two events of a session are log-normal."""
LONGEST_GAP: Final = 1800
"""Seconds; a longer pause ends a session."""
DAY_ACTIVITY_SHAPE: Final = 2.5
"""Shape of the gamma weights of the days for a user; lower leaves more days without a session."""
HOUR_SHARES: Final = (
    0.034, 0.017, 0.009, 0.004, 0.006, 0.008, 0.017, 0.028, 0.034, 0.040, 0.044, 0.046,
    0.040, 0.051, 0.049, 0.055, 0.055, 0.047, 0.049, 0.066, 0.079, 0.088, 0.078, 0.058,
)  # fmt: skip
"""Activity by hour of the day in Asia/Shanghai."""
DAY_SHARES: Final = (0.102, 0.102, 0.098, 0.104, 0.105, 0.103, 0.114, 0.136, 0.135)
"""Activity by day of the window; the last two are a weekend of sales."""

REVISIT, STAY, SUCCESSOR, TASTE, POPULAR = range(5)
WITHIN_SESSION: Final = (0.22, 0.52, 0.18, 0.05, 0.03)
AT_SESSION_START: Final = (0.225, 0.12, 0.145, 0.31, 0.20)
"""How often an event is of each of the five kinds."""
REVISIT_LAG_EXPONENT: Final = 0.45
STAY_LAG_EXPONENT: Final = 1.6
STAY_LAG_EXPONENT_AT_START: Final = 0.35
"""How many events back: a lag above k times the shortest has a chance of k to minus the exponent."""

TASTES: Final = 16
"""Categories of a user's taste, from the first to the last in the course of the window."""
TASTE_WIDTH: Final = 3.0
"""How many of them, about, are in use at a time."""

BEHAVIOR_SHARES: Final[dict[BehaviorName | None, dict[BehaviorName, float]]] = {
    None: {"pv": 0.8985, "cart": 0.0580, "fav": 0.0325, "buy": 0.0110},
    "pv": {"pv": 0.8960, "cart": 0.0410, "fav": 0.0130, "buy": 0.0500},
    "cart": {"pv": 0.8980, "cart": 0.0340, "fav": 0.0100, "buy": 0.0580},
    "fav": {"pv": 0.8550, "cart": 0.0700, "fav": 0.0200, "buy": 0.0550},
    "buy": {"pv": 0.9180, "cart": 0.0150, "fav": 0.0030, "buy": 0.0640},
}
"""How often an event is of each kind, by what the user did to the item before; None stands for nothing."""


@dataclass(frozen=True)
class Events:
    """Rows of a log, int64 [n] each, by user and then by time; ``behavior`` counts from 1 as in BEHAVIORS."""

    user: Int64Array
    item: Int64Array
    category: Int64Array
    behavior: Int64Array
    time: Int64Array

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def joined(cls, parts: Sequence[Events]) -> Events:
        """The rows of all parts, part after part."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def take(self, rows: Int64Array | BoolArray) -> Events:
        """The given rows, in the given order."""
        return Events(*(getattr(self, column.name)[rows] for column in fields(self)))


def draw_events(world: World, first_user: int, last_user: int, mean_events: float, rng: np.random.Generator) -> Events:
    """All events of users ``first_user`` .. ``last_user - 1``, in the ids of the file.

    No two are equal in all five fields. Times are in the real log's window, whatever the configured one.
    """
    users = last_user - first_user
    tail = rng.gamma(EVENT_COUNT_SHAPE, (mean_events - MIN_EVENTS) / EVENT_COUNT_SHAPE, users)
    counts = MIN_EVENTS + np.rint(tail).astype(np.int64)
    user = np.repeat(np.arange(users), counts)
    time, opens_session = _draw_times(user, users, rng)
    category, behavior, source = _draw_choices(world, user, counts, time, opens_session, rng)

    fresh = world.draw_items(category, time, rng.random(len(user)), rng.random(len(user)))
    item = fresh[_roots(source)]
    # The real log never has the same item in two events running, which a revisit of a revisit could give.
    again = np.concatenate([[False], (item[1:] == item[:-1]) & (user[1:] == user[:-1])])
    item = np.where(again, fresh, item)
    events = Events(
        world.user_ids(first_user + user), world.item_ids(item), world.category_ids(category), behavior, time
    )
    return events.take(_not_repeated(events))


def _draw_times(user: Int64Array, users: int, rng: np.random.Generator) -> tuple[Int64Array, BoolArray]:
    """Times ascending within each user, and which events open a session."""
    n = len(user)
    first = np.concatenate([[True], user[1:] != user[:-1]])
    opens = first | (rng.random(n) < SESSION_START_RATE)
    session = np.cumsum(opens) - 1
    session_user = user[opens]

    weights = rng.gamma(DAY_ACTIVITY_SHAPE, 1.0, (users, DAYS)) * DAY_SHARES
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    day = np.minimum((rng.random(len(session_user))[:, None] >= cumulative[session_user]).sum(axis=1), DAYS - 1)
    hours = np.cumsum(HOUR_SHARES) / np.sum(HOUR_SHARES)
    hour = np.searchsorted(hours, rng.random(len(session_user)), side="right")
    start = FIRST_SECOND + day * DAY + ((hour + rng.random(len(session_user))) * 3600).astype(np.int64)

    gap = np.exp(rng.normal(LOG_GAP_MEAN, LOG_GAP_DEVIATION, n)).astype(np.int64)
    gap = np.where(opens, 0, np.minimum(gap, LONGEST_GAP))
    elapsed = np.cumsum(gap)
    time = start[session] + elapsed - elapsed[opens][session]
    # A session that would run over the end of the window is mirrored at it.
    time = np.where(time > LAST_SECOND, np.maximum(2 * LAST_SECOND - time, FIRST_SECOND), time)

    time = time[np.lexsort((time, user))]
    return time, first | (np.diff(time, prepend=time[:1]) > LONGEST_GAP)


def _draw_choices(
    world: World,
    user: Int64Array,
    counts: Int64Array,
    time: Int64Array,
    opens_session: BoolArray,
    rng: np.random.Generator,
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Category and behaviour of each event, and the row whose item it takes (its own: a fresh item)."""
    n, users = len(user), len(counts)
    start = np.cumsum(counts) - counts
    position = np.arange(n) - start[user]

    kind = np.where(opens_session, _draw_kind(AT_SESSION_START, n, rng), _draw_kind(WITHIN_SESSION, n, rng))
    kind[(position < 2) & (kind == REVISIT)] = STAY
    kind[(position < 1) & (kind <= SUCCESSOR)] = TASTE
    revisits, succeeds = kind == REVISIT, kind == SUCCESSOR

    exponent = np.where(opens_session, STAY_LAG_EXPONENT_AT_START, STAY_LAG_EXPONENT)
    shortest = np.where(revisits, 2, 1)
    lag = shortest * (1 - rng.random(n)) ** (-1 / np.where(revisits, REVISIT_LAG_EXPONENT, exponent))
    lag = np.minimum(lag, n).astype(np.int64)
    lag = shortest + (lag - shortest) % np.maximum(position - shortest + 1, 1)
    lag[succeeds] = 1
    parent = np.where(kind <= SUCCESSOR, np.arange(n) - lag, np.arange(n))

    day = (time - FIRST_SECOND) // DAY
    tastes = world.draw_categories(rng.random((users, TASTES)))
    taste = (time - FIRST_SECOND) / (DAYS * DAY) * TASTES + rng.exponential(TASTE_WIDTH, n)
    category = np.where(
        kind == POPULAR,
        world.draw_categories(rng.random(n), day),
        tastes[user, taste.astype(np.int64) % TASTES],
    )
    successor = 1 + np.searchsorted(np.cumsum(SUCCESSOR_SHARES)[:-1], rng.random(n), side="right")
    step = np.where(succeeds, successor, 0)
    uniform = rng.random(n)
    kinds = get_args(BehaviorName)
    shares = [[BEHAVIOR_SHARES[before][kind] for kind in kinds] for before in (None, *kinds)]
    outcomes = np.stack([np.searchsorted(np.cumsum(row)[:-1], uniform, side="right") + 1 for row in shares])

    # The next choice needs the last one, so positions go one by one, each for all users that reach it.
    behavior = np.zeros(n, np.int64)
    linked = kind <= SUCCESSOR
    longest_first = np.argsort(-counts, kind="stable")
    reach = users - np.searchsorted(np.sort(counts), np.arange(counts.max()), side="right")
    for at, active in enumerate(reach):
        row = start[longest_first[:active]] + at
        source = parent[row]
        category[row] = np.where(linked[row], world.step[category[source], step[row]], category[row])
        before = np.where(revisits[row], behavior[source], 0)
        behavior[row] = outcomes[before, row]
    return category, behavior, np.where(revisits, parent, np.arange(n))


def _draw_kind(shares: tuple[float, ...], n: int, rng: np.random.Generator) -> Int64Array:
    return np.searchsorted(np.cumsum(shares)[:-1], rng.random(n), side="right")


def _roots(source: Int64Array) -> Int64Array:
    """Follows ``source`` from each row until a row that points at itself."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further


def _not_repeated(events: Events) -> BoolArray:
    """False for each row that equals an earlier one in all five fields."""
    keep = np.ones(len(events), bool)
    same_time = (events.user[1:] == events.user[:-1]) & (events.time[1:] == events.time[:-1])
    tied = np.flatnonzero(np.concatenate([same_time, [False]]) | np.concatenate([[False], same_time]))
    columns = np.stack([getattr(events, column.name)[tied] for column in fields(Events)], axis=1)
    _, earliest = np.unique(columns, axis=0, return_index=True)
    keep[tied] = False
    keep[tied[earliest]] = True
    return keep
