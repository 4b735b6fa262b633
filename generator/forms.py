"""The same users and items in other forms than the public log's, each read by a description of its own.

``amazon-reviews`` is of the form of Amazon's: JSON, ids that are strings, stars, days, no kind of event, no category.
A user reviews an item once, at its first event, and an hour of the log is a day of the reviews, whose times are days.
``shop`` is what a shop might export: a header, semicolons, ids that are strings, times as text, other names of events,
a column that nobody needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ctr.generator.events import Events
from ctr.generator.generator_config import GeneratorConfig
from ctr.generator.world import DAY
from ctr.models.arrays import Int64Array
from ctr.models.impression import BEHAVIORS, BehaviorName

SHOP_EVENTS: Final[dict[BehaviorName, str]] = {
    "pv": "view",
    "cart": "add_to_cart",
    "fav": "wishlist",
    "buy": "purchase",
}
_STAR_SHARES: Final = (0.05, 0.05, 0.10, 0.20, 0.60)
"""About those of the real reviews, whose mean is above 4."""
_HOUR: Final = 3600
_DIGITS: Final = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "S1")


class Form(NamedTuple):
    """How a log is written."""

    header: str
    kinds: tuple[str, ...]
    """What rows are counted by, from 1 on."""
    write: Callable[[Events, GeneratorConfig, int], tuple[bytes, Int64Array]]
    """A block of users, each in time order, and the number of the first user -> lines, and the kind of each."""


def _reviews(events: Events, config: GeneratorConfig, first_user: int) -> tuple[bytes, Int64Array]:
    _, rows = np.unique(events.user << 32 | events.item, return_index=True)
    first = events.take(np.sort(rows))
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3, first_user)))
    stars = 1 + rng.choice(len(_STAR_SHARES), size=len(first), p=_STAR_SHARES)
    start = config.window[0]
    day = start // DAY + (first.time - start) // _HOUR
    text = _joined(
        '{"overall": ',
        _decimal(stars),
        '.0, "verified": true, "reviewerID": "A',
        _base36(first.user, 13),
        '", "asin": "B',
        _base36(first.item, 9),
        '", "unixReviewTime": ',
        _decimal(day * DAY),
        "}\n",
    )
    return text, stars


def _shop(events: Events, config: GeneratorConfig, first_user: int) -> tuple[bytes, Int64Array]:
    names = {BEHAVIORS[kind]: name for kind, name in SHOP_EVENTS.items()}
    times = pc.cast(pc.cast(pa.array(events.time), pa.timestamp("s")), pa.string())
    text = _joined(
        times,
        ";web;",
        pa.array([names[code] for code in events.behavior.tolist()]),
        ";P",
        _base36(events.item, 8),
        ";D",
        _base36(events.category, 8),
        ";C",
        _base36(events.user, 8),
        "\n",
    )
    return text, events.behavior.astype(np.int64)


FORMS: Final[dict[str, Form]] = {
    "amazon-reviews": Form("", ("1", "2", "3", "4", "5"), _reviews),
    "shop": Form("event_time;channel;event_type;product;department;customer\n", tuple(SHOP_EVENTS.values()), _shop),
}
"""By ``GeneratorConfig.like``."""


def _joined(*parts: str | pa.Array) -> bytes:
    lines = pc.binary_join_element_wise(*parts, "")
    return "".join(lines.to_pylist()).encode()


def _decimal(values: npt.NDArray[np.int64]) -> pa.Array:
    return pc.cast(pa.array(values), pa.string())


def _base36(values: npt.NDArray[np.int64], width: int) -> pa.Array:
    """The numbers [n] in so many digits and capital letters, no two alike."""
    digits = np.empty((len(values), width), "S1")
    # A prime that 36 does not hold: ids do not look like numbers, and none below 2**32 becomes another's.
    rest = values.astype(np.uint64) * np.uint64(0x9E3779B1) % np.uint64(36**8)
    for place in range(width - 1, -1, -1):
        digits[:, place] = _DIGITS[rest % 36]
        rest //= np.uint64(36)
    return pa.array(np.ascontiguousarray(digits).view(f"S{width}").ravel()).cast(pa.string())
