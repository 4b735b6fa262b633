"""The table of a sweep: CSV with everything, Markdown to read, and the best of it for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from rich.console import Group

from ctr.components.scoring.baselines import BaselineResults
from ctr.components.tables import Table, as_number, laid_out
from ctr.models.impression import EVALUATION_SETS
from ctr.models.section import Record
from ctr.pipeline.sweep.results import Spread, TrialResult, VariantSummary
from ctr.pipeline.sweep.trials import Variant

SMALLEST_DROP: Final = 0.01
"""A model whose AUC falls by less when histories are exchanged has not read them."""


class SweepReport(Record):
    """What a sweep gave."""

    protocol: str
    """How the AUCs were measured, in words."""
    judged_set: str
    """The negative set of GAUC, log loss, the exchange of histories and all comparisons."""
    baselines: BaselineResults
    variants: tuple[VariantSummary, ...]
    failures: tuple[TrialResult, ...]


def suspicious(variant: VariantSummary, judged_set: str) -> bool:
    """Whether the AUC holds without the user's own history."""
    return variant.auc[judged_set].mean - variant.shuffled_auc.mean < SMALLEST_DROP


def render_markdown(report: SweepReport) -> str:
    """The table and what is to be said about it."""
    sets = [name for name in EVALUATION_SETS if name in report.baselines.sets]
    header = [
        "model", "activation", "match features", "negatives", "loss",
        *(f"AUC {name.replace('_', ' ')}" for name in sets), f"AUC {report.judged_set.replace('_', ' ')}, new items",
        "AUC with another user's history", "GAUC", "log loss", "log loss before calibration",
        "training impressions/s", "parameters", "of them outside embeddings", "export, MB", "p50, ms",
    ]  # fmt: skip
    rows = [
        [
            f"*{name.replace('_', ' ')}*",
            *[""] * 4,
            *(as_number(report.baselines.sets[s].auc[name]) for s in sets),
            as_number(report.baselines.sets[report.judged_set].auc_new[name]),
        ]
        for name in report.baselines.sets[report.judged_set].auc
    ]
    rows += [_row(variant, sets, report.judged_set) for variant in report.variants]
    width = len(header)
    lines = [
        report.protocol,
        "",
        report.baselines.seen_before(),
        "",
        f"| {' | '.join(header)} |",
        f"|{' --- |' * width}",
        *(f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows),
        "",
        *_findings(report),
    ]
    return "\n".join(lines) + "\n"


def layout(report: SweepReport, width: int) -> Group:
    """The variants by their AUC on the judged set, best first, among the baselines; for a console of this width.

    Columns that do not fit are left out, the last ones first; :func:`render_markdown` has them all.
    """
    columns = ("AUC", "±", "new items", "GAUC", "another's history", "log loss", "impr./s", "p50, ms")
    judged = report.baselines.sets[report.judged_set]
    ranked: list[tuple[float, tuple[str, ...]]] = [
        (
            -1.0 if auc is None else auc,
            (f"({name.replace('_', ' ')})", as_number(auc), "", as_number(judged.auc_new.get(name)), *[""] * 5),
        )
        for name, auc in judged.auc.items()
    ]
    ranked += [(v.auc[report.judged_set].mean, _compact_row(v, report)) for v in report.variants]
    ranked.sort(key=lambda entry: entry[0], reverse=True)
    seeds = {variant.seeds for variant in report.variants}
    title = f"AUC on {report.judged_set.replace('_', ' ')} negatives, best first"
    if len(seeds) == 1:
        title += f"; {min(seeds)} seed{'s' * (seeds != {1})} each"
    shared = [f"{name} {value}" for name, value in _shared(report).items()]
    notes = [f"All: {', '.join(shared)}."] if shared else []
    said = (report.protocol, report.baselines.seen_before(), *_suspicions(report), *_failures(report))
    notes += [note.replace("**", "") for note in said]
    header, rows = ("model", *columns), [row for _, row in ranked]
    shown = len(header)
    while shown > 2 and _narrowest(header[:shown], [row[:shown] for row in rows]) > width:
        shown -= 1
    return Group(laid_out([Table(title, header[:shown], [row[:shown] for row in rows], notes)], width))


def _compact_row(variant: VariantSummary, report: SweepReport) -> tuple[str, ...]:
    auc, shared = variant.auc[report.judged_set], _shared(report)
    name = ", ".join([variant.variant.model, *(v for k, v in _settings(variant.variant).items() if k not in shared)])
    new, rate, p50 = variant.auc_new[report.judged_set], variant.impressions_per_second, variant.p50_ms
    return (
        name,
        as_number(auc.mean),
        as_number(auc.deviation),
        as_number(new.mean if new else None),
        as_number(variant.gauc.mean if variant.gauc else None),
        as_number(variant.shuffled_auc.mean),
        as_number(variant.log_loss.mean),
        f"{rate.mean:,.0f}" if rate else "-",
        as_number(p50, ".1f"),
    )


def _settings(variant: Variant) -> dict[str, str]:
    return {
        "activation": variant.activation,
        "match features": "match" if variant.match_features else "no match",
        "negatives": variant.negatives,
        "loss": variant.loss.replace("_", " "),
    }


def _shared(report: SweepReport) -> dict[str, str]:
    """What is the same in all variants, and need not stand in each row."""
    settings = [_settings(summary.variant) for summary in report.variants]
    same = {
        key: value for key, value in (settings[0] if settings else {}).items() if all(s[key] == value for s in settings)
    }
    return {key: {"match": "on", "no match": "off"}.get(value, value) for key, value in same.items()}


def _narrowest(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that a line needs if no word is broken."""
    columns = zip(header, *rows, strict=True)
    return sum(2 + max(len(word) for cell in column for word in cell.split() or [""]) for column in columns)


def render_csv(results: Sequence[TrialResult]) -> str:
    """A line a trial."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sets = [name for name in EVALUATION_SETS if any(name in result.sets for result in results)]
    plain = (
        "shuffled_auc", "uncalibrated_log_loss", "epochs", "preparation_seconds", "impressions_per_second",
        "parameters", "embedding_parameters", "export_bytes", "p50_ms", "seconds", "failure",
    )  # fmt: skip
    measures = ("auc", "auc_new", "gauc", "log_loss", "pairs")
    of_variant = ("model", "activation", "match_features", "negatives", "loss")
    writer.writerow([*of_variant, "seed", *(f"{m}_{name}" for name in sets for m in measures), *plain])
    for result in results:
        # A trial that failed has none.
        of_sets = [getattr(result.sets[s], m) if s in result.sets else None for s in sets for m in measures]
        writer.writerow(
            [getattr(result.trial.variant, name) for name in of_variant]
            + [result.trial.seed, *of_sets]
            + [getattr(result, name) for name in plain]
        )
    return out.getvalue()


def _row(variant: VariantSummary, sets: Sequence[str], judged_set: str) -> list[str]:
    parameters, embedded, size = variant.parameters, variant.embedding_parameters, variant.export_bytes
    return [
        variant.variant.model,
        variant.variant.activation,
        "yes" if variant.variant.match_features else "no",
        variant.variant.negatives,
        variant.variant.loss.replace("_", " "),
        *(_spread(variant.auc[name]) for name in sets),
        _spread(new) if (new := variant.auc_new[judged_set]) else "-",
        _spread(variant.shuffled_auc) + (" suspicious" if suspicious(variant, judged_set) else ""),
        _spread(variant.gauc) if variant.gauc else "-",
        _spread(variant.log_loss),
        _spread(variant.uncalibrated_log_loss) if variant.uncalibrated_log_loss else "-",
        f"{variant.impressions_per_second.mean:,.0f}" if variant.impressions_per_second else "-",
        as_number(parameters, ","),
        f"{parameters - embedded:,}" if parameters is not None and embedded is not None else "-",
        f"{size / 1e6:.1f}" if size is not None else "-",
        as_number(variant.p50_ms, ".1f"),
    ]


def _findings(report: SweepReport) -> list[str]:
    lines = _suspicions(report)
    references = [v for v in report.variants if v.variant.model == "dnn"]
    if len({v.variant.negatives for v in report.variants}) > 1:
        references = [v for v in report.variants if v.variant.sampler == "random"]
    for variant in report.variants:
        reference = next((v for v in references if _differ_in_one(v.variant, variant.variant)), None)
        if reference is not None and variant not in references:
            lines.append(_against(variant, reference, report.judged_set))
    return lines + _failures(report)


def _suspicions(report: SweepReport) -> list[str]:
    return [
        f"- **Suspicious**: {variant.variant} loses less than {SMALLEST_DROP} of AUC with another user's history, so "
        "it does not read histories."
        for variant in report.variants
        if suspicious(variant, report.judged_set)
    ]


def _failures(report: SweepReport) -> list[str]:
    return [
        f"- Failed: {result.trial.variant}, seed {result.trial.seed}: {result.failure}" for result in report.failures
    ]


def _differ_in_one(a: Variant, b: Variant) -> bool:
    """In their model, or in their negatives, and in nothing else."""
    alike = a.activation == b.activation and a.match_features == b.match_features and a.loss == b.loss
    return alike and (a.model == b.model) != (a.negatives == b.negatives)


def _against(variant: VariantSummary, reference: VariantSummary, judged_set: str) -> str:
    ours, theirs = variant.auc[judged_set], reference.auc[judged_set]
    difference = ours.mean - theirs.mean
    same_model = variant.variant.model == reference.variant.model
    name = reference.variant.negatives if same_model else reference.variant.model
    text = f"- {variant.variant}: {difference:+.4f} AUC against {name}"
    if ours.deviation is not None and theirs.deviation is not None:
        # Of two small samples, and so itself uncertain; the larger one keeps it from flattering.
        text += f", {difference / max(ours.deviation, theirs.deviation, 1e-6):+.1f} deviations (the larger of the two)"
    return text + "."


def _spread(value: Spread) -> str:
    return as_number(value.mean) + (f" ± {value.deviation:.4f}" if value.deviation is not None else "")
