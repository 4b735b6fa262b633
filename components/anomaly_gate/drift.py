"""Whether the data of a run are what the data before them were, and eval what train is.

A clock that is wrong by hours, or a kind of event that no longer arrives, breaks no range of the schema: each value is
one that may be. And TFDV's own comparators cannot see the first, as the infinity norm of a numeric feature is silently
0 and times of another span are all new. So the shapes are compared here, by formulas that the settings state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from ctr.components.anomaly_gate.distributions import Cumulative, Distributions, SplitDistributions
from ctr.components.drift import Comparison, DriftReport
from ctr.components.local_time import hours_of_day
from ctr.components.settings import DriftBounds, StatisticsConfig
from ctr.models.arrays import FloatArray
from ctr.models.errors import DataError
from ctr.models.impression import EVAL_SPLIT, TRAIN_SPLIT

_HOURS = 24
_FEWEST_HOURS = 12
"""Hours of the day that two splits must have in common."""
_FEWEST_EXPECTED = 100
"""Events of a kind that must be expected before its share is compared."""


Difference: TypeAlias = "Callable[[SplitDistributions, SplitDistributions], _Found]"


class DriftError(DataError):
    """Data that are not what they were; the message names each feature, split and setting."""


class _Found(NamedTuple):
    value: float | None
    words: str
    """What was found; without a value, why there is none."""


def compare(
    now: Distributions,
    approved: Distributions | None,
    config: StatisticsConfig,
    zone: ZoneInfo,
    compared_with: str | None = None,
) -> DriftReport:
    """Compares each split with the same one that was approved last, and eval with train.

    Args:
      now: of this run.
      approved: of the data that were approved last; None if there are none.
      config: the bounds.
      zone: of the log.
      compared_with: where ``approved`` is from.
    """
    comparisons: list[Comparison] = []
    for split, of_split in now.splits.items():
        if approved is not None and split in approved.splits:
            comparisons += _compared("drift", split, of_split, approved.splits[split], config, zone)
    if {EVAL_SPLIT, TRAIN_SPLIT} <= now.splits.keys():
        evaluated, trained = now.splits[EVAL_SPLIT], now.splits[TRAIN_SPLIT]
        comparisons += _compared("skew", EVAL_SPLIT, evaluated, trained, config, zone)
    return DriftReport(compared_with=compared_with, comparisons=tuple(comparisons))


def stop_on_drift(report: DriftReport) -> None:
    """Passes if nothing has reached a bound at which the run is to stop.

    Raises:
      DriftError: names feature, split, what was found, the bound and its setting, each time.
    """
    if stopped := report.of_state("stopped"):
        lines = "\n".join(f"  {each.words}" for each in stopped)
        raise DriftError(
            f"the data are not what they were, and nothing after this step has run:\n{lines}\n"
            "Look at the log: was a clock moved, is a source missing? If the data are right as they are, raise the "
            "bound for this run, or set it to null: later runs are compared with what this one approves."
        )


def _compared(
    kind: str,
    split: str,
    now: SplitDistributions,
    before: SplitDistributions,
    config: StatisticsConfig,
    zone: ZoneInfo,
) -> Iterator[Comparison]:
    few, min_events = min(now.events, before.events), config.min_events
    too_few = _Found(None, f"one of them has {few:,} events, less than statistics.min_events ({min_events:,})")
    found: dict[str, tuple[str, Difference]] = {
        "hour": ("Jensen-Shannon divergence of events by hour of the day", functools.partial(_hours, zone=zone)),
        "behavior": ("largest fall of a behaviour's share", _behaviors),
        "history_age": ("largest distance of the cumulative ages", _ages),
        "history_length": ("largest distance of the cumulative lengths", _lengths),
    }
    for name in sorted(now.declared.keys() & before.declared.keys()):
        found[name] = "largest distance of the cumulative values", functools.partial(_declared, name)
    for feature, (measure, difference) in found.items():
        key = "declared" if feature in now.declared else feature
        of_feature: DriftBounds = getattr(getattr(config, kind), key)
        value, about = too_few if feature != "behavior" and few < min_events else difference(now, before)
        state, bound, which = _state(value, of_feature)
        setting = f"statistics.{kind}.{key}" + (f".{which}" if which else "")
        against = f"the last approved {split}" if kind == "drift" else TRAIN_SPLIT
        words = f"{kind} of {feature}, split {split} against {against}: "
        if value is None:
            words += f"not compared, {about}."
        else:
            until = "" if bound is None else f"; {setting} is {bound:g}"
            words += f"{measure} is {value:.3f}{until}. {about}".rstrip()
        yield Comparison(
            kind=kind,
            feature=feature,
            split=split,
            measure=measure,
            value=value,
            bound=bound,
            setting=setting,
            state=state,
            words=words,
        )


def _state(value: float | None, bounds: DriftBounds) -> tuple[str, float | None, str]:
    if value is None:
        return "not_compared", None, ""
    if bounds.stop is not None and value >= bounds.stop:
        return "stopped", bounds.stop, "stop"
    if bounds.report is not None and value >= bounds.report:
        return "reported", bounds.report, "report"
    if bounds.report is not None:
        return "within", bounds.report, "report"
    return "within", bounds.stop, "stop" if bounds.stop is not None else ""


def by_hour(hours: Mapping[int, int], zone: ZoneInfo) -> FloatArray:
    """Events of each hour of the day in the log's zone, [24] means over the days; NaN where no day has the whole
    hour. The first and the last hour are left out: a split begins and ends within them."""
    whole = np.arange(min(hours, default=0) + 1, max(hours, default=0))
    local = hours_of_day(whole * 3600, zone)
    days = np.bincount(local, minlength=_HOURS)
    events = np.bincount(local, [hours.get(hour, 0) for hour in whole.tolist()], minlength=_HOURS)
    return np.where(days > 0, events / np.maximum(days, 1), np.nan)


def jensen_shannon(one: FloatArray, other: FloatArray) -> float:
    """Divergence of two lists of weights [n], in bits: 0 for equal shares, 1 for what has nothing in common."""
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2

    def from_middle(shares: FloatArray) -> float:
        some = shares > 0
        return float((shares[some] * np.log2(shares[some] / middle[some])).sum())

    return max(0.0, (from_middle(p) + from_middle(q)) / 2)


def _hours(now: SplitDistributions, before: SplitDistributions, zone: ZoneInfo) -> _Found:
    one, other = by_hour(now.hours, zone), by_hour(before.hours, zone)
    known = ~np.isnan(one) & ~np.isnan(other)
    if known.sum() < _FEWEST_HOURS or not one[known].sum() or not other[known].sum():
        return _Found(None, f"{known.sum()} whole hours of the day are in both; {_FEWEST_HOURS} are needed")
    value = jensen_shannon(one[known], other[known])
    if not known.all():
        return _Found(value, "")
    # The smallest move first where several fit alike.
    moves = sorted(range(1 - _HOURS // 2, 1 + _HOURS // 2), key=abs)
    fits = [jensen_shannon(one, np.roll(other, move)) for move in moves]
    best = int(np.argmin(fits))
    hint = f"With a clock that is {moves[best]:+d} h off it would be {fits[best]:.3f}."
    return _Found(value, hint if moves[best] and fits[best] < value / 2 else "")


def _behaviors(now: SplitDistributions, before: SplitDistributions) -> _Found:
    totals = sum(now.behaviors.values()), sum(before.behaviors.values())
    if not all(totals):
        return _Found(None, "one of them has no events")
    shares = {name: (now.behaviors.get(name, 0) / totals[0], n / totals[1]) for name, n in before.behaviors.items()}
    compared = {name: pair for name, pair in shares.items() if pair[1] * totals[0] >= _FEWEST_EXPECTED}
    if not compared:
        return _Found(None, f"no behaviour is expected {_FEWEST_EXPECTED} times")
    fallen = max(compared, key=lambda name: 1 - compared[name][0] / compared[name][1])
    share, was = compared[fallen]
    value = max(0.0, 1 - share / was)
    return _Found(value, f"{fallen} is {share:.2%} of the events; it was {was:.2%}." if value else "")


def _ages(now: SplitDistributions, before: SplitDistributions) -> _Found:
    return _distance(now.history_age, before.history_age, logarithmic=True)


def _lengths(now: SplitDistributions, before: SplitDistributions) -> _Found:
    return _distance(now.history_length, before.history_length, logarithmic=False)


def _declared(name: str, now: SplitDistributions, before: SplitDistributions) -> _Found:
    return _distance(now.declared[name], before.declared[name], logarithmic=False)


def _distance(now: Cumulative | None, before: Cumulative | None, logarithmic: bool) -> _Found:
    if now is None or before is None:
        return _Found(None, "one of them has no histories")
    lines = [(np.array(each.values), np.array(each.shares)) for each in (now, before)]
    if logarithmic:
        # Between deciles ages lie evenly on that scale rather than in seconds.
        lines = [(np.log(np.maximum(values, 1)), shares) for values, shares in lines]
    values = np.concatenate([values for values, _ in lines])
    # Also right before a value at which a line jumps.
    places = np.concatenate([values, np.nextafter(values, -np.inf)])
    one, other = (np.interp(places, *line) for line in lines)
    return _Found(float(np.abs(one - other).max()), "")
