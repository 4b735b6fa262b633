"""Each impression's attributes, as :data:`ctr.components.scoring.attributes.ATTRIBUTES` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np

from ctr.components.local_time import hours_of_day
from ctr.components.scoring.attributes import ATTRIBUTES, HISTORY_BUCKETS
from ctr.models.arrays import Array, BoolArray, Int64Array
from ctr.models.impression import BEHAVIORS


def popularity_bounds(counts: Array) -> Int64Array:
    """Where the tenths of popularity end.

    Train's events are put in the order of how often their item occurs there and cut into ten equal parts; items that
    occur equally often stay together. So each tenth has about a tenth of the impressions of a day like those of train.

    Args:
      counts: [items] int64, how often each item occurs in train; any order.

    Returns:
      [9] int64: the largest count in each tenth but the last.
    """
    rising = np.sort(counts)
    share = np.cumsum(rising) / max(rising.sum(), 1)
    places = np.minimum(np.searchsorted(share, np.arange(1, 10) / 10), max(rising.size - 1, 0))
    return rising[places].astype(np.int64) if rising.size else np.zeros(9, np.int64)


def attributes(
    *,
    timestamps: Array,
    history_length: Array,
    target_behavior: Array,
    item_seen: BoolArray,
    category_seen: BoolArray,
    target_count: Array,
    bounds: Array,
    user_known: BoolArray,
    features: Mapping[str, Array],
    zone: ZoneInfo,
) -> dict[str, Array]:
    """Of n impressions, attribute -> [n] strings.

    Args:
      timestamps: [n] int64, Unix seconds.
      history_length: [n] int64, events of the stored history.
      target_behavior: [n] int64, codes of ``models.impression.BEHAVIORS``.
      item_seen: [n] whether the target's item stands in the stored history.
      category_seen: [n] whether its category does.
      target_count: [n] int64, how often the target's item occurs in train; 0 if it does not.
      bounds: [9] int64, of :func:`popularity_bounds`.
      user_known: [n] whether some event of the stored history lies in the train part.
      features: name -> [n] values, of those in ``evaluation.slices``.
      zone: of the log.
    """
    tenth = np.where(target_count > 0, 1 + np.searchsorted(bounds, target_count), 0)
    codes = {
        "history_length": np.searchsorted(list(HISTORY_BUCKETS.values()), history_length, side="right") - 1,
        "behavior": target_behavior - min(BEHAVIORS.values()),
        "item": item_seen.astype(np.int8),
        "category": category_seen.astype(np.int8),
        "catalogue": (target_count == 0).astype(np.int8),
        "user": (~user_known).astype(np.int8),
        "popularity": tenth,
        "hour": hours_of_day(timestamps, zone),
    }
    found = {name: np.array(ATTRIBUTES[name])[code] for name, code in codes.items()}
    return {**found, **{name: values.astype(np.str_) for name, values in features.items()}}
