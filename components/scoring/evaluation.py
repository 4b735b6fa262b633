"""What the Evaluator found, as data: readable without TensorFlow, TFX or TFMA.

One file, ``evaluation.json`` in the evaluation artifact: every metric with its interval, by negative set and slice, of
the model and of what it is compared with; the curves of the report; and the verdict with every bound, met or missed.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ctr.models.section import Record

EVALUATION_FILE: Final = "evaluation.json"
"""Where the Evaluator writes an :class:`Evaluation`, in its artifact."""

MODEL: Final = "model"
BLESSED: Final = "blessed"
"""Scorers beside the names of the baselines: the candidate, and the latest blessed model, both as they are served."""
AS_LOGGED: Final = "as_logged"
"""The candidate with the values that were logged where serving puts a constant in their place, as for the position."""

WHOLE: Final = ""
"""The slice of all impressions of a negative set."""


class Value(Record):
    """A number and the interval that holds it with the evaluation's confidence."""

    value: float | None
    """None where it is undefined, as an AUC with one class is."""
    low: float | None = None
    """None where there is no interval: of counts, and where too few users are left to resample."""
    high: float | None = None


class SliceResult(Record):
    """One slice of one negative set."""

    negative_set: str
    """One of ``models.impression.EVALUATION_SETS``, or ``overall`` for all together."""
    slice: str
    """``ATTRIBUTE:VALUE``, see ``scoring.slices``; :data:`WHOLE` for the whole set."""
    users: int
    impressions: int
    pairs: int
    positives: int
    metrics: dict[str, dict[str, Value]]
    """Scorer -> metric -> value. Metrics of probabilities (log loss, calibration) are of the models alone."""
    differences: dict[str, dict[str, Value]]
    """Scorer other than the model -> metric -> the model's value less this scorer's, paired: on the same users."""


class Roc(Record):
    """Points of a ROC curve, from (0, 0) to (1, 1)."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class ReliabilityBin(Record):
    """Pairs of about one predicted probability; bins hold equally many."""

    predicted: float
    """Mean probability."""
    observed: float
    """Share of positives."""
    pairs: int


class Curves(Record):
    """Of one negative set as a whole."""

    roc: dict[str, Roc]
    """By scorer."""
    reliability: dict[str, tuple[ReliabilityBin, ...]]
    """Of the models alone."""


BoundKind: TypeAlias = Literal["min", "max", "max_drop", "min_margin"]
"""``max_drop``: against the latest blessed model. ``min_margin``: above the best trivial baseline."""
BoundState: TypeAlias = Literal["met", "missed", "not_compared"]
"""``not_compared``: there was no blessed model, or it cannot be compared with; the bound decides nothing."""


class BoundResult(Record):
    """One bound and what came of it."""

    metric: str
    negative_set: str
    slice: str
    kind: BoundKind
    bound: float
    confidence: float | None
    """None: the value itself decides; else the end of its interval."""
    measured: Value | None
    """Of a comparison, the paired difference; None where it is not compared."""
    against: str | None
    """Scorer of a comparison."""
    state: BoundState
    words: str
    """All of this in a sentence."""
    short_by: float | None = None
    """How far on the wrong side of the bound; None where it is met or undefined."""


class Verdict(Record):
    """What was decided, and why."""

    blessed: bool
    bounds: tuple[BoundResult, ...]
    comparison: Literal["compared", "first", "switched_off", "incompatible"]
    """With the blessed model: done; there is none; ``evaluation.compare_with_blessed=false``; or it could not score
    these impressions, which blocks unless switched off."""
    comparison_words: str
    """The same in a sentence, with the reason."""
    look_first: str
    """The first thing to look at; empty if every bound is met by far."""

    @property
    def missed(self) -> tuple[BoundResult, ...]:
        """Those that block."""
        return tuple(bound for bound in self.bounds if bound.state == "missed")


class Evaluation(Record):
    """All of it."""

    judged_set: str
    confidence: float
    """Of the intervals, two-sided."""
    resamples: int
    """Bootstrap resamples of users."""
    seed: int
    slices: tuple[SliceResult, ...]
    """Whole sets first, then slices, in the order of attributes and their values."""
    curves: dict[str, Curves]
    """By negative set."""
    verdict: Verdict

    def of(self, negative_set: str, slice: str = WHOLE) -> SliceResult | None:
        """The result of a slice, or None."""
        return next((each for each in self.slices if (each.negative_set, each.slice) == (negative_set, slice)), None)
