"""What two versions said to the same requests, as data, and the bounds on how far they may differ."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from ctr.models.section import Record, Section


class Latency(Record):
    """Milliseconds of one request, in process."""

    p50: float
    p95: float


class Shadow(Record):
    """A canary beside the stable version."""

    stable: int
    canary: int
    source: str
    """Where the requests are from, in words."""
    requests: int
    candidates: int
    """Of all requests."""
    kendall_tau: float | None
    """Mean over the requests with two candidates or more: 1 for one order, -1 for the reverse. None without any."""
    same_first: float | None
    """Share of those whose first candidate is the same."""
    same_top10: float | None
    """Mean share of the ten first that both have, of requests with more than ten candidates; None without any."""
    mean_difference: float
    """Of the probabilities, without sign."""
    correlation: float | None
    """Pearson's, of the logits; None where one of them does not vary."""
    psi: float
    """Population stability index of the probabilities, in tenths of the stable version's."""
    ks: float
    """Largest distance of the cumulative probabilities (Kolmogorov-Smirnov)."""
    stable_latency: Latency
    canary_latency: Latency

    @property
    def latency_ratio(self) -> float:
        """Of the medians: the canary's by the stable version's."""
        return self.canary_latency.p50 / self.stable_latency.p50


class ShadowBounds(Section):
    """What keeps a canary from its label; null for no bound."""

    min_tau: Annotated[float, Field(ge=-1, le=1)] | None = 0.3
    """Of the mean of Kendall's tau."""
    min_same_first: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the share of requests with the same first candidate."""
    max_difference: Annotated[float, Field(ge=0, le=1)] | None = 0.2
    """Of the mean difference of probabilities."""
    max_psi: Annotated[float, Field(ge=0)] | None = 0.5
    """Of the population stability index: 0.25 is widely called a large change."""
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = 2.0
    """Of the medians of both latencies."""

    def missed(self, shadow: Shadow) -> Iterator[str]:
        """The bounds that a comparison misses, in words."""
        measured = {
            "min_tau": shadow.kendall_tau,
            "min_same_first": shadow.same_first,
            "max_difference": shadow.mean_difference,
            "max_psi": shadow.psi,
            "max_latency_ratio": shadow.latency_ratio,
        }
        for name, words in BOUND_WORDS.items():
            bound, value = getattr(self, name), measured[name]
            beyond = operator.lt if name.startswith("min") else operator.gt
            if bound is not None and value is not None and beyond(value, bound):
                side = "below" if name.startswith("min") else "above"
                yield f"{words} is {value:.4g}, {side} {bound:g} (--{name.replace('_', '-')})"


BOUND_WORDS: Final = {
    "min_tau": "agreement of order (Kendall's tau)",
    "min_same_first": "share of requests with the same first candidate",
    "max_difference": "mean difference of probabilities",
    "max_psi": "population stability index of probabilities",
    "max_latency_ratio": "median latency by the stable version's",
}
