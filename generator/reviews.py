"""The same users and items as reviews, in the form of Amazon's: ids that are strings, stars, days, no kind of event.

A user reviews an item once, at its first event. An hour of the log is a day of the reviews, whose times are days.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ctr.generator.events import Events
from ctr.generator.generator_config import GeneratorConfig
from ctr.generator.world import DAY
from ctr.models.arrays import Int64Array

STARS: Final = ["", "1", "2", "3", "4", "5"]
_STAR_SHARES: Final = (0.05, 0.05, 0.10, 0.20, 0.60)
"""About those of the real reviews, whose mean is above 4."""
_HOUR: Final = 3600
_DIGITS: Final = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "S1")


class Reviews(NamedTuple):
    """A block's rows."""

    text: bytes
    """Lines of JSON."""
    stars: Int64Array
    """[n] 1 to 5."""


def reviews_of(events: Events, config: GeneratorConfig, first_user: int) -> Reviews:
    """What a block of users, each in time order, reviews."""
    _, rows = np.unique(events.user << 32 | events.item, return_index=True)
    first = events.take(np.sort(rows))
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3, first_user)))
    stars = 1 + rng.choice(len(_STAR_SHARES), size=len(first), p=_STAR_SHARES)
    start = config.window[0]
    day = start // DAY + (first.time - start) // _HOUR
    columns = [
        '{"overall": ',
        pc.cast(pa.array(stars), pa.string()),
        '.0, "verified": true, "reviewerID": "A',
        _base36(first.user, 13),
        '", "asin": "B',
        _base36(first.item, 9),
        '", "unixReviewTime": ',
        pc.cast(pa.array(day * DAY), pa.string()),
        "}\n",
    ]
    lines = pc.binary_join_element_wise(*columns, "")
    return Reviews("".join(lines.to_pylist()).encode(), stars)


def _base36(values: npt.NDArray[np.int64], width: int) -> pa.Array:
    """The numbers [n] in so many digits and capital letters, no two alike."""
    digits = np.empty((len(values), width), "S1")
    # A prime that 36 does not hold: ids do not look like numbers, and none below 2**32 becomes another's.
    rest = values.astype(np.uint64) * np.uint64(0x9E3779B1) % np.uint64(36**8)
    for place in range(width - 1, -1, -1):
        digits[:, place] = _DIGITS[rest % 36]
        rest //= np.uint64(36)
    return pa.array(np.ascontiguousarray(digits).view(f"S{width}").ravel()).cast(pa.string())
