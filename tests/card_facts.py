"""What a card is made of, by hand."""

from __future__ import annotations

from ctr.components.examples.log_content import LogContent, LogFile
from ctr.components.examples.summary import IngestSummary, key, summarise
from ctr.components.provenance import Provenance
from ctr.components.pusher.model_card import CardFacts
from ctr.components.pusher.settings import CardSettings
from ctr.components.scoring.evaluation import (
    BoundResult,
    Evaluation,
    SliceResult,
    Value,
    Verdict,
)
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS
from ctr.pipeline.settings.pipeline_config import load_preset

DIGEST = "5f" * 32


def value(middle: float) -> Value:
    return Value(value=middle, low=middle - 0.01, high=middle + 0.02)


def slice_result(negative_set: str, auc: float, slice: str = "") -> SliceResult:
    return SliceResult(
        negative_set=negative_set,
        slice=slice,
        users=650,
        impressions=14_000,
        pairs=28_000,
        positives=14_000,
        metrics={
            "model": {"auc": value(auc), "gauc": value(0.85), "log_loss": value(0.43)},
            "logistic_regression": {"auc": value(auc - 0.03)},
        },
        differences={"logistic_regression": {"auc": Value(value=0.03, low=0.021, high=0.039)}},
    )


def make_evaluation(blessed: bool = True, auc: float = 0.8912) -> Evaluation:
    bound = BoundResult(
        metric="auc",
        negative_set=CONTEMPORANEOUS,
        slice="",
        kind="min",
        bound=0.867,
        confidence=None,
        measured=value(auc),
        against=None,
        state="met" if blessed else "missed",
        words=f"AUC on contemporaneous negatives is {auc}, the bound is 0.8670",
    )
    judged = NEGATIVE_SETS.index(CONTEMPORANEOUS)
    return Evaluation(
        judged_set=CONTEMPORANEOUS,
        confidence=0.95,
        resamples=1000,
        seed=1,
        slices=(
            *(slice_result(name, auc + abs(place - judged) / 100) for place, name in enumerate(NEGATIVE_SETS)),
            slice_result(CONTEMPORANEOUS, 0.8512, "item:new"),
        ),
        curves={},
        verdict=Verdict(
            blessed=blessed,
            bounds=(bound,),
            comparison="first",
            comparison_words="There was no blessed model to compare with.",
            look_first="Reliability at the top.",
        ),
    )


def make_summary() -> IngestSummary:
    totals = {
        "rows_read": 73_899,
        "users": 699,
        key("events", "train"): 73_868,
        key("impressions", "train", "mixed"): 9,
    }
    return summarise(["log.csv"], totals, (1_512_000_000, 1_512_100_000))


def make_content(path: str = "/data/log.csv", digest: str = DIGEST) -> LogContent:
    file = LogFile(name="log.csv", size=2_600_000, sha256=digest, checksum=None)
    return LogContent(path=path, span=17_503, version=2, files=(file,))


def make_provenance() -> Provenance:
    return Provenance(
        version="0.1.0",
        commit="0123456789abcdef",
        changed=False,
        packages={"tensorflow": "2.16.2", "numpy": "1.26.4"},
        python="3.10.13",
        platform="Linux 6.1 x86_64",
        cpu="A CPU",
        cpus=2,
        gpus=(),
    )


def make_facts(preset: str = "sample", *changes: str) -> CardFacts:
    config = load_preset(preset, changes)
    card = CardSettings.of(config.model, config.sampler, config.training, config.ingest)
    return CardFacts(
        served_model_name="ctr",
        training=card.training,
        zone=card.zone,
        summary=make_summary(),
        content=make_content(),
        evaluation=make_evaluation(),
        artifacts={"model": 12, "evaluation": 14},
        execution="11",
        provenance=make_provenance(),
    )
