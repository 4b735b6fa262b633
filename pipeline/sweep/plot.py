"""The picture of a sweep."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from components.baselines.results import CATEGORY_RECENCY, LOGISTIC_REGRESSION
from models.impression import NEGATIVE_SETS
from pipeline.sweep.render import SweepReport

_REFERENCES: Final = {LOGISTIC_REGRESSION: "--", CATEGORY_RECENCY: ":"}
_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Of the activations; told apart by people who do not see red and green, too."""


def plot(report: SweepReport, path: str) -> None:
    """AUC of each variant by negative set, beside the baselines; writes a PNG.

    Args:
      report: of the sweep, with at least one variant.
      path: of the picture.
    """
    sets = [name for name in NEGATIVE_SETS if name in report.baselines.sets]
    models = sorted(
        {v.variant.model for v in report.variants},
        key=lambda name: max(v.auc[report.judged_set].mean for v in report.variants if v.variant.model == name),
    )
    activations = list(dict.fromkeys(v.variant.activation for v in report.variants))
    figure = Figure(figsize=(4.2 * len(sets), 1.6 + 0.5 * len(models)), layout="constrained")
    axes = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, sets, strict=True):
        for baseline, style in _REFERENCES.items():
            value = report.baselines.sets[name].auc.get(baseline)
            if value is not None:
                axis.axvline(value, color="0.4", linestyle=style, linewidth=1, label=baseline.replace("_", " "))
        for variant in report.variants:
            number = activations.index(variant.variant.activation)
            color, match = _COLORS[number % len(_COLORS)], variant.variant.match_features
            row = models.index(variant.variant.model) + 0.2 * (number - (len(activations) - 1) / 2)
            axis.errorbar(
                variant.auc[name].mean,
                row,
                xerr=variant.auc[name].deviation,
                fmt="o",
                markersize=6,
                color=color,
                markerfacecolor=color if match else "white",
                label=f"{variant.variant.activation}, {'with' if match else 'without'} match features",
            )
        axis.set_title(f"{name.replace('_', ' ')} negatives")
        axis.set_xlabel("AUC")
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(models)), models)
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
