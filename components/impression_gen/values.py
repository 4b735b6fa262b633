"""Values of declared features: in events, and the last ones as of a time.

On their way a number that is missing is NaN, and a category that is missing is 0; what stands for one is put in its
place when impressions are made.

What an impression at time t knows:

* an event of its history, the values of its own row;
* a candidate, the last values of its item strictly before t, whoever's rows they stood in. Where all candidates were
  really shown, each has the values of its own row. Beside one that was drawn the others are as of before t, too:
  else that a value is known, or is fresh, would tell the label;
* its user, the last values strictly before t, of rows that were shown in vain, too; where all candidates were really
  shown, those of the first row;
* its request, the values of the positive's row, or of the first one of what was shown at once, and what the time t
  says;
* of a table beside the log, the rows that held before t, and of an event of the history the one that held then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ctr.components.dataset import DatasetConfig
from ctr.components.features import FeatureConfig
from ctr.components.impression_gen.event_counts import CandidateCounts
from ctr.components.impression_gen.events import EVENT, EXPOSED_EVENT, Records, value_keys
from ctr.components.impression_gen.hashing import id_hash
from ctr.components.impression_gen.spool import Parcel, Spool
from ctr.components.local_time import days_of_week, hours_of_day
from ctr.components.lookup import last_before, last_of, starts_run
from ctr.models.arrays import Array, BoolArray, Int64Array, UInt64Array
from ctr.models.impression import PADDING_ID

_COMPUTED: Final = {"hour_of_day": hours_of_day, "day_of_week": days_of_week}


def value_type(features: Mapping[str, FeatureConfig]) -> np.dtype[Any]:
    """The values of these features, a field each: float32, int64, or [max_values] int64."""
    kinds: dict[str, tuple[Any, ...]] = {"number": ("<f4",), "category": ("<i8",)}
    return np.dtype([(name, *kinds.get(each.kind, ("<i8", (each.max_values,)))) for name, each in features.items()])


def event_type(dataset: DatasetConfig) -> np.dtype[Any]:
    """:data:`EVENT`, or of exposures :data:`EXPOSED_EVENT`, with a field ``values`` where columns are declared."""
    values = value_type({name: each for name, each in dataset.features.items() if each.in_log})
    kind = EXPOSED_EVENT if dataset.shown else EVENT
    return np.dtype([*kind.descr, ("values", values)]) if values.names else kind


def is_known(values: Array) -> BoolArray:
    """Which of [n] or [n, max_values] values are there."""
    first = values.reshape(len(values), -1)[:, 0]
    known: BoolArray = ~np.isnan(first) if first.dtype.kind == "f" else first != 0
    return known


def _taken(values: Array, place: Int64Array) -> Array:
    """The values at places [m], missing ones where a place is -1."""
    found = np.full((len(place), *values.shape[1:]), np.nan if values.dtype.kind == "f" else 0, values.dtype)
    found[place >= 0] = values[place[place >= 0]]
    return found


# --- as of a time ----------------------------------------------------------------------------------------------------


def of_candidates(features: Mapping[str, FeatureConfig]) -> dict[str, FeatureConfig]:
    """The features that candidates have as of a time, out of the log."""
    return {
        name: each
        for name, each in features.items()
        if each.of == "item" and each.in_log and "candidate" in each.groups
    }


def change_type(features: Mapping[str, FeatureConfig]) -> np.dtype[Any]:
    """These values of an item, or of a user, from a time on; the key is its ``id_hash``."""
    return np.dtype([("key", "<u8"), ("time", "<i8"), ("values", value_type(features))])


def known_values(owner: Literal["item", "user"], events: Records, features: Mapping[str, FeatureConfig]) -> Records:
    """What the rows of events [n] say of their items, or users, [m] :func:`change_type` of these features."""
    found = np.empty(len(events), change_type(features))
    found["key"], found["time"] = id_hash(events[owner]), events["timestamp"]
    known = np.zeros(len(events), bool)
    for name in found["values"].dtype.names or ():
        found["values"][name] = events["values"][name]
        known |= is_known(found["values"][name])
    kept: Records = found[known]
    return kept


def merge_values(found: Records) -> Records:
    """Only what changes, [m] in order of (key, time): each row has all values that are known by then.

    Of several rows of one item, or user, in one second the last counts in the order of their values, so that no order
    of the log does.

    Args:
      found: [n] :func:`change_type`, all of each item or user.
    """
    rows = found[np.lexsort([*value_keys(found["values"]), found["time"], found["key"]])]
    index = np.arange(len(rows))
    first = np.maximum.accumulate(np.where(starts_run(rows["key"]), index, 0))
    values = np.empty(len(rows), rows["values"].dtype)
    for name in values.dtype.names or ():
        column = rows["values"][name]
        values[name] = _taken(column, last_of(is_known(column), first))
    rows["values"] = values
    rows = rows[starts_run(rows["key"][::-1], rows["time"][::-1])[::-1]]
    changes = starts_run(rows["key"])
    for name in values.dtype.names or ():
        column = rows["values"][name].reshape(len(rows), -1)
        same = (column[1:] == column[:-1]) | (np.isnan(column[1:]) & np.isnan(column[:-1]))
        changes[1:] |= ~same.all(axis=1)
    kept: Records = rows[changes]
    return kept


@dataclass(frozen=True, eq=False)
class ItemValues:
    """The last values of items, or of users, as of any time: n changes in order of (key, time)."""

    key: UInt64Array
    """[n] ``id_hash`` of the id."""
    time: Int64Array
    """[n]"""
    values: Mapping[str, Array]
    """Feature -> [n] or [n, max_values]."""

    @classmethod
    def of(cls, changes: Records) -> ItemValues:
        """Of what :func:`merge_values` gave."""
        return cls(np.ascontiguousarray(changes["key"]), np.ascontiguousarray(changes["time"]), _columns(changes))

    @classmethod
    def opened(cls, parcels: Sequence[Parcel], features: Mapping[str, FeatureConfig], spool: Spool) -> ItemValues:
        """Of columns in a spool, see :func:`columns_of`, which are mapped into memory; none where no value is known."""
        if not parcels:
            return cls.of(np.empty(0, change_type(features)))
        kind = change_type(features)["values"]
        key, time, *columns = parcels
        return cls(
            spool.map(key, np.dtype("<u8")),
            spool.map(time, np.dtype("<i8")),
            {
                name: spool.map(parcel, kind[name].base).reshape(-1, *kind[name].shape)
                for name, parcel in zip(kind.names or (), columns, strict=True)
            },
        )

    def before(self, ids: Int64Array, times: Int64Array) -> dict[str, Array]:
        """The last values of ids [m] strictly before times [m]."""
        place = last_before(self.key, self.time, id_hash(ids), times)
        return {name: _taken(values, place) for name, values in self.values.items()}


def columns_of(changes: Records) -> list[Array]:
    """The columns that :meth:`ItemValues.opened` takes, each on its own: a search reads no other."""
    return [np.ascontiguousarray(each) for each in (changes["key"], changes["time"], *_columns(changes).values())]


def _columns(changes: Records) -> dict[str, Array]:
    return {name: np.ascontiguousarray(changes["values"][name]) for name in changes["values"].dtype.names or ()}


AsOf = Mapping[str, ItemValues]
"""Table beside the log -> its values; those of items out of the log are :data:`LOG`'s."""
LOG: Final = ""


def of_source(features: Mapping[str, FeatureConfig], source: str) -> dict[str, FeatureConfig]:
    """The features whose values as of a time are of a table, or of :data:`LOG`."""
    if source == LOG:
        return of_candidates(features)
    return {name: each for name, each in features.items() if each.table == source}


# --- of impressions --------------------------------------------------------------------------------------------------


def were_drawn(items: Int64Array, event: Int64Array) -> BoolArray:
    """Of which impressions [n] a candidate [n, N] was drawn, and not all were shown."""
    found: BoolArray = ((event < 0) & (items != PADDING_ID)).any(axis=1)
    return found


class DeclaredFields:
    """The declared features of one partition's impressions, as the fields that ``models.impression`` names.

    Args:
      events: [m] ``event_type``, as ``sort_partition`` orders them.
      dataset: what is declared.
      known: values as of a time, where there are to be any.
      counts: of the events of candidates, where the settings ask for them.
    """

    def __init__(
        self, events: Records, dataset: DatasetConfig, known: AsOf | None, counts: CandidateCounts | None = None
    ) -> None:
        self._features = dataset.features
        self._zone = dataset.zone
        self._known = known or {}
        self._counts = counts
        self._user, self._item, self._time = events["user"], events["item"], events["timestamp"]
        there = events["values"] if "values" in (events.dtype.names or ()) else np.empty(0, [])
        self._values = {name: np.ascontiguousarray(there[name]) for name in there.dtype.names or ()}
        of_users = {name: self._features[name] for name in self._of("user")}
        self._of_users = ItemValues.of(
            merge_values(known_values("user", events, of_users)) if of_users else np.empty(0, change_type({}))
        )

    def of_history(self, event: Int64Array) -> dict[str, Array]:
        """Of events [k]."""
        found = {name: self._values[name][event] for name in self._of("item", "event", group="history")}
        # A row of a table holds from its time on.
        return self._fields(found | self._beside("history", self._item[event], self._time[event] + 1))

    def of_candidates(self, items: Int64Array, times: Int64Array, event: Int64Array) -> dict[str, Array]:
        """Of candidates, impression after impression.

        Args:
          items: [n, N], padded with 0 where some have more than others.
          times: [n] of the impressions.
          event: [n, N] own rows, -1 where there is none.
        """
        names = self._of("item", group="candidate")
        at = np.repeat(times, event.shape[1])
        found = self._beside("candidate", items.ravel(), at)
        if names:
            drawn = np.repeat(were_drawn(items, event), event.shape[1])
            found |= self._own_or_before(names, event.ravel(), drawn, self._known[LOG], items.ravel(), at)
        return self._fields(found)

    def counted(self, candidates: Mapping[str, Int64Array], times: Int64Array) -> dict[str, Int64Array]:
        """Counts of candidates, of their fields [k], at times [k]."""
        return self._counts.of(candidates, times) if self._counts is not None else {}

    def of_context(self, event: Int64Array, drawn: BoolArray) -> dict[str, Array]:
        """Of impressions.

        Args:
          event: [n] row that speaks for each.
          drawn: [n] whether a candidate was drawn, and not all were shown.
        """
        found = {name: self._values[name][event] for name in self._of("request")}
        users, times = self._user[event], self._time[event]
        if names := self._of("user"):
            found |= self._own_or_before(names, event, drawn, self._of_users, users, times)
        found |= self._beside("context_input", users, times)
        fields = self._fields(found)
        for name, each in self._features.items():
            if each.computed is not None:
                fields[name] = _COMPUTED[each.computed](times, self._zone).astype(np.float32)
        return fields

    def _own_or_before(
        self,
        names: Sequence[str],
        own: Int64Array,
        drawn: BoolArray,
        known: ItemValues,
        ids: Int64Array,
        times: Int64Array,
    ) -> dict[str, Array]:
        """Values of own rows [k], and where drawn the last ones of ids [k] strictly before times [k]."""
        before = known.before(ids[drawn], times[drawn])
        found = {name: self._values[name][own] for name in names}
        for name, values in found.items():
            values[drawn] = before[name]
        return found

    def _beside(self, group: str, ids: Int64Array, before: Int64Array) -> dict[str, Array]:
        """What the tables say of ids [k], strictly before times [k]."""
        found: dict[str, Array] = {}
        for name, table in self._known.items():
            wanted = [each for each in table.values if group in self._features[each].groups]
            if wanted and name != LOG:
                values = table.before(ids, before)
                found |= {each: values[each] for each in wanted}
        return found

    def _of(self, *owners: str, group: str = "context_input") -> list[str]:
        return [name for name in self._values if (each := self._features[name]).of in owners and group in each.groups]

    def _fields(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Source -> [k] values, with what stands for a missing one."""
        fields: dict[str, Array] = {}
        for name, found in values.items():
            each = self._features[name]
            if each.kind == "number":
                fields[name] = np.where(np.isnan(found), np.float32(each.missing), found)
            else:
                fields |= zip(each.sources(name), found.reshape(len(found), -1).T, strict=True)
        return fields
