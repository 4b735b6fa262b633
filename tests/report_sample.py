"""Runs as the steps write them down, of made-up numbers of the size that real ones have."""

from __future__ import annotations

import math
from typing import Any

from ctr.components.drift import Comparison
from ctr.components.run_report.report import (
    Afterwards,
    EpochOfRun,
    Lineage,
    QuarantinedRow,
    Report,
    StepCost,
)
from ctr.components.scoring import attributes
from ctr.components.scoring.baselines import BaselineResults, SetResult, UnknownShare
from ctr.components.scoring.evaluation import (
    BLESSED,
    MODEL,
    WHOLE,
    BoundKind,
    BoundResult,
    BoundState,
    Curves,
    Evaluation,
    ReliabilityBin,
    Roc,
    SliceResult,
    Value,
    Verdict,
)
from ctr.components.skew import ServedFeature, ServedSkew, SkewFindings
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset

AUCS = {
    MODEL: 0.8912,
    BLESSED: 0.8871,
    "seen_before": 0.6100,
    "popularity": 0.4950,
    "coldness": 0.5000,
    "category_recency": 0.8570,
    "logistic_regression": 0.8670,
}
HARDER = {"uniform": -0.02, "same_category": 0.25, "contemporaneous": 0.0, "revisit": 0.18}
"""How much lower an AUC is on a negative set."""
ATTRIBUTES = {**attributes.ATTRIBUTES, "history_length": attributes.ATTRIBUTES["history_length"][1:]}
"""Nobody has an empty history."""
HOSTILE = '<script>alert("row")</script>&{{ 7*7 }}'
"""A row of a log that is no row."""


def around(value: float, half: float) -> Value:
    return Value(value=round(value, 4), low=round(value - half, 4), high=round(value + 0.9 * half, 4))


def slice_result(negative_set: str, name: str, impressions: int, lower: float, blessed: bool) -> SliceResult:
    half = 0.36 / math.sqrt(impressions)
    scorers = [scorer for scorer in AUCS if blessed or scorer != BLESSED]
    metrics = {
        scorer: {
            "auc": around(max(AUCS[scorer] - lower * (AUCS[scorer] - 0.45), 0.11), half),
            "gauc": around(max(AUCS[scorer] - 0.038 - lower * (AUCS[scorer] - 0.45), 0.1), 1.2 * half),
        }
        for scorer in scorers
    }
    for scorer in {MODEL, BLESSED} & set(scorers):
        loss = 0.4321 + lower
        metrics[scorer] |= {
            "log_loss": around(loss, 2 * half),
            "calibration": around(1.012 + lower / 3, half),
            "gauc_users": Value(value=650),
        }
    return SliceResult(
        negative_set=negative_set,
        slice=name,
        users=max(impressions // 22, 1),
        impressions=impressions,
        pairs=2 * impressions,
        positives=impressions,
        metrics=metrics,
        differences={
            scorer: {
                metric: around((metrics[MODEL][metric].value or 0) - (value.value or 0), 0.4 * half)
                for metric, value in metrics[scorer].items()
                if metric != "gauc_users"
            }
            for scorer in scorers
            if scorer != MODEL
        },
    )


def bound(kind: BoundKind, state: BoundState, **changes: Any) -> BoundResult:
    words = {
        "min": "AUC on contemporaneous negatives is 0.8912; it must be at least 0.8670",
        "max": "AUC on contemporaneous negatives is 0.8912; it must be at most 0.9900",
        "max_drop": "AUC on contemporaneous negatives: the latest blessed model's is at most 0.0012 higher (95 %); "
        "it may be at most 0.0050 higher",
        "min_margin": "AUC on contemporaneous negatives is at least 0.0214 above logistic regression (95 %); "
        "it must be at least 0.0000 above",
    }
    values: dict[str, Any] = {
        "metric": "auc",
        "negative_set": CONTEMPORANEOUS,
        "slice": WHOLE,
        "kind": kind,
        "bound": {"min": 0.867, "max": 0.99, "max_drop": 0.005, "min_margin": 0.0}[kind],
        "confidence": None if kind in ("min", "max") else 0.95,
        "measured": {
            "max_drop": around(0.0041, 0.0053),
            "min_margin": around(0.0242, 0.0028),
        }.get(kind, around(0.8912, 0.0029)),
        "against": {"max_drop": BLESSED, "min_margin": "logistic_regression"}.get(kind),
        "state": state,
        "words": words[kind],
    }
    return BoundResult.model_validate(values | changes)


def roc(auc: float) -> Roc:
    # Of the binormal kind, with this area below it.
    power = (1 - auc) / max(auc, 0.01)
    points = [i / 40 for i in range(41)]
    return Roc(
        false_positive_rate=tuple(points),
        true_positive_rate=tuple(round(1 - (1 - x ** max(power, 0.05)), 5) for x in points),
    )


def reliability(bend: float) -> tuple[ReliabilityBin, ...]:
    return tuple(
        ReliabilityBin(predicted=p, observed=min(1, max(0, p + bend * math.sin(6 * p))), pairs=3008)
        for p in (0.02, 0.09, 0.2, 0.31, 0.42, 0.55, 0.68, 0.8, 0.91, 0.98)
    )


def evaluation(
    blessed: bool = True, refused: tuple[BoundResult, ...] = (), slices: bool = True, **changes: Any
) -> Evaluation:
    """``blessed``: whether there is a blessed model to compare with."""
    whole = [slice_result(name, WHOLE, 15_041, HARDER.get(name, 0), blessed) for name in NEGATIVE_SETS]
    parts = [
        slice_result(name, f"{attribute}:{value}", 15_041 // (len(values) + 3 * i), HARDER[name] + 0.11 * i, blessed)
        for name in NEGATIVE_SETS
        for attribute, values in ATTRIBUTES.items()
        for i, value in enumerate(values if attribute not in ("item", "category") else values[::-1])
    ]
    scorers = [scorer for scorer in AUCS if blessed or scorer != BLESSED]
    compared = bound(
        "max_drop", "met" if blessed else "not_compared", **({} if blessed else {"measured": None, "against": None})
    )
    values: dict[str, Any] = {
        "judged_set": CONTEMPORANEOUS,
        "confidence": 0.95,
        "resamples": 1000,
        "seed": 2017,
        "slices": (*whole, *(parts if slices else [p for p in parts if p.slice == "item:new"])),
        "curves": {
            name: Curves(
                roc={s: roc(AUCS[s] - HARDER[name] * (AUCS[s] - 0.45)) for s in scorers},
                reliability={s: reliability(0.04 if s == MODEL else -0.06) for s in (MODEL, BLESSED) if s in scorers},
            )
            for name in NEGATIVE_SETS
        },
        "verdict": Verdict(
            blessed=not refused,
            bounds=(bound("min", "met"), bound("max", "met"), compared, bound("min_margin", "met"), *refused),
            comparison="compared" if blessed else "first",
            comparison_words="Compared with the latest blessed model, on the same users."
            if blessed
            else "There is no blessed model yet; the bounds that compare with it decide nothing.",
            look_first="the slice item:new, which is furthest on the wrong side." if refused else "",
        ),
    }
    return Evaluation.model_validate(values | changes)


MISSED = (
    bound(
        "min",
        "missed",
        slice="item:new",
        bound=0.9,
        short_by=0.0488,
        words="AUC on contemporaneous negatives, item:new, is 0.8512; it must be at least 0.9000; missed by 0.0488",
    ),
    bound(
        "max_drop",
        "missed",
        measured=around(-0.02, 0.004),
        short_by=0.0189,
        words="AUC on contemporaneous negatives: the latest blessed model's is at most 0.0239 higher (95 %); it may be "
        "at most 0.0050 higher; missed by 0.0189",
    ),
)
REFUSED: dict[str, Any] = {"evaluation": evaluation(refused=MISSED), "pushed_version": None, "pushed_to": None}


DRIFT = (
    Comparison(
        kind="skew",
        feature="history_length",
        split="eval",
        measure="largest distance of the cumulative distributions",
        value=0.0213,
        bound=0.2,
        setting="statistics.skew.history_length",
        state="within",
        words="history_length of eval is 0.0213 from train; it is reported from 0.2 on",
    ),
    Comparison(
        kind="drift",
        feature="hour",
        split="train",
        measure="share of events in other hours",
        value=None,
        bound=None,
        setting="statistics.drift.hour",
        state="not_compared",
        words="hour of train: no data were approved before",
    ),
)

SKEW = SkewFindings(
    impressions=300, candidates=1500, tolerance=1e-5, model_to_signature=2.3e-7, signature_to_server=1.1e-7
)
SERVED = ServedSkew(
    request_log="/logs/ctr",
    requests=5_000,
    first=1_732_500_000,
    last=1_732_586_400,
    versions={1732500000: 4_990, 1732413600: 10},
    trained=20_000,
    features=(
        ServedFeature(
            feature="history_length",
            measure="largest distance of the cumulative distributions",
            value=0.4321,
            served=5_000,
            trained=20_000,
            bound=0.1,
            state="reported",
        ),
        ServedFeature(
            feature="candidate_item_id",
            measure="difference of the share of ids unknown to the vocabulary",
            value=0.0123,
            served=500_000,
            trained=60_000,
            bound=0.1,
            state="within",
        ),
    ),
)


def make_report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "config": load_preset("sample").model_dump(mode="json"),
        "files": ("UserBehavior.csv",),
        "rows_read": 73_899,
        "rows_kept": 73_800,
        "quarantined": {"not_an_integer": 1, "negative_timestamp": 38, "outside_window": 11, "duplicate": 49},
        "quarantined_rows": (
            QuarantinedRow(reason="not_an_integer", file="UserBehavior.csv", line=7, detail="user", text=HOSTILE),
            QuarantinedRow(
                reason="negative_timestamp", file="UserBehavior.csv", line=812, detail="-7", text="1,2,3,pv,-7"
            ),
        ),
        "users": 699,
        "impressions": {"train": 50_000, "validation": 7_000, "eval": 60_164},
        "dropped": {"train": {"short_history": 600, "no_negative:uniform": 0}, "eval": {"short_history": 15}},
        "items_with_several_categories": 21,
        "vocabulary": {"items": 12_345, "categories": 1_234},
        "epochs": tuple(
            EpochOfRun(
                number=number,
                train_loss=0.31 + 0.28 / number,
                validation_loss=0.41 + 0.12 / number + 0.004 * number,
                validation_auc=0.88 - 0.05 / number,
                seconds=9.7,
                impressions_per_second=5_155,
            )
            for number in range(1, 7)
        ),
        "drift": DRIFT,
        "skew": SKEW,
        "baselines": BaselineResults(
            sets={
                name: SetResult(
                    impressions=15_041,
                    pairs=30_082,
                    positives=15_041,
                    seen_positives=3_354,
                    seen_negatives=0,
                    pairs_new=23_374,
                    auc={},
                    auc_new={},
                )
                for name in NEGATIVE_SETS
            },
            unknown=tuple(
                UnknownShare(
                    split=split,
                    negative_set=name,
                    label=label,
                    candidates=1000,
                    unknown_items=791 if label == "positive" else 277,
                    unknown_categories=5,
                )
                for split, name in [("train", "mixed"), ("validation", "mixed"), *(("eval", n) for n in NEGATIVE_SETS)]
                for label in ("positive", "negative")
            ),
            fitted_impressions=50_000,
            seed=1,
        ),
        "evaluation": evaluation(),
        "pushed_version": 1_732_500_000,
        "pushed_to": "output/serving/ctr/1732500000",
    }
    return Report.model_validate(values | changes)


AFTERWARDS = Afterwards(
    steps=(
        StepCost(step="ImpressionGen", seconds=6.04, peak_memory=512 << 20),
        StepCost(step="Transform", seconds=0.1, cached=True),
        StepCost(step="Trainer", seconds=29.5, peak_memory=1_700 << 20),
        StepCost(step="Evaluator", seconds=4.2),
    ),
    lineage=Lineage(
        run_id="20241125-101500-000000-din",
        started="2024-11-25T10:15:00+08:00",
        data_digest="sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        span="latest",
        code_version="0.3.0",
        packages={"tfx": "1.16.0", "tensorflow": "2.16.2"},
        artifacts={"Trainer.model": "17", "Evaluator.evaluation": "21"},
    ),
)
