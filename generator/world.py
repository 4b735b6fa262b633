"""The shop that all users of a log share: categories, items, and how their popularity moves.

Nothing is stored for each item, so a catalogue of any size takes the memory of its categories.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ctr.generator.generator_config import FIRST_SECOND, LAST_SECOND, GeneratorConfig
from ctr.models.arrays import FloatArray, Int64Array

DAY: Final = 86_400
DAYS: Final = (LAST_SECOND + 1 - FIRST_SECOND) // DAY

CATEGORY_ZIPF_EXPONENT: Final = 1.12
CATEGORY_ZIPF_SHIFT: Final = 3.0
CATEGORY_DRIFT: Final = 0.5
"""Amplitude of the wave that a category's log popularity follows over the window."""
CATEGORY_SIZE_EXPONENT: Final = 0.85
"""A category's number of items grows as its popularity to this power."""
ITEM_ZIPF_EXPONENT: Final = 0.8
ITEM_ZIPF_SHIFT: Final = 2.5
"""Popularity of the r-th item of a category falls as (r + shift) to minus this power, which must be below 1."""
ITEM_DAYS: Final = 3
"""Days from one item's peak to that of the next one in the same place of their category's ranking."""
GENERATIONS: Final = DAYS // ITEM_DAYS + 2
"""Items that hold a place during the window; the first and the last may have their peak outside of it."""

SUCCESSOR_SHARES: Final = (0.7, 0.2, 0.1)
"""How often each of a category's successors is the one that follows it."""

ID_SPREAD: Final = 1.24
"""Largest id over number of ids, in the real log."""
CATEGORY_IDS: Final = 5_162_429
"""Largest category id of the real log."""
GOLDEN: Final = (math.sqrt(5) - 1) / 2


class World:
    """Tables for one configuration. Categories and items are dense numbers from 0 here; ids are for the file."""

    def __init__(self, config: GeneratorConfig) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))
        self.items = config.catalogue_items
        self.categories = config.categories
        ranks = np.arange(self.categories)
        popularity = (ranks + 1 + CATEGORY_ZIPF_SHIFT) ** -CATEGORY_ZIPF_EXPONENT
        phase = rng.random(self.categories)
        waves = np.sin(2 * np.pi * (np.arange(DAYS)[:, None] / DAYS + phase))
        self._day_cumulative = _cumulative(popularity * np.exp(CATEGORY_DRIFT * waves))
        self._cumulative = _cumulative(popularity[None, :])

        successors = self.draw_categories(rng.random((self.categories, len(SUCCESSOR_SHARES))))
        self.step = np.concatenate([ranks[:, None], successors], axis=1)
        """[categories, 1 + successors]: the category itself, then its successors."""

        weights = popularity**CATEGORY_SIZE_EXPONENT
        ends = self.categories + (self.items - self.categories) * (np.cumsum(weights) / weights.sum())
        ends = np.floor(ends - self.categories + ranks + 1).astype(np.int64)
        ends[-1] = self.items
        self._first_item = np.concatenate([[0], ends[:-1]])
        self._category_items = np.diff(np.concatenate([[0], ends]))

    def draw_categories(self, uniform: FloatArray, day: Int64Array | None = None) -> Int64Array:
        """Categories by popularity, for numbers in [0, 1); by that of a day of the window where ``day`` is given."""
        if day is None:
            return np.searchsorted(self._cumulative, uniform, side="right")
        return np.searchsorted(self._day_cumulative, day + uniform, side="right") - day * self.categories

    def draw_items(self, category: Int64Array, second: Int64Array, rank: FloatArray, fade: FloatArray) -> Int64Array:
        """Items of the given categories that are popular at the given time.

        A place in the ranking is handed from one item to the next in the course of some days, at another time
        for each place: an item is born, peaks and fades.

        Args:
          category: [n].
          second: Unix time, [n].
          rank: numbers in [0, 1) that choose the place, [n].
          fade: numbers in [0, 1) that choose between the item that goes and the one that comes, [n].
        """
        size = self._category_items[category]
        places = -(-size // GENERATIONS)
        power = 1 - ITEM_ZIPF_EXPONENT
        low, high = ITEM_ZIPF_SHIFT**power, (places + ITEM_ZIPF_SHIFT) ** power
        place = np.floor((low + rank * (high - low)) ** (1 / power) - ITEM_ZIPF_SHIFT).astype(np.int64)
        place = np.clip(place, 0, places - 1)
        elapsed = (second - FIRST_SECOND) / (ITEM_DAYS * DAY)
        generation = np.floor(elapsed + (place + category) * GOLDEN % 1 + fade).astype(np.int64)
        item: Int64Array = self._first_item[category] + np.minimum(place * GENERATIONS + generation, size - 1)
        return item

    def item_ids(self, item: Int64Array) -> Int64Array:
        """Ids of items; numbers from ``items`` on are free ids of no category, ``items // 5`` of them at least."""
        return _scattered(item, int(ID_SPREAD * self.items) + 1)

    def category_ids(self, category: Int64Array) -> Int64Array:
        """Ids of categories."""
        return _scattered(category, max(CATEGORY_IDS, self.categories))

    def user_ids(self, user: Int64Array) -> Int64Array:
        """Ids of users, ascending with gaps."""
        return 1 + user + user // 33


def _cumulative(weights: FloatArray) -> FloatArray:
    """Row k of ``weights`` [rows, n] as cumulative shares between k and k + 1, flat."""
    shares = np.cumsum(weights, axis=1)
    shares /= shares[:, -1:]
    return (shares + np.arange(len(weights))[:, None]).ravel()


def _scattered(number: Int64Array, modulus: int) -> Int64Array:
    """Maps numbers below ``modulus`` one to one to ids in 1..modulus, without order."""
    factor = max(1, int(modulus * GOLDEN))
    while math.gcd(factor, modulus) != 1:
        factor += 1
    return 1 + (number + 1) * factor % modulus
