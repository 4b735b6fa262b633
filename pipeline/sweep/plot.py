"""The picture of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from ctr.components.scoring.baselines import CATEGORY_RECENCY, LOGISTIC_REGRESSION
from ctr.models.impression import EVALUATION_SETS
from ctr.pipeline.sweep.render import SweepReport
from ctr.pipeline.sweep.trials import Variant

_REFERENCES: Final = {LOGISTIC_REGRESSION: "--", CATEGORY_RECENCY: ":"}
_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000", "#999999")
"""Told apart by people who do not see red and green, too."""


class _View(NamedTuple):
    """What of a variant is its row, its colour and whether its mark is filled."""

    row: Callable[[Variant], str]
    color: Callable[[Variant], str]
    filled: Callable[[Variant], bool]
    mark: Callable[[Variant], str]


_OF_MODELS: Final = _View(
    row=lambda v: v.model,
    color=lambda v: v.activation,
    filled=lambda v: v.match_features,
    mark=lambda v: f"{'with' if v.match_features else 'without'} match features",
)
_OF_SAMPLERS: Final = _View(
    row=lambda v: v.negatives,
    color=lambda v: v.model,
    filled=lambda v: v.loss == "pointwise",
    mark=lambda v: v.loss.replace("_", " "),
)


def plot(report: SweepReport, path: str) -> None:
    """AUC of each variant, of which there must be one, by negative set, beside the baselines; writes a PNG.

    A row is a model and a colour an activation; with several samplers a row is a sampler and a colour a model.
    """
    variants = [v.variant for v in report.variants]
    view = _OF_SAMPLERS if len({v.negatives for v in variants}) > 1 else _OF_MODELS
    sets = [name for name in EVALUATION_SETS if name in report.baselines.sets]
    rows = _rows(report, view)
    colors = list(dict.fromkeys(view.color(v) for v in variants))
    figure = Figure(figsize=(4.2 * len(sets), 1.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, sets, strict=True):
        for baseline, style in _REFERENCES.items():
            value = report.baselines.sets[name].auc.get(baseline)
            if value is not None:
                axis.axvline(value, color="0.4", linestyle=style, linewidth=1, label=baseline.replace("_", " "))
        for summary in report.variants:
            variant = summary.variant
            number = colors.index(view.color(variant))
            color = _COLORS[number % len(_COLORS)]
            axis.errorbar(
                summary.auc[name].mean,
                rows.index(view.row(variant)) + 0.2 * (number - (len(colors) - 1) / 2),
                xerr=summary.auc[name].deviation,
                fmt="o",
                markersize=6,
                color=color,
                markerfacecolor=color if view.filled(variant) else "white",
                label=f"{view.color(variant)}, {view.mark(variant)}",
            )
        axis.set_title(f"{name.replace('_', ' ')} negatives")
        axis.set_xlabel("AUC")
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(rows)), rows)
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def _rows(report: SweepReport, view: _View) -> Sequence[str]:
    """From the bottom to the top: models by their best AUC, samplers as they were given, the first at the top."""
    names = list(dict.fromkeys(view.row(v.variant) for v in report.variants))
    if view is _OF_SAMPLERS:
        return names[::-1]

    def best(name: str) -> float:
        return max(v.auc[report.judged_set].mean for v in report.variants if view.row(v.variant) == name)

    return sorted(names, key=best)
