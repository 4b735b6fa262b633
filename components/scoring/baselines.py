"""What the baselines found, as data: readable without TensorFlow or TFX."""

from __future__ import annotations

from typing import Final, Literal

from ctr.models.impression import EVALUATION_SETS, REVISIT, SHOWN
from ctr.models.section import Record

FILE_NAME: Final = "baselines.json"
"""The file in a ``BaselineReport`` artifact, JSON of :class:`BaselineResults`."""

BaselineName = Literal["seen_before", "popularity", "coldness", "category_recency", "logistic_regression"]
SEEN_BEFORE: Final = "seen_before"
POPULARITY: Final = "popularity"
COLDNESS: Final = "coldness"
CATEGORY_RECENCY: Final = "category_recency"
LOGISTIC_REGRESSION: Final = "logistic_regression"
BASELINES: Final[dict[str, str]] = {
    SEEN_BEFORE: "seen before (in the own history)",
    POPULARITY: "item popularity in train",
    COLDNESS: "coldness (item seen in train)",
    CATEGORY_RECENCY: "category recency",
    LOGISTIC_REGRESSION: "logistic regression, match features",
}
"""Name -> words for it in the report."""


class SetResult(Record):
    """One negative set of the eval split."""

    impressions: int
    pairs: int
    positives: int
    seen_positives: int
    """Positives whose item stands in the impression's history: its last L events, as stored."""
    seen_negatives: int
    """Negatives likewise."""
    pairs_new: int
    """Pairs of impressions whose positive is new to the user, that is, not among the seen ones."""
    auc: dict[str, float | None]
    """Baseline -> AUC on all pairs of the set; None where a class is missing."""
    auc_new: dict[str, float | None]
    """Baseline -> AUC on the pairs of ``pairs_new``."""


class UnknownShare(Record):
    """Candidates whose id has no index of its own in the vocabulary."""

    split: str
    negative_set: str
    label: Literal["positive", "negative"]
    candidates: int
    unknown_items: int
    unknown_categories: int

    @property
    def item_share(self) -> float:
        """Share of candidates with an unknown item."""
        return self.unknown_items / self.candidates

    @property
    def category_share(self) -> float:
        """Share of candidates with an unknown category."""
        return self.unknown_categories / self.candidates


class BaselineResults(Record):
    """Trivial baselines on exactly the pairs that the model is judged on."""

    sets: dict[str, SetResult]
    """By negative set of the eval split."""
    unknown: tuple[UnknownShare, ...]
    fitted_impressions: int
    """Train impressions that the logistic regression was fitted on."""
    seed: int

    def seen_before(self) -> str:
        """What is to be said beside every table of AUCs: how far "seen before" tells the label by construction."""
        names = [name for name in EVALUATION_SETS if name in self.sets]
        results = [self.sets[name] for name in names]
        positives = [_share(r.seen_positives, r.positives) for r in results]
        negatives = [_share(r.seen_negatives, r.pairs - r.positives) for r in results]
        sets = ", ".join(name.replace("_", " ") for name in names)
        drawn = []
        if REVISIT in names:
            drawn.append("Revisit negatives are items of that history: there having been seen speaks for a negative.")
        if SHOWN in names:
            drawn.append("What was shown was drawn by nobody: there having been seen tells no label by construction.")
        if set(names) - {REVISIT, SHOWN}:
            drawn.append(
                f"{'Other negatives' if drawn else 'Negatives'} are drawn outside the user's own log, so having been "
                "seen tells the label by construction."
            )
        return (
            f"Seen before: {_of_sets(positives)} of the positives stand in the user's own history (its last events, as "
            f"stored) and {_of_sets(negatives)} of the negatives ({sets}). {' '.join(drawn)} AUC on new items counts "
            "only the impressions whose positive does not stand in the history."
        )


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else "-"


def _of_sets(shares: list[str]) -> str:
    return shares[0] if len(set(shares)) == 1 else " / ".join(shares)
