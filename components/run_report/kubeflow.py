"""The numbers of a report as metadata of Kubeflow's own artifacts, which its user interface shows."""

from __future__ import annotations

from typing import Any, Final

from ctr.components.run_report.render import metrics_of
from ctr.components.run_report.report import NEW_ITEM, Report, set_words, words_of
from ctr.components.scoring.evaluation import MODEL, Value

METRICS_ARTIFACT: Final = "metrics"
ROC_ARTIFACT: Final = "roc"


def executor_output(report: Report) -> dict[str, Any]:
    """JSON of an ``ExecutorOutput``: the metadata of :data:`METRICS_ARTIFACT` and :data:`ROC_ARTIFACT`."""
    found = {METRICS_ARTIFACT: metrics(report), ROC_ARTIFACT: roc(report)}
    return {"artifacts": {name: {"artifacts": [{"metadata": metadata}]} for name, metadata in found.items()}}


def metrics(report: Report) -> dict[str, float]:
    """Of a ``system.Metrics``: the model's scores on the judged set, and how far it is above what it is compared with.

    Each has its interval's ends beside it, where there is one.
    """
    evaluation = report.evaluation
    judged, new = evaluation.of(evaluation.judged_set), evaluation.of(evaluation.judged_set, NEW_ITEM)
    where = f"{set_words(evaluation.judged_set)} negatives"
    found: dict[str, float] = {}
    if judged is not None:
        for metric in metrics_of(report):
            found |= _ends(f"{words_of(metric)}, {where}", judged.metrics[MODEL].get(metric))
        for scorer, differences in judged.differences.items():
            found |= _ends(f"{words_of('auc')} less {report.name_of(scorer)}'s, {where}", differences.get("auc"))
    if new is not None:
        found |= _ends(f"{words_of('auc')}, {where}, positive new to the user", new.metrics.get(MODEL, {}).get("auc"))
    return found


def roc(report: Report) -> dict[str, Any]:
    """Of a ``system.ClassificationMetrics``: the model's ROC curve on the judged set.

    Kubeflow wants a threshold at each point. It is one of ranks here: which share of the negatives lies below it.
    """
    curves = report.evaluation.curves.get(report.evaluation.judged_set)
    if curves is None or MODEL not in curves.roc:
        return {}
    of = curves.roc[MODEL]
    points = zip(of.false_positive_rate, of.true_positive_rate, strict=True)
    return {
        "confidenceMetrics": [
            {"confidenceThreshold": 1 - false, "falsePositiveRate": false, "recall": true} for false, true in points
        ]
    }


def _ends(name: str, value: Value | None) -> dict[str, float]:
    if value is None or value.value is None:
        return {}
    ends = {} if value.low is None or value.high is None else {f"{name} (low)": value.low, f"{name} (high)": value.high}
    return {name: value.value, **ends}
