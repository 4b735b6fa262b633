"""The metrics of scored pairs: what each is called, how it is computed, and which way is better.

One table: what the Evaluator computes, what ``evaluation.bounds`` may bound, the verdict's words and the report's rows
come from it. A metric is one function and one line here; from outside the tree, :func:`register_metric`. Nothing is
imported to compute with until something is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from models.registration import Declaration, RegistrationError, Registry

if TYPE_CHECKING:
    from components.scoring.pairs import Pairs

OVERALL: Final = "overall"
"""The slice of all negative sets together."""

T = TypeVar("T")


@dataclass(frozen=True)
class Metric(Declaration):
    """A number about the pairs of a slice.

    Attributes:
      words: for it in the report.
      better: which way it improves; None for what has no such way, as a count or a ratio that is best at 1.
      lowest: no value is below it.
      highest: no value is above it.
      row: where it stands in the report's table of all pairs: among the scores, among the counts, or not at all.
    """

    words: str = ""
    better: Literal["higher", "lower"] | None = None
    lowest: float = -math.inf
    highest: float = math.inf
    row: Literal["score", "count"] | None = "score"


METRICS: Final = Registry("metric", "builtins:object", Metric)


def register_metric(
    name: str,
    target: str | Callable[[Pairs], float] | None = None,
    *,
    words: str | None = None,
    better: Literal["higher", "lower"] | None,
    lowest: float = -math.inf,
    highest: float = math.inf,
    row: Literal["score", "count"] | None = "score",
) -> Callable[[T], T]:
    """Makes a metric one that the Evaluator computes and ``evaluation.bounds`` may bound.

    Call it with a target, or set it above a function as a decorator.

    Args:
      name: in the settings and the results; small letters, digits and underscores.
      target: takes :class:`components.scoring.pairs.Pairs` (numpy arrays: labels, predictions, users) and gives a
        number, NaN where it is undefined, which misses every bound; or ``"package.module:function"`` of that. Workers
        import it, so it is a function of a module. Left out by a decorator.
      words: as in :class:`Metric`; the name where none are given.
      better: as in :class:`Metric`, and so are the rest.
      lowest: see there.
      highest: see there.
      row: see there.

    Raises:
      RegistrationError: if the name is taken or impossible, or the target is no function of a module.
    """

    def declare(decorated: Any) -> Any:
        text = words or name
        metric = Metric(name, decorated, words=text, better=better, lowest=lowest, highest=highest, row=row)
        if "<" in metric.path:
            raise RegistrationError(f"metric {name!r}: {metric.path} is no function of a module, which workers import")
        METRICS.declare(metric)
        return decorated

    if target is not None:
        declare(target)
    return declare


def _builtin(name: str, words: str, better: Literal["higher", "lower"] | None = None, **attributes: Any) -> None:
    register_metric(name, f"components.scoring.pairs:{name}", words=words, better=better, lowest=0, **attributes)


_builtin("auc", "AUC", "higher", highest=1)
_builtin("auc_new", "AUC on items new to the user", "higher", highest=1, row=None)
_builtin("gauc", "GAUC", "higher", highest=1)
_builtin("log_loss", "log loss", "lower")
_builtin("calibration", "calibration")
_builtin("gauc_users", "users in GAUC", row="count")
_builtin("gauc_users_skipped", "users of one class, not in GAUC", row="count")
_builtin("pairs", "pairs", row=None)
_builtin("pairs_new", "pairs of impressions whose positive is new to the user", row=None)
_builtin("example_count", "impressions", row=None)
