"""What is known of runs, as JSON documents: one run, two beside each other, and where a version comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from ctr.components.scoring.evaluation import MODEL, WHOLE, Evaluation, Value
from ctr.components.scoring.metrics import METRICS
from ctr.components.scoring.reading import AUC, Judged, headline
from ctr.models.section import dotted
from ctr.pipeline.output.history import Run, Step
from ctr.pipeline.output.layout import IMPRESSIONS, PUSHER, TRAINER, Layout

_OF_NO_RESULT: Final = frozenset({"output", "enable_cache", "metadata", "kubeflow", "runner", "also_train"})
"""Settings of where and how a run runs, which change nothing that it finds."""


def entry(run: Run) -> dict[str, Any]:
    """A run, as ``runs`` lists it."""
    judged = run.judged
    return {
        "run_id": run.run_id,
        "started": run.started.isoformat(timespec="seconds"),
        "model": run.model,
        "preset": run.config.get("preset"),
        "verdict": run.verdict,
        "judged_set": judged.negative_set if judged is not None else None,
        "auc": _json(auc_of(judged)),
        "version": run.version,
        "pushed_earlier": run.pushed_earlier,
        "seconds": round(run.seconds, 3),
        "cached": run.cached,
        "usage": {name: step.usage.model_dump(mode="json") for name, step in run.steps.items()},
    }


def auc_of(judged: Judged | None) -> Value | None:
    """Of the model, on the negatives that it is judged on."""
    result = judged.result if judged is not None else None
    return result.metrics.get(MODEL, {}).get(AUC) if result is not None else None


def comparison(a: Run, b: Run) -> dict[str, Any]:
    """In what two runs differ; a difference is a list of two values, null where one of them has none. Of what is not
    known of both runs, there are no differences but null."""
    examples = [run.output(*IMPRESSIONS) for run in (a, b)]
    metrics = [_metrics(run.evaluation) for run in (a, b)]
    return {
        "a": entry(a),
        "b": entry(b),
        "config": _differences(*(_settings(run) for run in (a, b))),
        "data": _differences(*(_data(run) for run in (a, b))),
        "code": _differences(*({name: step.code for name, step in run.steps.items() if step.code} for run in (a, b))),
        "packages": _differences(*(_packages(run) for run in (a, b))),
        "same_impressions": None not in examples and len({each.id for each in examples if each is not None}) == 1,
        "metrics": {
            name: {"a": _json(metrics[0].get(name)), "b": _json(metrics[1].get(name))}
            for name in dict.fromkeys((*metrics[0], *metrics[1]))
        },
    }


def lineage(run: Run, version: int, layout: Layout) -> dict[str, Any]:
    """Where a version comes from that a run in this folder has pushed."""
    content, training = run.content, run.steps.get(TRAINER)
    provenance = training.provenance if training is not None else None
    return {
        "version": version,
        "pushed_to": _pushed_to(run, layout),
        "run": entry(run),
        "data": None if content is None else {**content.model_dump(mode="json"), "digest": content.digest},
        "steps": {name: _step(step) for name, step in run.steps.items()},
        "provenance": None if provenance is None else provenance.model_dump(mode="json"),
        "config": run.config,
    }


def _pushed_to(run: Run, layout: Layout) -> str | None:
    pushed = run.output(PUSHER, "pushed_model")
    then: str = pushed.properties.get("pushed_destination", "") if pushed is not None else ""
    # The folder may have been moved since.
    now = os.path.join(layout.serving, *then.split("/")[-2:])
    return now if os.path.isdir(now) else then or None


def _step(step: Step) -> dict[str, Any]:
    return {
        "state": step.state,
        "execution": step.execution,
        "made_by": step.made_by,
        "made_in": step.made_in,
        "code_sha256": step.code,
        "artifacts": {
            key: {"id": artifact.id, "type": artifact.type, "uri": artifact.uri}
            for key, artifact in step.outputs.items()
        },
        "provenance": None if step.provenance is None else step.provenance.model_dump(mode="json"),
    }


def _settings(run: Run) -> dict[str, Any]:
    return dict(dotted({name: value for name, value in run.config.items() if name not in _OF_NO_RESULT}))


def _data(run: Run) -> dict[str, Any]:
    content, summary = run.content, run.summary
    found: dict[str, Any] = {}
    if content is not None:
        found |= {"path": content.path, "content": content.digest, "span": content.span, "version": content.version}
    if summary is not None:
        found |= {"rows_read": summary.rows_read, "rows_kept": summary.rows_kept, "users": summary.users}
        found |= {f"impressions.{split}": count for split, count in summary.impressions.items()}
    return found


def _packages(run: Run) -> dict[str, Any]:
    training = run.steps.get(TRAINER)
    if training is None or training.provenance is None:
        return {}
    made = training.provenance
    return {"ctr-pipeline": made.code, "python": made.python, "machine": made.host, **made.packages}


def _metrics(evaluation: Evaluation | None) -> dict[str, Value]:
    """The headline numbers, and the AUC on the other negative sets, in words."""
    if evaluation is None:
        return {}
    found = {f"{name}, {_words(evaluation.judged_set)}": value for name, value in headline(evaluation).items()}
    for each in evaluation.slices:
        if each.slice == WHOLE and AUC in each.metrics.get(MODEL, {}):
            found.setdefault(f"{METRICS[AUC].words}, {_words(each.negative_set)}", each.metrics[MODEL][AUC])
    return found


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    if not a or not b:
        return None
    return {name: [a.get(name), b.get(name)] for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)}


def _json(value: Value | None) -> dict[str, Any] | None:
    return None if value is None else value.model_dump(mode="json")


def _words(name: str) -> str:
    return name.replace("_", " ")
