"""A report as text for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from rich.console import Group

from ctr.components.run_report.report import Report
from ctr.components.scoring.baselines import BASELINES, SetResult, UnknownShare
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.components.scoring.verdict import TOO_GOOD
from ctr.components.settings import EvaluationConfig, IngestConfig, SliceBounds
from ctr.components.tables import Table, as_number, as_text, laid_out, paragraph
from ctr.components.usage import Usage, usage_table
from ctr.models.impression import EVAL_SPLIT, NEGATIVE_SET, NEGATIVE_SETS
from ctr.models.registration import load_plugins

WIDTH: Final = 100


def render(
    report: Report, times: Mapping[str, Usage] | None = None, pushed_earlier: bool = False, width: int = WIDTH
) -> str:
    """The report as plain text, without colours.

    Args:
      report: of one run.
      times: what each component took, for a last table; it is known only after the run.
      pushed_earlier: whether the version is one that an earlier run had pushed; likewise.
      width: characters in a line; only a path may be longer.
    """
    return as_text(layout(report, width, times, pushed_earlier), width)


def layout(report: Report, width: int, times: Mapping[str, Usage] | None = None, pushed_earlier: bool = False) -> Group:
    """The report for a console of this width. Arguments as for :func:`render`."""
    headline = paragraph(_headline(report, pushed_earlier), width, style="bold green" if report.blessed else "bold red")
    return Group(headline, laid_out(_tables(report, times, pushed_earlier), width))


def render_markdown(report: Report, pushed_earlier: bool = False) -> str:
    """The report as a Markdown page; ``pushed_earlier`` as for :func:`render`."""
    parts = [f"# {_headline(report, pushed_earlier)}"]
    for table in _tables(report, None, pushed_earlier):
        parts.append(f"## {table.title}")
        if table.rows:
            rule = ("---", *("---:" for _ in table.header[1:]))
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows)))
        parts += table.notes
    return "\n\n".join(parts) + "\n"


def pushed(report: Report, pushed_earlier: bool) -> str:
    """What was pushed, in some words."""
    if report.pushed_version is None:
        return "nothing pushed"
    return f"version {report.pushed_version} {'was pushed by an earlier run' if pushed_earlier else 'pushed'}"


def _headline(report: Report, pushed_earlier: bool) -> str:
    verdict = "BLESSED" if report.blessed else "NOT BLESSED"
    run = f"{report.config['model']['name']}, preset {report.config['preset']}"
    return f"{run}: {verdict}, {pushed(report, pushed_earlier)}"


def _tables(report: Report, times: Mapping[str, Usage] | None, pushed_earlier: bool) -> list[Table]:
    # Of a report that another process wrote, nobody has read the configuration yet.
    load_plugins(report.config["plugins"])
    tables = [
        _rows(report),
        _data(report),
        _auc(report),
        _auc_new(report),
        _unknown(report.baselines.unknown),
        _gate(report, pushed_earlier),
    ]
    if times:
        tables.append(usage_table(times))
    return tables


def _rows(report: Report) -> Table:
    rows = [("read", f"{report.rows_read:,}"), ("kept", f"{report.rows_kept:,}")]
    rows += [(f"quarantined: {reason}", f"{count:,}") for reason, count in report.quarantined.items()]
    return Table("Rows of the log", ("", "rows"), rows, [])


def _data(report: Report) -> Table:
    rows = [("users", f"{report.users:,}")]
    rows += [(f"impressions, {split}", f"{count:,}") for split, count in report.impressions.items()]
    reasons = {reason: None for by_reason in report.dropped.values() for reason in by_reason}
    for reason in reasons:
        events = sum(by_reason.get(reason, 0) for by_reason in report.dropped.values())
        rows.append((f"events without impression: {reason}", f"{events:,}"))
    rows.append(("items with several categories", f"{report.items_with_several_categories:,}"))
    rows += [(f"vocabulary, {name}", f"{size:,}") for name, size in report.vocabulary.items()]
    return Table("Data", ("", "count"), rows, [])


def _auc(report: Report) -> Table:
    sets, results, metrics, _ = _by_set(report)
    model = report.config["model"]["name"]

    def rows_of(kind: str, whose: str, form: str = ".4f") -> list[tuple[str, ...]]:
        chosen = [name for name in METRICS if METRICS[name].row == kind]
        return [(f"{whose}{METRICS[name].words}", *(as_number(m.get(name), form) for m in metrics)) for name in chosen]

    rows = rows_of("score", f"{model}: ")
    rows += _compared(report, "auc")
    rows.append(("pairs", *(f"{r.pairs:,}" for r in results)))
    rows.append(("of them positive", *(f"{r.positives:,}" for r in results)))
    rows.append(("positives seen before", *(as_number(_of(r.seen_positives, r.positives), ".1%") for r in results)))
    rows.append(
        ("negatives seen before", *(as_number(_of(r.seen_negatives, r.pairs - r.positives), ".1%") for r in results)),
    )
    rows += rows_of("count", "", ",.0f")

    ingest = IngestConfig.model_validate(report.config["ingest"])
    limit = f" (at most {ingest.targets_per_user} a user)" if ingest.targets_per_user else ""
    protocol = (
        f"Protocol: each target event of the last {ingest.eval_share:.0%} of the log by time is a positive{limit}, "
        f"with {ingest.evaluation_negatives} negative(s) in each set, drawn with seed {ingest.seed}. Contemporaneous: "
        f"of another user, among the {ingest.contemporaneous_events} events after it. The regression is fitted on "
        f"{report.baselines.fitted_impressions:,} train impressions, seed {report.baselines.seed}."
    )
    reading = "A scorer below 0.5 tells the label as well, upside down: 0.1 says as much as 0.9."
    return Table(
        "AUC by negative set, on the same pairs of the eval split",
        ("scorer", *sets),
        rows,
        [protocol, report.baselines.seen_before(), reading, *_too_good(report)],
    )


def _auc_new(report: Report) -> Table:
    sets, results, metrics, _ = _by_set(report)
    model = report.config["model"]["name"]
    rows = [(f"{model}: AUC", *(as_number(m.get("auc_new")) for m in metrics))]
    rows += _compared(report, "auc_new")
    rows.append(("pairs", *(f"{r.pairs_new:,}" for r in results)))
    return Table("AUC on items that are new to the user, likewise", ("scorer", *sets), rows, [])


def _compared(report: Report, metric: Literal["auc", "auc_new"]) -> list[tuple[str, ...]]:
    """What stands beside the model's own values: the blessed model's, the baselines', and how far it is above these."""
    _, results, metrics, blessed = _by_set(report)
    baselines: list[dict[str, float | None]] = [getattr(result, metric) for result in results]
    rows = [("latest blessed model: AUC", *(as_number(m.get(metric)) for m in blessed))] if any(blessed) else []
    rows += [(label, *(as_number(of.get(key)) for of in baselines)) for key, label in BASELINES.items()]
    margins = [
        _margin(m.get(metric), [v for v in of.values() if v is not None])
        for m, of in zip(metrics, baselines, strict=True)
    ]
    return [*rows, (f"{report.config['model']['name']} above the best of these", *margins)]


class _BySet(NamedTuple):
    """By negative set, in the order of the columns."""

    names: Sequence[str]
    baselines: list[SetResult]
    model: list[dict[str, float | None]]
    blessed: list[dict[str, float | None]]


def _by_set(report: Report) -> _BySet:
    names = [name for name in NEGATIVE_SETS if name in report.baselines.sets]
    slices = [f"{NEGATIVE_SET}={name}" for name in names]
    return _BySet(
        names,
        [report.baselines.sets[name] for name in names],
        [report.verdict.metrics.get(name, {}) for name in slices],
        [report.verdict.blessed_metrics.get(name, {}) for name in slices],
    )


def _too_good(report: Report) -> list[str]:
    """Names what alone tells the label: any scorer above the upper bound, judged or not."""
    bound = EvaluationConfig.model_validate(report.config["evaluation"]).bounds.auc.max
    if bound is None:
        return []
    sets, results, metrics, _ = _by_set(report)
    model = report.config["model"]["name"]
    found = []
    for name, result, measured in zip(sets, results, metrics, strict=True):
        scores: dict[str, float | None] = {f"{model}: {m.upper()}": measured.get(m) for m in ("auc", "gauc")}
        scores |= {BASELINES.get(key, key): value for key, value in result.auc.items()}
        found += [f"{scorer} is {v:.4f} on {name}" for scorer, v in scores.items() if v is not None and v > bound]
    return [f"Too good to be true: {', '.join(found)}. {TOO_GOOD}"] if found else []


def _unknown(shares: Iterable[UnknownShare]) -> Table:
    by_set: dict[str, dict[str, UnknownShare]] = {}
    for share in shares:
        name = f"{share.split}, {share.negative_set}" if share.split == EVAL_SPLIT else share.split
        by_set.setdefault(name, {})[share.label] = share
    rows = []
    for name, labels in by_set.items():
        positive, negative = labels.get("positive"), labels.get("negative")
        rows.append(
            (
                name,
                *(as_number(s.item_share if s else None, ".1%") for s in (positive, negative)),
                *(as_number(s.category_share if s else None, ".1%") for s in (positive, negative)),
            )
        )
    header = ("split", "items: pos.", "items: neg.", "categ.: pos.", "categ.: neg.")
    return Table("Candidates unknown to the vocabulary", header, rows, [])


def _gate(report: Report, pushed_earlier: bool) -> Table:
    evaluation = EvaluationConfig.model_validate(report.config["evaluation"])
    judged = IngestConfig.model_validate(report.config["ingest"]).judged_set
    compared = bool(report.verdict.blessed_metrics)
    bound = "; ".join(filter(None, (_bound(each, compared) for each in evaluation.bounds.each(judged))))
    if not compared and evaluation.compare_with_blessed:
        bound += "; there was no blessed model to compare with"
    notes = [f"Bound: {bound}.", "BLESSED." if report.blessed else "NOT BLESSED:"]
    notes += [f"- {failure}" for failure in report.verdict.failures]
    if report.pushed_version is None:
        notes.append("Nothing was pushed; what was served before is served on.")
    else:
        notes.append(f"{'An earlier run pushed it' if pushed_earlier else 'Pushed'} to {report.pushed_to}")
    return Table("Gate", (), [], notes)


def _bound(each: SliceBounds, compared: bool) -> str:
    """In words; nothing of one that only compares, where there is nothing to compare with."""
    metric, bounds = METRICS[each.metric], each.bounds
    parts = [
        f"{words} {value:.4f}"
        for words, value in (("at least", bounds.min), ("at most", bounds.max))
        if value is not None
    ]
    text = " and ".join(parts)
    if compared and bounds.max_drop is not None:
        worse = "above" if metric.better == "lower" else "below"
        text += f"{', and ' if parts else ''}at most {bounds.max_drop:.4f} {worse} the latest blessed model"
    where = OVERALL if each.slice == OVERALL else f"on {each.slice} negatives"
    return f"{metric.words} {where} {text}" if text else ""


def _margin(value: float | None, baselines: list[float]) -> str:
    return "-" if value is None or not baselines else f"{value - max(baselines):+.4f}"


def _of(count: int, of: int) -> float | None:
    return count / of if of else None
