"""The table of a sweep: CSV with everything, Markdown to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from components.baselines.results import BaselineResults
from models.config import Section
from models.impression import NEGATIVE_SETS
from pipeline.sweep.results import Spread, TrialResult, VariantSummary
from pipeline.sweep.trials import Variant

SMALLEST_DROP: Final = 0.01
"""A model whose AUC falls by less when histories are exchanged has not read them."""


class SweepReport(Section):
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
    sets = [name for name in NEGATIVE_SETS if name in report.baselines.sets]
    header = [
        "model", "activation", "match features", "negatives", "loss",
        *(f"AUC {name.replace('_', ' ')}" for name in sets), f"AUC {report.judged_set.replace('_', ' ')}, new items",
        "AUC with another user's history", "GAUC", "log loss", "log loss before calibration",
        "training impressions/s", "parameters", "of them outside embeddings", "export, MB", "p50, ms",
    ]  # fmt: skip
    rows = [
        [
            f"*{name.replace('_', ' ')}*",
            "",
            "",
            "",
            "",
            *(_plain(report.baselines.sets[s].auc[name]) for s in sets),
            _plain(report.baselines.sets[report.judged_set].auc_new[name]),
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


def render_csv(results: Sequence[TrialResult]) -> str:
    """A line a trial."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sets = [name for name in NEGATIVE_SETS if any(name in result.sets for result in results)]
    plain = (
        "shuffled_auc", "uncalibrated_log_loss", "epochs", "preparation_seconds", "impressions_per_second",
        "parameters", "embedding_parameters", "export_bytes", "p50_ms", "seconds", "failure",
    )  # fmt: skip
    measures = ("auc", "auc_new", "gauc", "log_loss", "pairs")
    of_variant = ("model", "activation", "match_features", "negatives", "loss")
    writer.writerow([*of_variant, "seed", *(f"{m}_{name}" for name in sets for m in measures), *plain])
    for result in results:
        variant = result.trial.variant
        of_sets = [getattr(result.sets.get(name), measure, None) for name in sets for measure in measures]
        writer.writerow(
            [variant.model, variant.activation, variant.match_features, variant.negatives, variant.loss]
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
        f"{parameters:,}" if parameters is not None else "-",
        f"{parameters - embedded:,}" if parameters is not None and embedded is not None else "-",
        f"{size / 1e6:.1f}" if size is not None else "-",
        f"{variant.p50_ms:.1f}" if variant.p50_ms is not None else "-",
    ]


def _findings(report: SweepReport) -> list[str]:
    lines = [
        f"- **Suspicious**: {variant.variant} loses less than {SMALLEST_DROP} of AUC with another user's history, so "
        "it does not read histories."
        for variant in report.variants
        if suspicious(variant, report.judged_set)
    ]
    references = [v for v in report.variants if v.variant.model == "dnn"]
    if len({v.variant.negatives for v in report.variants}) > 1:
        references = [v for v in report.variants if v.variant.sampler == "random"]
    for variant in report.variants:
        reference = next((v for v in references if _differ_in_one(v.variant, variant.variant)), None)
        if reference is not None and variant not in references:
            lines.append(_against(variant, reference, report.judged_set))
    lines += [
        f"- Failed: {result.trial.variant}, seed {result.trial.seed}: {result.failure}" for result in report.failures
    ]
    return lines


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
    return _plain(value.mean) + (f" ± {value.deviation:.4f}" if value.deviation is not None else "")


def _plain(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else "-"
