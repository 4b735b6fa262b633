"""Where the numbers of an evaluation are read: the one place that knows in which file they stand."""

from __future__ import annotations

import contextlib
import os
from contextlib import closing
from typing import Final, NamedTuple

from pydantic_core import from_json

from ctr.components.files import open_file
from ctr.components.scoring.evaluation import EVALUATION_FILE, MODEL, WHOLE, Evaluation, SliceResult, Value
from ctr.components.scoring.metrics import METRICS

AUC: Final = "auc"
AUC_NEW: Final = "auc_new"
HEADLINE: Final = (AUC, AUC_NEW, "gauc", "log_loss", "calibration")
NEW_ITEMS: Final = "item:new"
"""The slice of impressions whose positive is new to the user; what is measured there comes before ``auc_new``."""

_BEGINNING: Final = 1 << 18


def read_evaluation(uri: str) -> Evaluation:
    """Reads what an Evaluator found.

    Raises:
      FileNotFoundError: if there is nothing.
    """
    with closing(open_file(os.path.join(uri, EVALUATION_FILE))) as file:
        return Evaluation.model_validate_json(file.read())


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
