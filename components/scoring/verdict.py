"""The gate's verdict as data: readable without TensorFlow or TFX."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ctr.components.scoring.metrics import METRICS
from ctr.models.section import Record

VERDICT_FILE: Final = "verdict.json"
"""Where the Evaluator writes a :class:`Verdict`, in its evaluation."""

TOO_GOOD: Final = (
    "Something that gives the label away is likelier than such a model. Look at the numbers of users and items "
    "(swapped columns of the log exchange them), at the baselines on the same pairs (one that is near 1 by itself "
    "names what tells the label), and at the settings that leak on purpose (ingest.candidate_in_history, "
    "ingest.catalogue_from). If the model is right, raise that bound in evaluation.bounds, or set it to null."
)
"""What is said of a value that is better than it can be, as an AUC near 1."""


Kind: TypeAlias = Literal["lower_bound", "upper_bound", "max_drop", "missing_slice"]


class Failure(Record):
    """One bound that a model missed."""

    metric: str
    slice: str
    """``overall``, or ``feature=value``."""
    kind: Kind
    """``max_drop`` compares with the latest blessed model; ``missing_slice``: the
    slice had no impressions."""
    bound: float | None
    value: float | None
    """What was measured, for ``max_drop`` the change; None if it is undefined, as AUC is with one class only."""
    short_by: float | None
    """How far on the wrong side of the bound."""

    def __str__(self) -> str:
        where = f"{self.metric} on {self.slice}"
        if self.kind == "missing_slice":
            return f"{self.slice} has no evaluation impressions, so its bound could not be checked"
        if self.value is None or self.short_by is None:
            return f"{where} is undefined (one class only, or a score that is no number); the bound is {self.bound:.4f}"
        if self.kind == "max_drop":
            return (
                f"{where} changed by {self.value:+.4f} against the latest blessed model; "
                f"the bound is {self.bound:+.4f}, missed by {self.short_by:.4f}"
            )
        upper = self.kind == "upper_bound"
        bound, missed = ("upper", "exceeded") if upper else ("lower", "missed")
        text = f"{where} is {self.value:.4f}; the {bound} bound is {self.bound:.4f}, {missed} by {self.short_by:.4f}"
        # A plugin's metric may be unknown where the verdict is read.
        better = METRICS[self.metric].better if self.metric in tuple(METRICS) else None
        return f"{text}. {TOO_GOOD}" if better == ("higher" if upper else "lower") else text


class Verdict(Record):
    """What the Evaluator decided, and why."""

    blessed: bool
    failures: tuple[Failure, ...]
    metrics: dict[str, dict[str, float | None]]
    """Slice -> metric -> value of the candidate; None where undefined."""
    blessed_metrics: dict[str, dict[str, float | None]]
    """The same of the latest blessed model on the same data; empty if there was none to compare with."""
