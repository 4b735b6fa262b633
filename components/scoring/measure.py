"""Every metric of every scorer, negative set and slice, with what it would be in each resample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from ctr.components.lookup import starts_run
from ctr.components.scoring.attributes import Slice
from ctr.components.scoring.bootstrap import Resampler, interval
from ctr.components.scoring.evaluation import (
    AS_LOGGED,
    BLESSED,
    MODEL,
    WHOLE,
    Curves,
    ReliabilityBin,
    Roc,
    SliceResult,
    Value,
)
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.components.scoring.pairs import Pairs, finite
from ctr.components.scoring.rows import rows_of, values_of
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.sums import SUMMED, Sums, View
from ctr.models.arrays import Array, BoolArray, FloatArray, Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import EVALUATION_SETS

MODELS: Final = (MODEL, BLESSED, AS_LOGGED)
"""Scorers that give probabilities; all others are baselines."""
ITEM, NEW = "item", "new"
"""Attribute and value of impressions whose target is new to the user."""
ROC_POINTS: Final = 200
RELIABILITY_BINS: Final = 20


class _Measured(NamedTuple):
    """A metric of a scorer on s slices."""

    value: FloatArray
    """[s]"""
    resampled: FloatArray | None
    """[resamples, s]; None where it cannot be had from sums."""
    units: Int64Array
    """[s] users, or groups of users, that count for it."""


class Scores:
    """Scored impressions, checked, with their resamples.

    Args:
      scored: a score for each candidate of each scorer; of the models probabilities.
      resamples: of the users.
      seed: of the resamples.

    Raises:
      DataError: if a score is NaN, a probability is none, or an attribute has a value that it cannot have.
    """

    def __init__(self, scored: Scored, resamples: int, seed: int) -> None:
        for name, scores in scored.scores.items():
            _check(name, scores, scored)
        self.scored = scored
        self.positive: BoolArray = scored.labels > 0
        self.new: BoolArray = scored.attributes[ITEM] == NEW
        self.resampler = Resampler(scored.users, resamples, seed)
        self.codes, self.slices = _slices(scored.attributes)

    def sets(self) -> tuple[str, ...]:
        """The negative sets that are there, and all together."""
        there = np.bincount(self.scored.negative_set, minlength=len(EVALUATION_SETS))
        return (*(name for name, count in zip(EVALUATION_SETS, there, strict=True) if count), OVERALL)

    def pairs(self, rows: BoolArray, scorer: str) -> Pairs:
        """The pairs of some impressions, as metrics of plugins get them."""
        candidates = self.scored.candidates[rows]
        of_pairs = np.repeat(rows, self.scored.candidates)
        users, new = (np.repeat(each[rows], candidates) for each in (self.scored.users, self.new))
        predictions = self.scored.scores[scorer][of_pairs]
        return Pairs(self.scored.labels[of_pairs], predictions, users, new, candidates)

    def resampled(self, metric: str, rows: BoolArray, scorer: str) -> FloatArray:
        """[resamples] a metric that no sums are known of, computed anew for each resample of users.

        A user that is drawn twice counts as two users.
        """
        compute, of = METRICS[metric].load(), np.flatnonzero(rows)
        pairs = self.pairs(rows, scorer)
        first = np.cumsum(pairs.candidates) - pairs.candidates
        user, unit = self.resampler.user[of], self.resampler.unit[of]
        found = np.empty(len(self.resampler.weights))
        for i, weights in enumerate(self.resampler.weights):
            times = weights[unit].astype(np.int64)
            drawn = np.repeat(np.arange(of.size), times)
            copy = np.arange(drawn.size) - np.repeat(np.cumsum(times) - times, times)
            candidates = pairs.candidates[drawn]
            at = np.repeat(first[drawn] - (np.cumsum(candidates) - candidates), candidates)
            at += np.arange(at.size)
            users = np.repeat(user[drawn] + (user.max(initial=0) + 1) * copy, candidates)
            found[i] = compute(Pairs(pairs.labels[at], pairs.predictions[at], users, pairs.new[at], candidates))
        return found


def _check(name: str, scores: Array, scored: Scored) -> None:
    if scores.shape != scored.labels.shape:
        raise DataError(f"{name}: {scores.size} scores for {scored.labels.size} candidates")
    if wrong := int(np.isnan(scores).sum()):
        raise DataError(f"{name}: {wrong} of {scores.size} scores are NaN: the model diverged")
    if name in MODELS and (wrong := int(((scores < 0) | (scores > 1)).sum())):
        raise DataError(f"{name}: {wrong} of {scores.size} scores are no probabilities; expected 0 to 1")


def _slices(attributes: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Attribute -> [n] int16, and the slices in the order of attributes and codes, the whole set first."""
    codes: dict[str, Array] = {}
    slices = [WHOLE]
    for attribute, values in attributes.items():
        names = values_of(attribute, values)
        code = np.full(values.size, -1, np.int16)
        for i, name in enumerate(names):
            code[values == name] = i
        if (wrong := np.flatnonzero(code < 0)).size:
            raise DataError(f"{attribute} is {str(values[wrong[0]])!r} in row {wrong[0]}; expected {', '.join(names)}")
        codes[attribute] = code
        slices += [str(Slice(attribute, name)) for name in names]
    return codes, slices


class SetMeasures:
    """All of one negative set."""

    def __init__(self, scores: Scores, negative_set: str) -> None:
        self.negative_set, self._scores = negative_set, scores
        rows = rows_of(scores.scored, negative_set)
        of_pairs = np.repeat(rows, scores.scored.candidates)
        partitions = [(np.zeros(int(rows.sum()), np.int16), 1)]
        for attribute, codes in scores.codes.items():
            # As many slices as there are values at all, so that all sets have the same slices.
            many = sum(name.partition(":")[0] == attribute for name in scores.slices)
            partitions.append((codes[rows], many))
        resampler = scores.resampler
        self._view = View(
            scores.scored.candidates[rows],
            scores.positive[of_pairs],
            scores.new[rows],
            resampler.user[rows],
            resampler.unit[rows],
            resampler.units,
            partitions,
        )
        labels, self._users = self._view.label_sums()
        self._labels = {name: sums.sum(axis=1) for name, sums in labels.items()}
        self._measured: dict[str, dict[str, _Measured]] = {}
        self.curves = Curves(roc={}, reliability={})
        base = {name: (sums, resampler.weights @ sums.T) for name, sums in labels.items()}
        for name, of_all in scores.scored.scores.items():
            of_set = of_all[of_pairs]
            sums = self._view.order_sums(of_set)
            self.curves.roc[name] = roc(self._view.positive, of_set)
            if name in MODELS:
                sums |= self._view.probability_sums(of_set)
                self.curves.reliability[name] = reliability(self._view.positive, of_set)
            self._measured[name] = self._metrics(name, sums, base)

    def _metrics(
        self, scorer: str, sums: Sums, base: Mapping[str, tuple[FloatArray, FloatArray]]
    ) -> dict[str, _Measured]:
        weights = self._scores.resampler.weights
        both = {**base, **{name: (table, weights @ table.T) for name, table in sums.items()}}
        whole = {name: table.sum(axis=1) for name, (table, _) in both.items()}
        resampled = {name: weighted for name, (_, weighted) in both.items()}
        found: dict[str, _Measured] = {}
        for metric in METRICS:
            of = METRICS[metric].of
            if of == "labels" or (of == "probabilities" and scorer not in MODELS):
                continue
            if metric in SUMMED:
                summed = SUMMED[metric]
                with np.errstate(divide="ignore", invalid="ignore"):
                    value, again = summed.value(whole, whole), summed.value(resampled, whole)
                value[~np.isfinite(value)] = again[~np.isfinite(again)] = np.nan
                units = np.min([np.count_nonzero(both[column][0], axis=1) for column in summed.over], axis=0)
                found[metric] = _Measured(value, again, units)
            else:
                found[metric] = self._computed(metric, scorer)
        return found

    def _computed(self, metric: str, scorer: str) -> _Measured:
        compute = METRICS[metric].load()
        there = self._labels["impressions"] > 0
        rows = (rows_of(self._scores.scored, self.negative_set, name) for name in self._scores.slices)
        pairs = (self._scores.pairs(each, scorer) if some else None for each, some in zip(rows, there, strict=True))
        value = [np.nan if of is None else compute(of) for of in pairs]
        return _Measured(np.array(value, np.float64), None, self._users["users"])

    def results(self, confidence: float) -> Iterator[SliceResult]:
        """Of each slice that has impressions, the whole set first."""
        values = {scorer: self._values(measured, None, confidence) for scorer, measured in self._measured.items()}
        differences = {
            scorer: self._values(measured, self._measured[MODEL], confidence)
            for scorer, measured in self._measured.items()
            if scorer != MODEL
        }
        for i, name in enumerate(self._scores.slices):
            if not self._labels["impressions"][i]:
                continue
            metrics = {scorer: {metric: of[i] for metric, of in found.items()} for scorer, found in values.items()}
            metrics[MODEL] |= {metric: Value(value=count[i]) for metric, count in self._counts().items()}
            yield SliceResult(
                negative_set=self.negative_set,
                slice=name,
                users=int(self._users["users"][i]),
                impressions=int(self._labels["impressions"][i]),
                pairs=int(self._labels["pairs"][i]),
                positives=int(self._labels["positives"][i]),
                metrics={scorer: {n: found[n] for n in METRICS if n in found} for scorer, found in metrics.items()},
                differences={
                    scorer: {metric: of[i] for metric, of in found.items()} for scorer, found in differences.items()
                },
            )

    def _counts(self) -> dict[str, FloatArray]:
        users, labels = self._users, self._labels
        return {
            "gauc_users": users["gauc_users"].astype(np.float64),
            "gauc_users_skipped": users["gauc_users_skipped"].astype(np.float64),
            "pairs": labels["pairs"],
            "pairs_new": labels["pairs_new"],
            "example_count": labels["impressions"],
        }

    def _values(
        self, measured: Mapping[str, _Measured], model: Mapping[str, _Measured] | None, confidence: float
    ) -> dict[str, list[Value]]:
        found = {}
        for metric, (value, resampled, units) in measured.items():
            if model is not None:
                value, of_model = model[metric].value - value, model[metric].resampled
                resampled = None if resampled is None or of_model is None else of_model - resampled
            found[metric] = _with_interval(value, resampled, units, confidence)
        return found

    def difference(self, slice_: str, metric: str, scorer: str, confidence: float | None) -> tuple[Value, int]:
        """The model's value less another scorer's, paired; beside it, the users or groups of users that count.

        Args:
          confidence: one-sided, of each end of the interval; None for no interval.
        """
        i = self._scores.slices.index(slice_)
        model, other = self._measured[MODEL][metric], self._measured[scorer][metric]
        value, units = (model.value - other.value)[i : i + 1], model.units[i : i + 1]
        if confidence is None:
            return _with_interval(value, None, units, 0.0)[0], int(units[0])
        if model.resampled is not None and other.resampled is not None:
            resampled = model.resampled[:, i] - other.resampled[:, i]
        else:
            rows = rows_of(self._scores.scored, self.negative_set, slice_)
            resampled = np.subtract(*(self._scores.resampled(metric, rows, each) for each in (MODEL, scorer)))
        return _with_interval(value, resampled[:, None], units, 2 * confidence - 1)[0], int(units[0])


def _with_interval(
    value: FloatArray, resampled: FloatArray | None, units: Int64Array, confidence: float
) -> list[Value]:
    low = high = np.full(value.size, np.nan)
    if resampled is not None:
        low, high = interval(resampled, units, confidence)
    return [
        Value(value=finite(v), low=finite(a), high=finite(b))
        for v, a, b in zip(value.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def roc(positive: BoolArray, scores: Array) -> Roc:
    """At most :data:`ROC_POINTS` points, each of them exact: about as many pairs lie between any two.

    Args:
      positive: [m].
      scores: [m].
    """
    falling = np.argsort(-scores, kind="stable")
    true = np.cumsum(positive[falling])
    false = np.arange(1, true.size + 1) - true
    # Equal scores are passed together.
    last = np.append(np.flatnonzero(np.diff(scores[falling])), true.size - 1)
    if not true.size or not true[-1] or not false[-1]:
        return Roc(false_positive_rate=(0.0, 1.0), true_positive_rate=(0.0, 1.0))
    wanted = np.searchsorted(last, np.linspace(0, true.size - 1, ROC_POINTS - 1))
    kept = last[np.unique(wanted)]
    rates = (np.concatenate([[0.0], each[kept] / each[-1]]).tolist() for each in (false, true))
    return Roc(false_positive_rate=tuple(next(rates)), true_positive_rate=tuple(next(rates)))


def reliability(positive: BoolArray, probabilities: Array) -> tuple[ReliabilityBin, ...]:
    """At most :data:`RELIABILITY_BINS` bins by rising probability that hold equally many pairs, give or take one.

    Args:
      positive: [m].
      probabilities: [m].
    """
    rising = np.argsort(probabilities, kind="stable")
    # Equal probabilities share their labels, so that a bin that ends among them does not depend on their order.
    tie = np.cumsum(starts_run(probabilities[rising])) - 1
    label = (np.bincount(tie, positive[rising]) / np.maximum(np.bincount(tie), 1))[tie]
    bins = zip(*(np.array_split(of, RELIABILITY_BINS) for of in (probabilities[rising], label)), strict=True)
    return tuple(
        ReliabilityBin(predicted=float(p.mean(dtype=np.float64)), observed=float(y.mean()), pairs=y.size)
        for p, y in bins
        if y.size
    )
