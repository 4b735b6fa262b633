"""Sums by slice and user, and the metrics as functions of them.

Each metric of the table is a ratio of sums over users, or made of such ratios. Weights on users then give its value in
a resample without a look at the pairs. The AUC is no such ratio. Its value is exact; in a resample it is the mean
placement of the positives plus that of the negatives, less the AUC: the placement of a pair is the share of the other
class that it is ranked right against (DeLong et al. 1988), and a user is a cluster of pairs (Obuchowski 1997). That is
the AUC of the resample to first order in the weights: what is left out shrinks with the number of users.

Sums of each slice are taken in one pass over the pairs that are sorted once for all slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from ctr.components.lookup import starts_run
from ctr.components.scoring.ranking import losses, ranks, twice_wins
from ctr.models.arrays import Array, BoolArray, FloatArray, Int64Array

Sums: TypeAlias = dict[str, FloatArray]
"""Column -> [slices, units]."""


class View:
    """n impressions with m candidates: what is summed.

    Args:
      candidates: [n] int64.
      positive: [m].
      new: [n] whether the target is new to the user.
      user: [n] dense user.
      unit: [n] what resampling draws.
      units: how many there are.
      partitions: each cuts the impressions into slices: [n] int16 slice, -1 for none, and the number of slices.
    """

    def __init__(
        self,
        candidates: Array,
        positive: BoolArray,
        new: BoolArray,
        user: Array,
        unit: Array,
        units: int,
        partitions: list[tuple[Array, int]],
    ) -> None:
        self.candidates, self.positive, self.new = candidates, positive, new
        self.user, self.unit, self.units = user, unit, units
        self.partitions = partitions
        self.impression: Int64Array = np.repeat(np.arange(candidates.size), candidates)
        self.positives: Int64Array = np.bincount(self.impression[positive], minlength=candidates.size)

    def label_sums(self) -> tuple[Sums, dict[str, Int64Array]]:
        """What does not depend on scores; beside the sums, [slices] counts of users."""
        by_user = np.argsort(self.user, kind="stable")
        ranked = (self.positives > 0) & (self.positives < self.candidates)
        counted = {
            "impressions": np.ones(self.candidates.size),
            "pairs": self.candidates,
            "positives": self.positives,
            "pairs_new": self.candidates * self.new,
            "positives_new": self.positives * self.new,
            "ranked": ranked,
            "ranked_pairs": np.where(ranked, self.candidates, 0),
        }
        parts: list[Sums] = []
        counts: list[dict[str, Int64Array]] = []
        for codes, slices in self.partitions:
            sums = self._impression_sums(codes, slices, counted)
            rows = by_user[_by_code(codes[by_user])]
            code, user = codes[rows], self.user[rows]
            first = np.flatnonzero(starts_run(code, user))
            pairs, positives = (_runs(each[rows], first) for each in (self.candidates, self.positives))
            both = (positives > 0) & (positives < pairs)
            code, unit = code[first], self.unit[rows][first]
            sums["gauc_pairs"] = self._table(code, slices, unit, np.where(both, pairs, 0))
            users, in_gauc = (np.bincount(of, minlength=slices) for of in (code, code[both]))
            counts.append({"users": users, "gauc_users": in_gauc, "gauc_users_skipped": users - in_gauc})
            parts.append(sums)
        sums = _joined(parts)
        sums["negatives"] = sums["pairs"] - sums["positives"]
        sums["negatives_new"] = sums["pairs_new"] - sums["positives_new"]
        return sums, _joined(counts)

    def order_sums(self, scores: Array) -> Sums:
        """What depends on the order of scores [m]."""
        # Stable sorts are fast where few values occur, or much is in order.
        by_score = np.argsort(scores, kind="stable")
        dense = np.cumsum(starts_run(scores[by_score])) - 1
        sorted_by_score = self._pairs(by_score, dense)
        rank = np.empty_like(dense)
        rank[by_score] = dense
        by_user = np.argsort(self.user[self.impression] * (rank.max(initial=0) + 1) + rank, kind="stable")
        sorted_by_user = self._pairs(by_user, rank[by_user])
        of_impressions = ranks(self.candidates, self.positive, scores)
        counted = {name: getattr(of_impressions, name) for name in ("ndcg", "mrr", "hit_rate")}
        counted["gauc_request"] = of_impressions.auc * self.candidates
        parts = []
        for codes, slices in self.partitions:
            sums = self._impression_sums(codes, slices, counted)
            only_new = np.where(self.new, codes, -1).astype(codes.dtype)
            for suffix, of in (("", codes), ("_new", only_new)):
                sums |= {f"{name}{suffix}": table for name, table in self._wins(sorted_by_score, of, slices).items()}
            sums["gauc"] = self._gauc(sorted_by_user, codes, slices)
            parts.append(sums)
        return _joined(parts)

    def probability_sums(self, probabilities: Array) -> Sums:
        """What depends on probabilities [m]."""
        n = self.candidates.size
        counted = {
            "loss": np.bincount(self.impression, losses(self.positive, probabilities), n),
            "predicted": np.bincount(self.impression, probabilities, n),
        }
        return _joined([self._impression_sums(codes, slices, counted) for codes, slices in self.partitions])

    def _pairs(self, order: Array, rank: Array) -> _Sorted:
        impression = self.impression[order]
        user, unit = self.user[impression].astype(np.int32), self.unit[impression].astype(np.int32)
        return _Sorted(impression, user, unit, self.positive[order], rank)

    def _wins(self, pairs: _Sorted, codes: Array, slices: int) -> Sums:
        code = codes[pairs.impression]
        rows = _by_code(code)
        code, positive, unit = code[rows], pairs.positive[rows], pairs.unit[rows]
        wins = twice_wins(starts_run(code), positive, pairs.rank[rows])
        both = self._table(2 * code + positive, 2 * slices, unit, wins)
        return {"wins_of_negatives": both[0::2], "wins_of_positives": both[1::2]}

    def _gauc(self, pairs: _Sorted, codes: Array, slices: int) -> FloatArray:
        code = codes[pairs.impression]
        rows = _by_code(code)
        code, user, positive = code[rows], pairs.user[rows], pairs.positive[rows]
        starts = starts_run(code, user)
        wins = twice_wins(starts, positive, pairs.rank[rows])
        first = np.flatnonzero(starts)
        size, positives = np.diff(np.append(first, code.size)), _runs(positive, first)
        compared = 2 * positives * (size - positives)
        auc = _runs(np.where(positive, wins, 0), first) / np.maximum(compared, 1)
        return self._table(code[first], slices, pairs.unit[rows][first], np.where(compared > 0, auc * size, 0))

    def _impression_sums(self, codes: Array, slices: int, counted: Mapping[str, Array]) -> Sums:
        rows = slice(None) if codes.min(initial=0) >= 0 else codes >= 0
        return {name: self._table(codes[rows], slices, self.unit[rows], of[rows]) for name, of in counted.items()}

    def _table(self, code: Array, slices: int, unit: Array, values: Array) -> FloatArray:
        sums: FloatArray = np.bincount(code.astype(np.int64) * self.units + unit, values, slices * self.units)  # type: ignore[assignment]
        return sums.reshape(slices, self.units)


class _Sorted(NamedTuple):
    """Pairs in an order."""

    impression: Int64Array
    user: Array
    unit: Array
    positive: BoolArray
    rank: Int64Array


def _by_code(codes: Array) -> Array:
    """Rows by rising code, those of -1 left out; within a code they keep their order."""
    # Of 16 bits, NumPy's stable sort takes time in proportion to the number of rows.
    order = np.argsort(codes.astype(np.int16), kind="stable")
    return order[np.count_nonzero(codes < 0) :]


def _runs(values: Array, first: Array) -> Array:
    return np.add.reduceat(values, first, dtype=np.int64) if first.size else np.zeros(0, np.int64)


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# --- Metrics ----------------------------------------------------------------------------------------------------------


class Summed(NamedTuple):
    """A metric as a function of sums."""

    value: Callable[[Mapping[str, FloatArray], Mapping[str, FloatArray]], FloatArray]
    """Of [..., slices] weighted sums and of the [slices] sums of all users: [..., slices]; NaN where undefined."""
    over: tuple[str, ...]
    """Columns without which a user does not count for it."""


def _ratio(numerator: str, denominator: str) -> Summed:
    return Summed(lambda s, all_: s[numerator] / s[denominator], (denominator,))


def _auc(suffix: str) -> Summed:
    positives, negatives = f"positives{suffix}", f"negatives{suffix}"
    by_positives, by_negatives = f"wins_of_positives{suffix}", f"wins_of_negatives{suffix}"

    def value(s: Mapping[str, FloatArray], all_: Mapping[str, FloatArray]) -> FloatArray:
        auc = all_[by_positives] / (2 * all_[positives] * all_[negatives])
        if s is all_:
            return auc
        of_positives = s[by_positives] / s[positives] / (2 * all_[negatives])
        return of_positives + s[by_negatives] / s[negatives] / (2 * all_[positives]) - auc

    return Summed(value, (positives, negatives))


def _normalised_entropy(s: Mapping[str, FloatArray], all_: Mapping[str, FloatArray]) -> FloatArray:
    del all_
    rate = s["positives"] / s["pairs"]
    value: FloatArray = s["loss"] / s["pairs"] / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return value


SUMMED: Final = {
    "auc": _auc(""),
    "auc_new": _auc("_new"),
    "gauc": _ratio("gauc", "gauc_pairs"),
    "gauc_request": _ratio("gauc_request", "ranked_pairs"),
    "log_loss": _ratio("loss", "pairs"),
    "normalised_entropy": Summed(_normalised_entropy, ("positives", "negatives")),
    "calibration": _ratio("predicted", "positives"),
    "ndcg": _ratio("ndcg", "ranked"),
    "mrr": _ratio("mrr", "ranked"),
    "hit_rate": _ratio("hit_rate", "ranked"),
}
"""Metrics that are resampled by their sums; others, which plugins add, are computed of the pairs."""
