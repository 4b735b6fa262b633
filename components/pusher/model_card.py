"""The page that lies beside a pushed model: what it is, what it is good for, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final
from zoneinfo import ZoneInfo

from ctr.components.examples.log_content import LogContent
from ctr.components.examples.summary import IngestSummary
from ctr.components.local_time import shown
from ctr.components.provenance import Provenance
from ctr.components.scoring.baselines import BASELINES
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, MODEL, Evaluation, SliceResult
from ctr.components.scoring.metrics import OVERALL
from ctr.components.scoring.reading import AUC, headline, interval
from ctr.models.impression import SHOWN
from ctr.models.section import Record
from ctr.serving.signatures import DEFAULT_SIGNATURE, LOGIT, PROBABILITY, RANK_SIGNATURE

MODEL_CARD: Final = "model_card.md"
"""In the folder of a version. Servers read what they know of there, and nothing else."""


class CardFacts(Record):
    """What a card is made of."""

    served_model_name: str
    training: dict[str, Any]
    """Settings of the training by dotted name; of models and samplers that were not chosen, none."""
    zone: str
    """In which times are shown."""
    summary: IngestSummary
    content: LogContent
    evaluation: Evaluation
    artifacts: dict[str, int]
    """What was pushed and what it was judged by -> its number in ML Metadata."""
    execution: str
    """Number of the push there."""
    provenance: Provenance
    """Of the process that pushed."""


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    parts = [
        f"# {facts.served_model_name}: {facts.training['model.name'].upper()}",
        "The name of this folder is the version.",
        *_use(facts),
        *_measured(facts.evaluation),
        *_verdict(facts.evaluation),
        *_data(facts.summary, facts.content, facts.zone),
        "## Training",
        _table(("setting", "value"), ((f"`{name}`", _text(value)) for name, value in facts.training.items())),
        *_lineage(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _use(facts: CardFacts) -> Iterator[str]:
    judged = _judged(facts.evaluation)
    share = judged.positives / judged.pairs if judged is not None and judged.pairs and judged.positives else None
    base = f"{share:.0%} of the candidates are chosen" if share else "negatives are as frequent as in its evaluation"
    limits = [
        f"- **The probability is no click rate.** Negatives were sampled; it is that of being chosen where {base}.",
        "- The numbers below cannot be compared with those under other negatives, splits or histories.",
        "- What ranks sampled candidates well may not rank well what a recommender shows; a test with users tells.",
    ]
    if facts.evaluation.judged_set == SHOWN:
        limits = [
            f"- The probability is that of a click where {base}, as in what was shown then.",
            "- The numbers below cannot be compared with those on drawn negatives, or of another recommender.",
            "- It has learned from what a recommender chose to show, and knows little of what that one never shows.",
        ]
    yield "## What it is, and what for"
    yield (
        f"A ranking model for click-through-rate (CTR) prediction. From a user's last "
        f"{facts.training['history_length']} events it gives each candidate item a logit and a probability: signatures "
        f"`{RANK_SIGNATURE}` (tensors) and `{DEFAULT_SIGNATURE}` (serialised examples), outputs `{PROBABILITY}` and "
        f"`{LOGIT}`. It is meant to order the candidates of one user at one time."
    )
    yield "\n".join(
        (
            "Limits:",
            "",
            *limits,
            "- Items and categories that were too rare in the train part, or come later, share one embedding.",
            "- It knows events (item, category, behaviour, time) and what plugins add; nothing else of a user or item.",
        )
    )


def _measured(evaluation: Evaluation) -> Iterator[str]:
    yield f"## Measured on {_words(evaluation.judged_set)} negatives"
    judged = _judged(evaluation)
    if judged is not None:
        yield f"{judged.pairs:,} pairs of {judged.impressions:,} impressions, {judged.users:,} users."
        yield _table(("", "value"), ((name, interval(value)) for name, value in headline(evaluation).items()))
    sets = [each for each in evaluation.slices if not each.slice and each.negative_set != OVERALL]
    yield "AUC by negative set, of the model and of what needs no training or little:"
    yield _table(
        ("", *(_words(each.negative_set) for each in sets)),
        (
            (_scorer(scorer), *(interval(each.metrics.get(scorer, {}).get(AUC)) for each in sets))
            for scorer in dict.fromkeys(scorer for each in sets for scorer in each.metrics)
        ),
    )
    if judged is not None and judged.differences:
        yield "AUC of the model less that of another, on the same users:"
        yield _table(
            ("less", "difference"),
            ((_scorer(of), interval(metrics.get(AUC), "+.4f")) for of, metrics in judged.differences.items()),
        )
    if evaluation.resamples:
        yield (
            f"In brackets, what holds the number with {evaluation.confidence:.0%} confidence: a bootstrap over users, "
            f"{evaluation.resamples:,} resamples."
        )


def _verdict(evaluation: Evaluation) -> Iterator[str]:
    verdict = evaluation.verdict
    yield "## Verdict"
    yield f"**{'Blessed' if verdict.blessed else 'Not blessed'}.** {verdict.comparison_words}".strip()
    if verdict.bounds:
        yield "\n".join(f"- {bound.words}" for bound in verdict.bounds)
    if verdict.look_first:
        yield f"Look at this first: {verdict.look_first}"


def _data(summary: IngestSummary, content: LogContent, zone: str) -> Iterator[str]:
    yield "## Data"
    left_out = f"{summary.rows_left_out:,} left out by the log's description, " if summary.rows_left_out else ""
    rows: dict[str, str] = {
        "log": f"`{content.path}`, {len(summary.files)} file(s), {content.size:,} bytes",
        "content": f"`{content.digest}`",
        "rows": f"{summary.rows_read:,} read, {summary.rows_kept:,} kept, {left_out}the others in quarantine",
        "users": f"{summary.users:,}",
    }
    if content.span:
        rows["span"] = f"{content.span}" + ("" if content.version is None else f", version {content.version}")
    rows |= {f"impressions, {split}": f"{count:,}" for split, count in summary.impressions.items()}
    rows["train"] = f"before {shown(summary.validation_start, ZoneInfo(zone))} ({zone})"
    rows["eval"] = f"from {shown(summary.eval_start, ZoneInfo(zone))} ({zone})"
    yield _table(("", ""), rows.items())


def _lineage(facts: CardFacts) -> Iterator[str]:
    provenance = facts.provenance
    yield "## Where it comes from"
    rows = {
        "in ML Metadata": ", ".join(
            (f"execution {facts.execution}", *(f"{name} {number}" for name, number in facts.artifacts.items()))
        ),
        "pushed by": f"ctr-pipeline {provenance.code}",
        "on": provenance.host,
        "packages": ", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
    }
    yield _table(("", ""), rows.items())
    yield "`ctr lineage VERSION --output OUTPUT` says the run, its whole configuration, and the code of each step."


def _judged(evaluation: Evaluation) -> SliceResult | None:
    return evaluation.of(evaluation.judged_set)


def _scorer(name: str) -> str:
    known = {
        MODEL: "**this model**",
        AS_LOGGED: "this model at the logged position",
        BLESSED: "the model that was blessed before",
    }
    known |= BASELINES
    return known.get(name, _words(name))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = ("---", *("---:" if header[1:] and len(header) > 2 else "---" for _ in header[1:]))
    lines = (header, rule, *rows)
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
