"""Where the numbers of an evaluation are read: the one place that knows in which file they stand."""

from __future__ import annotations

import contextlib
import os
from contextlib import closing
from typing import Final, NamedTuple

from pydantic_core import from_json

from ctr.components.files import list_folder, open_file
from ctr.components.scoring.evaluation import (
    BLESSED,
    EVALUATION_FILE,
    MODEL,
    WHOLE,
    BoundResult,
    Evaluation,
    SliceResult,
    Value,
    Verdict,
)
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.components.scoring.verdict import VERDICT_FILE
from ctr.components.scoring.verdict import Verdict as PlainVerdict
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SET, NEGATIVE_SETS

AUC: Final = "auc"
AUC_NEW: Final = "auc_new"
HEADLINE: Final = (AUC, AUC_NEW, "gauc", "log_loss", "calibration")
NEW_ITEMS: Final = "item:new"
"""The slice of impressions whose positive is new to the user; what is measured there comes before ``auc_new``."""

_BEGINNING: Final = 1 << 18


def read_evaluation(uri: str) -> Evaluation:
    """Reads what an Evaluator found. Runs before there were intervals left a verdict alone, which has fewer numbers.

    Raises:
      FileNotFoundError: if there is neither.
    """
    there = list_folder(uri)
    name = EVALUATION_FILE if EVALUATION_FILE in there else VERDICT_FILE
    with closing(open_file(os.path.join(uri, name))) as file:
        text = file.read()
    if name == EVALUATION_FILE:
        return Evaluation.model_validate_json(text)
    return _of_verdict(PlainVerdict.model_validate_json(text))


class Judged(NamedTuple):
    """What a model is judged by before all else."""

    negative_set: str
    result: SliceResult | None
    """Of the whole set; None where nothing was evaluated on it."""


def read_judged(uri: str) -> Judged:
    """As :func:`read_evaluation`, the judged set alone: it stands near the beginning of what may be megabytes."""
    with contextlib.suppress(FileNotFoundError), closing(open_file(os.path.join(uri, EVALUATION_FILE))) as file:
        begun = from_json(file.read(_BEGINNING), allow_partial=True)
        name = begun.get("judged_set")
        # The last one may be cut.
        for values in begun.get("slices", [])[:-1]:
            if (values["negative_set"], values["slice"]) == (name, WHOLE):
                return Judged(name, SliceResult.model_validate(values))
    evaluation = read_evaluation(uri)
    return Judged(evaluation.judged_set, evaluation.of(evaluation.judged_set))


def headline(evaluation: Evaluation, scorer: str = MODEL) -> dict[str, Value]:
    """The numbers that stand first wherever a run is spoken of, in words, on the judged set; those that there are."""
    judged, new = (evaluation.of(evaluation.judged_set, of) for of in (WHOLE, NEW_ITEMS))
    found = dict(judged.metrics.get(scorer, {})) if judged is not None else {}
    if new is not None and AUC in new.metrics.get(scorer, {}):
        found[AUC_NEW] = new.metrics[scorer][AUC]
    return {METRICS[name].words: found[name] for name in HEADLINE if name in found}


def interval(value: Value | None, form: str = ".4f") -> str:
    """A number and its interval for a person; a dash for none."""
    if value is None or value.value is None:
        return "-"
    ends = f" [{value.low:{form}}, {value.high:{form}}]" if value.low is not None and value.high is not None else ""
    return f"{value.value:{form}}{ends}"


def _of_verdict(verdict: PlainVerdict) -> Evaluation:
    names = {OVERALL: OVERALL, **{f"{NEGATIVE_SET}={name}": name for name in NEGATIVE_SETS}}
    slices = tuple(_slice(verdict, key, name) for key, name in names.items() if key in verdict.metrics)
    sets = [each.negative_set for each in slices if each.negative_set != OVERALL]
    compared = bool(verdict.blessed_metrics)
    return Evaluation(
        judged_set=CONTEMPORANEOUS if CONTEMPORANEOUS in sets or not sets else sets[0],
        confidence=0.95,
        resamples=0,
        seed=0,
        slices=slices,
        curves={},
        verdict=Verdict(
            blessed=verdict.blessed,
            bounds=tuple(
                BoundResult(
                    metric=failure.metric,
                    negative_set=names.get(failure.slice, failure.slice),
                    slice=WHOLE,
                    kind="max"
                    if failure.kind == "upper_bound"
                    else "max_drop"
                    if failure.kind == "max_drop"
                    else "min",
                    bound=failure.bound or 0.0,
                    confidence=None,
                    measured=Value(value=failure.value),
                    against=BLESSED if failure.kind == "max_drop" else None,
                    state="missed",
                    words=str(failure),
                    short_by=failure.short_by,
                )
                for failure in verdict.failures
            ),
            comparison="compared" if compared else "first",
            comparison_words="" if compared else "There was no blessed model to compare with.",
            look_first="",
        ),
    )


def _slice(verdict: PlainVerdict, key: str, name: str) -> SliceResult:
    values = {MODEL: verdict.metrics[key], BLESSED: verdict.blessed_metrics.get(key, {})}
    counts = {of: int(verdict.metrics[key].get(of) or 0) for of in ("gauc_users", "example_count", "pairs")}
    return SliceResult(
        negative_set=name,
        slice=WHOLE,
        users=counts["gauc_users"],
        impressions=counts["example_count"],
        pairs=counts["pairs"],
        positives=0,
        metrics={
            scorer: {metric: Value(value=value) for metric, value in of.items()} for scorer, of in values.items() if of
        },
        differences={},
    )
