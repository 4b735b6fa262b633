"""What the baselines found, as data: readable without TensorFlow or TFX."""

from __future__ import annotations

from typing import Final, Literal

from models.config import Section

FILE_NAME: Final = "baselines.json"
"""The file in a ``BaselineReport`` artifact, JSON of :class:`BaselineResults`."""

POPULARITY: Final = "popularity"
COLDNESS: Final = "coldness"
CATEGORY_RECENCY: Final = "category_recency"
LOGISTIC_REGRESSION: Final = "logistic_regression"


class SetResult(Section):
    """One negative set of the eval split."""

    impressions: int
    pairs: int
    positives: int
    auc: dict[str, float | None]
    """Baseline -> AUC on all pairs of the set; None where a class is missing."""


class UnknownShare(Section):
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


class BaselineResults(Section):
    """Trivial baselines on exactly the pairs that the model is judged on."""

    sets: dict[str, SetResult]
    unknown: tuple[UnknownShare, ...]
    fitted_impressions: int
    """Train impressions that the logistic regression was fitted on."""
    fitted_pairs: int
    coefficients: dict[str, float]
    """Match feature -> weight of the logistic regression on the standardised feature."""
    seed: int
