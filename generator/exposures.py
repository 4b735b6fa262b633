"""A log of exposures in Parquet: what was shown in each request, what of it was clicked, and side features.

Whether an item is clicked is drawn with a probability whose logit is a sum:

* **taste**: whether its category is one of the user's three, which the history of clicks tells;
* **price against the user's age band**: each band likes one of five levels of price best. The price of an item changes
  from day to day, so that neither its id nor its brand tells it;
* **brand**: some are better liked, whoever is asked;
* **tags**: whether one of them is among the user's favourites;
* **position**: each place further down costs :data:`POSITION_COST`. What suits the user's taste is shown higher up.

:func:`draw_block` gives the logits beside the rows, so that a test can say what each part of them is worth.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from ctr.generator.generator_config import GeneratorConfig
from ctr.generator.world import DAY, DAYS
from ctr.models.arrays import FloatArray, Int64Array
from ctr.models.errors import DataError

AGE_BANDS: Final = (18, 25, 35, 50)
"""Where a band ends and the next begins; there are five."""
PRICE_LEVELS: Final = (10.0, 25.0, 60.0, 150.0)
"""Likewise of prices."""
LIKED_LEVEL: Final = (0, 2, 4, 1, 3)
"""Age band -> the level of price that it likes best; no order of the one is an order of the other."""
PRICE_COST: Final = 1.2
"""Of each level that a price is away from it."""
TASTE: Final = 1.5
TAG: Final = 0.5
BRAND_SPREAD: Final = 0.5
POSITION_COST: Final = 0.15
BASE: Final = -0.3

TASTES: Final = 3
ITEMS_OF_A_CATEGORY: Final = 25
FEWEST_ITEMS: Final = 1500
SHOWN: Final = (4, 10)
"""Fewest and most items of a request."""
CITIES: Final = ("Berlin", "Lyon", "Porto", "Turin", "Ghent", "Graz", "Cork", "Malmö")
DEVICES: Final = ("phone", "tablet", "desktop")
TAGS: Final = 24
_USERS_PER_BLOCK: Final = 1000
_ITEM_STREAM, _USER_STREAM = 11, 12


class Items:
    """What the shop of a log has, [items] each."""

    def __init__(self, config: GeneratorConfig) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_ITEM_STREAM,)))
        self.count = config.items or max(FEWEST_ITEMS, config.users // 2)
        self.categories = max(1, min(config.categories, self.count // ITEMS_OF_A_CATEGORY))
        self.category: Int64Array = rng.integers(self.categories, size=self.count)
        self.brand: Int64Array = self.category * 4 + rng.integers(4, size=self.count)
        self.brand_liked: FloatArray = rng.normal(0, BRAND_SPREAD, self.categories * 4)
        self.log_price: FloatArray = rng.normal(np.log(40), 0.9, self.count)
        self.tag: Int64Array = np.where(rng.random((self.count, 3)) < 0.6, rng.integers(1, TAGS, (self.count, 3)), 0)
        self.popularity: FloatArray = rng.pareto(1.5, self.count) + 0.2


@dataclass(frozen=True, eq=False)
class Exposures:
    """The rows of some users, request by request in the order shown."""

    table: pa.Table
    """As they are written, without the day."""
    day: pa.Array
    """[n] of each row."""
    parts: dict[str, FloatArray]
    """Part of the logit -> [n] what it adds."""
    clicked: Int64Array
    """[n] 0 or 1."""


def draw_block(config: GeneratorConfig, items: Items, first: int, last: int) -> Exposures:
    """What the users from ``first`` to before ``last`` were shown."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_USER_STREAM, first)))
    users = last - first
    age = rng.integers(13, 80, users)
    tastes = rng.integers(items.categories, size=(users, TASTES))
    favourite_tag = rng.integers(1, TAGS, (users, 2))
    city = rng.integers(len(CITIES), size=users)

    low, high = SHOWN
    requests_of = 1 + rng.poisson(max(config.events_per_user / ((low + high) / 2) - 1, 0), users)
    user = np.repeat(np.arange(users), requests_of)
    start = config.window[0]
    time = start + rng.integers(DAYS * DAY, size=len(user))
    order = np.lexsort((time, user))
    time = time[order]
    device = rng.choice(len(DEVICES), size=len(user), p=(0.6, 0.1, 0.3))
    size = rng.integers(low, high + 1, size=len(user))

    # Half of what is shown suits a taste of the user, the rest is what is popular.
    request = np.repeat(np.arange(len(user)), size)
    row_user = user[request]
    by_popularity = np.searchsorted(np.cumsum(items.popularity) / items.popularity.sum(), rng.random(len(request)))
    by_category = np.argsort(items.category, kind="stable")
    begins = np.searchsorted(items.category[by_category], np.arange(items.categories + 1))
    wanted = tastes[row_user, rng.integers(TASTES, size=len(request))]
    within = (begins[wanted + 1] - begins[wanted]) * rng.random(len(request))
    of_taste = by_category[np.minimum(begins[wanted] + within.astype(np.int64), items.count - 1)]
    item = np.where(rng.random(len(request)) < 0.5, of_taste, np.minimum(by_popularity, items.count - 1))
    # A request shows an item once.
    kept = np.zeros(len(request), bool)
    kept[np.unique(request * items.count + item, return_index=True)[1]] = True
    request, row_user, item = request[kept], row_user[kept], item[kept]

    suits = (items.category[item][:, None] == tastes[row_user]).any(axis=1)
    order = np.lexsort((rng.random(len(item)) - 0.5 * suits, request))
    request, row_user, item, suits = request[order], row_user[order], item[order], suits[order]
    begin = np.maximum.accumulate(np.where(np.diff(request, prepend=-1) != 0, np.arange(len(request)), 0))
    position = 1 + np.arange(len(request)) - begin

    row_time = time[request]
    # Of an item and a day, whoever is shown it.
    day = (row_time - start) // DAY
    sale = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_ITEM_STREAM, 1)))
    price = np.round(np.exp(items.log_price + sale.normal(0, 0.8, (DAYS, items.count))), 2)[day, item]
    level = np.searchsorted(PRICE_LEVELS, price, side="right")
    band = np.searchsorted(AGE_BANDS, age, side="right")[row_user]
    shared_tags = (items.tag[item][:, :, None] == favourite_tag[row_user][:, None, :]).any(axis=(1, 2))
    parts: dict[str, FloatArray] = {
        "base": np.full(len(item), BASE),
        "taste": TASTE * suits,
        "price": -PRICE_COST * np.abs(level - np.array(LIKED_LEVEL)[band]),
        "brand": items.brand_liked[items.brand[item]],
        "tags": TAG * shared_tags,
        "position": -POSITION_COST * (position - 1.0),
    }
    probability = 1 / (1 + np.exp(-np.sum(list(parts.values()), axis=0)))
    clicked = (rng.random(len(item)) < probability).astype(np.int64)
    number = np.int64(first) * 100_000 + np.arange(len(user))
    tags = items.tag[item]
    table = pa.table(
        {
            "event_time": pa.array(row_time * 1_000_000, pa.timestamp("us", "UTC")),
            "request_id": _named("R", number[request], 10),
            "user_id": _named("U", first + row_user, 7),
            "item_id": _named("I", item, 6),
            "category": _named("C", items.category[item], 4),
            "position": pa.array(position, pa.int32()),
            "clicked": pa.array(clicked > 0),
            "price": pa.array(price),
            "brand": _named("B", items.brand[item], 4),
            "tags": _lists(tags),
            "age": pa.array(age[row_user], pa.int32()),
            "city": pa.array(CITIES).take(pa.array(city[row_user])),
            "device": pa.array(DEVICES).take(pa.array(device[request])),
        }
    )
    return Exposures(table, pc.strftime(table["event_time"], "%Y-%m-%d").combine_chunks(), parts, clicked)


def _named(letter: str, numbers: Int64Array, width: int) -> pa.Array:
    padded = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
    return pc.binary_join_element_wise(letter, padded, "")


def _lists(tags: Int64Array) -> pa.Array:
    there = tags > 0
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), _named("tag", tags[there], 2))


def write_exposures(config: GeneratorConfig, path: Path, progress: Callable[[int], None] | None) -> tuple[int, int]:
    """Writes a log as a folder of Parquet files by day, ``day=2024-05-01/part-00000.parquet``.

    Args:
      config: what to generate.
      path: of the folder, which appears when it is complete.
      progress: as of ``behavior_log.generate``.

    Returns:
      How many rows were written, and how many of them are clicks.

    Raises:
      DataError: if there is something at the path already.
    """
    items = Items(config)
    rows = clicks = 0
    hide_bar = None if progress is None else True
    with _appearing(path) as folder, tqdm(total=config.users, unit=" users", desc=path.name, disable=hide_bar) as bar:
        for block, first in enumerate(range(0, config.users, _USERS_PER_BLOCK)):
            last = min(first + _USERS_PER_BLOCK, config.users)
            drawn = draw_block(config, items, first, last)
            rows, clicks = rows + len(drawn.clicked), clicks + int(drawn.clicked.sum())
            for day in sorted(pc.unique(drawn.day).to_pylist()):
                of_day = folder / f"day={day}"
                of_day.mkdir(exist_ok=True)
                part = drawn.table.filter(pc.equal(drawn.day, day))
                pq.write_table(part, of_day / f"part-{block:05d}.parquet", compression="zstd")
            (progress or bar.update)(last - first)
    return rows, clicks


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``path`` at the end, or vanishes after an error."""
    if path.exists():
        raise DataError(f"{path}: is there already; remove it, or choose another name for the folder")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
