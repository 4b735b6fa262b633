"""The metrics of scored pairs: what each is called, how it is computed, and which way is better.

One table: what the Evaluator computes, what ``evaluation.bounds`` may bound, the verdict's words and the report's rows
come from it. A metric is one function and one line here; from outside the tree, :func:`register_metric`. Nothing is
imported to compute with until something is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from ctr.models.registration import Declaration, RegistrationError, Registry

OVERALL: Final = "overall"
"""The slice of all negative sets together."""


@dataclass(frozen=True, kw_only=True)
class Metric(Declaration):
    """A number about the pairs of a slice."""

    words: str = ""
    """For it in the report; the name where none are given."""
    better: Literal["higher", "lower"] | None
    """Which way it improves; None for what has no such way, as a count or a ratio that is best at 1."""
    lowest: float = -math.inf
    """No value is below it."""
    highest: float = math.inf
    """No value is above it."""
    of: Literal["order", "probabilities", "labels"] = "probabilities"
    """What it is made of: the order of scores, so that a baseline has it, too; probabilities, so that models alone have
    it; or nothing that is scored."""
    row: Literal["score", "count"] | None = "score"
    """Where it stands in the report's table of all pairs: among the scores, among the counts, or not at all."""

    def __post_init__(self) -> None:
        if "<" in self.path:
            why = f"{self.path} is no function of a module, which workers import"
            raise RegistrationError(f"metric {self.name!r}: {why}")
        object.__setattr__(self, "words", self.words or self.name)


METRICS: Final = Registry("metric", "builtins:object", Metric)


register_metric: Final = METRICS.register
"""Of a function of :class:`ctr.components.scoring.pairs.Pairs` (numpy arrays: labels, predictions, users) that gives a
number, NaN where it is undefined, which misses every bound. Workers import it, so it is a function of a module."""


def _builtin(name: str, words: str, better: Literal["higher", "lower"] | None = None, **attributes: Any) -> None:
    register_metric(name, f"ctr.components.scoring.pairs:{name}", words=words, better=better, lowest=0, **attributes)


_builtin("auc", "AUC", "higher", highest=1, of="order")
_builtin("auc_new", "AUC on items new to the user", "higher", highest=1, of="order", row=None)
_builtin("gauc", "GAUC", "higher", highest=1, of="order")
_builtin("gauc_request", "GAUC by request", "higher", highest=1, of="order")
_builtin("log_loss", "log loss", "lower")
_builtin("normalised_entropy", "normalised entropy", "lower")
_builtin("calibration", "calibration")
_builtin("ndcg", "NDCG@10", "higher", highest=1, of="order")
_builtin("mrr", "MRR", "higher", highest=1, of="order")
_builtin("hit_rate", "hit rate at rank 1", "higher", highest=1, of="order")
_builtin("gauc_users", "users in GAUC", of="labels", row="count")
_builtin("gauc_users_skipped", "users of one class, not in GAUC", of="labels", row="count")
_builtin("pairs", "pairs", of="labels", row=None)
_builtin("pairs_new", "pairs of impressions whose positive is new to the user", of="labels", row=None)
_builtin("example_count", "impressions", of="labels", row=None)
