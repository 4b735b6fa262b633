"""Bad rows: what the real log has too much, too early, too late or twice, and what a broken copy of it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ctr.generator.events import Events
from ctr.generator.generator_config import DIRT_KINDS, GeneratorConfig
from ctr.generator.world import DAY, World
from ctr.models.arrays import Int64Array
from ctr.models.impression import BEHAVIORS

FIELDS: Final = 5
SMALLEST_TIMESTAMP: Final = -2_134_949_234
LARGEST_TIMESTAMP: Final = 2_122_867_355
"""Of the real log."""
FAR_SHARE: Final = 0.05
"""Share of the rows outside the window that are anywhere between 1970 and the largest timestamp; the others are
within a day of the window."""

NOT_INTEGERS: Final = ("", "abc", "12.5", "1e9", "0x1F", "-", "NULL")
NOT_BEHAVIORS: Final = ("click", "PV", "view", "")


@dataclass(frozen=True)
class DirtyBlock:
    """A block's rows, dirt among them, in the order of the file."""

    events: Events
    malformed: Int64Array
    """Rows whose text is replaced, ascending."""
    malformed_lines: list[str]
    """Their texts, without line ends."""
    counts: dict[str, int]
    """Added rows by kind."""


def add_dirt(config: GeneratorConfig, world: World, clean: Events, first_user: int, last_user: int) -> DirtyBlock:
    """Adds the block's part of the dirt; over all blocks each kind comes to exactly what was asked for.

    Rows stay ordered by user and then by time; a malformed row stands where the row it was made from stands.
    """
    # A stream of its own, so that the clean rows are the same with and without dirt.
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(2, first_user)))
    parts = [clean]
    counts = {}
    texts: list[str] = []
    for kind in DIRT_KINDS:
        before, after = (config.dirt_count(kind) * user // config.users for user in (first_user, last_user))
        hosts = clean.take(rng.integers(0, len(clean), after - before))
        if kind == "two_category_items":
            hosts = _two_categories(world, hosts, clean, before, rng)
        elif kind == "negative_timestamp":
            hosts = replace(hosts, time=rng.integers(SMALLEST_TIMESTAMP, 0, len(hosts)))
        elif kind == "outside_window":
            hosts = replace(hosts, time=_outside(len(hosts), config.window, rng))
        elif kind != "duplicate":
            texts += [_malformed(kind, _fields(hosts, row), rng) for row in range(len(hosts))]
        parts.append(hosts)
        counts[kind] = len(hosts)
    joined = Events.joined(parts)
    order = np.lexsort((joined.time, joined.user))
    first_text = len(clean) + sum(counts[kind] for kind in ("negative_timestamp", "outside_window", "duplicate"))
    text_of_row = order - first_text
    malformed = np.flatnonzero((text_of_row >= 0) & (text_of_row < len(texts)))
    return DirtyBlock(joined.take(order), malformed, [texts[text_of_row[row]] for row in malformed], counts)


def _outside(n: int, window: tuple[int, int], rng: np.random.Generator) -> Int64Array:
    first, last = window
    distance = rng.integers(1, DAY + 1, n)
    near = np.where(rng.random(n) < 0.5, first - distance, last + distance)
    before = rng.integers(0, first, n)
    after = rng.integers(last + 1, LARGEST_TIMESTAMP + 1, n)
    far = np.where(rng.random(n) < 0.5, before, after)
    return np.where(rng.random(n) < FAR_SHARE, far, near)


def _two_categories(world: World, hosts: Events, clean: Events, first: int, rng: np.random.Generator) -> Events:
    """Two rows for each host, about an item that no clean row has, in the host's category and in another one."""
    n = len(hosts)
    others = clean.take(rng.integers(0, len(clean), n))
    category = world.category_ids(rng.integers(0, world.categories - 1, n))
    category = np.where(category == hosts.category, world.category_ids(np.full(n, world.categories - 1)), category)
    item = world.item_ids(world.items + first + np.arange(n))
    return Events.joined([replace(hosts, item=item), replace(others, item=item, category=category)])


def _fields(events: Events, row: int) -> list[str]:
    names = list(BEHAVIORS)
    return [
        str(events.user[row]),
        str(events.item[row]),
        str(events.category[row]),
        names[events.behavior[row] - 1],
        str(events.time[row]),
    ]


def _malformed(kind: str, values: list[str], rng: np.random.Generator) -> str:
    if kind == "wrong_field_count":
        values = [*values, "0"] if rng.random() < 0.5 else values[: rng.integers(1, FIELDS)]
    elif kind == "not_an_integer":
        values[rng.choice([0, 1, 2, 4])] = str(rng.choice(NOT_INTEGERS))
    else:
        values[3] = str(rng.choice(NOT_BEHAVIORS))
    return ",".join(values)
