"""A report as text for a terminal, and as Markdown: what decides, and where the rest is. ``page.py`` has it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, Literal
from zoneinfo import ZoneInfo

from rich.console import Group

from ctr.components.local_time import shown
from ctr.components.run_report.report import NEW_ITEM, Afterwards, Report, set_words, words_of
from ctr.components.scoring.baselines import UnknownShare
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, MODEL, BoundResult, SliceResult, Value
from ctr.components.scoring.metrics import METRICS
from ctr.components.settings import IngestConfig
from ctr.components.skew import ServedSkew, SkewFindings
from ctr.components.tables import Table, as_number, as_text, laid_out, paragraph
from ctr.models.impression import EVAL_SPLIT, EVALUATION_SETS, SHOWN
from ctr.models.registration import load_plugins

WIDTH: Final = 100
_ON_THE_PAGE: Final = ("normalised_entropy", "ndcg", "mrr", "hit_rate")
"""Metrics that are left to the page, unless they are bounded."""
STATES: Final = {"met": "met", "missed": "MISSED", "not_compared": "open"}
"""Of a bound, in words; open is one that compares with a model that there is not."""


def render(report: Report, after: Afterwards | None = None, width: int = WIDTH) -> str:
    """The report as plain text, without colours.

    Args:
      report: of one run.
      after: what its steps took, and whether an earlier run had pushed the version.
      width: characters in a line; only a path may be longer.
    """
    return as_text(layout(report, width, after), width)


def layout(report: Report, width: int, after: Afterwards | None = None) -> Group:
    """The report for a console of this width. Arguments as for :func:`render`."""
    after = after or Afterwards()
    # Of a report that another process wrote, nobody has read the configuration yet.
    load_plugins(report.config["plugins"])
    head = paragraph(headline(report, after), width, style="bold green" if report.blessed else "bold red")
    first = [paragraph(reason(report), width, indent=2)]
    return Group(head, *first, laid_out(_tables(report, after), width))


def _tables(report: Report, after: Afterwards) -> list[Table]:
    tables = [headline_table(report), set_table(report), gate_table(report, after)]
    return [*tables, *([skew_table(report.skew, report.zone)] if report.skew else []), _run(report, after)]


def render_markdown(report: Report, after: Afterwards | None = None) -> str:
    """The report as a Markdown page; ``after`` as for :func:`render`."""
    after = after or Afterwards()
    load_plugins(report.config["plugins"])
    parts = [f"# {headline(report, after)}", reason(report)]
    for table in _tables(report, after):
        parts.append(f"## {table.title}")
        if table.rows:
            rule = ("---", *("---:" for _ in table.header[1:]))
            rows = (table.header, rule, *table.rows)
            parts.append(
                "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
            )
        parts += table.notes
    return "\n\n".join([*parts, protocol(report), report.baselines.seen_before()]) + "\n"


def pushed(report: Report, pushed_earlier: bool) -> str:
    """What was pushed, in some words."""
    if report.pushed_version is None:
        return "nothing pushed"
    return f"version {report.pushed_version} {'was pushed by an earlier run' if pushed_earlier else 'pushed'}"


def headline(report: Report, after: Afterwards) -> str:
    """Model, verdict, and what was pushed."""
    verdict = "BLESSED" if report.blessed else "NOT BLESSED"
    return f"{report.model}, preset {report.config['preset']}: {verdict}, {pushed(report, after.pushed_earlier)}"


def reason(report: Report) -> str:
    """Why it was blessed or not, and what to look at first."""
    verdict = report.evaluation.verdict
    decided = [bound for bound in verdict.bounds if bound.state != "not_compared"]
    missed = len(verdict.missed)
    counted = f"{missed} of {len(decided)} bounds missed." if missed else f"All {len(decided)} bounds met."
    if verdict.comparison == "incompatible" and not verdict.blessed and not missed:
        counted = f"No bound missed, but not compared: {verdict.comparison_words}"
    return f"{counted} Look first: {verdict.look_first}" if verdict.look_first else counted


def protocol(report: Report) -> str:
    """How the scores were measured."""
    ingest = IngestConfig.model_validate(report.config["ingest"])
    evaluation = report.evaluation
    limit = f" (at most {ingest.targets_per_user} a user)" if ingest.targets_per_user else ""
    drawn = (
        f"{ingest.evaluation_negatives} negative(s) in each set, drawn with seed {ingest.seed}. Contemporaneous: of "
        f"another user, among the {ingest.contemporaneous_events} events after it."
    )
    if ingest.exposures:
        of = (
            f"Each request of the last {ingest.eval_share:.0%} of the log by time is an impression{limit}: its "
            f"candidates are what was shown (at most {ingest.exposures}), what was clicked is positive, none is drawn."
        )
        if ingest.evaluation_sets != (SHOWN,):
            of += f" In the other sets, a click has {drawn}"
    else:
        events = f"Each target event of the last {ingest.eval_share:.0%} of the log by time"
        of = f"{events} is a positive{limit}, with {drawn}"
    return (
        f"{of} The regression is fitted on "
        f"{report.baselines.fitted_impressions:,} train impressions, seed {report.baselines.seed}. Intervals hold with "
        f"{evaluation.confidence:.0%}: {evaluation.resamples:,} bootstrap resamples of users, seed {evaluation.seed}; "
        "differences are paired, on the same users."
    )


def half(value: Value | None, form: str = ".4f") -> str:
    """Half of an interval."""
    if value is None or value.low is None or value.high is None:
        return "-"
    return format((value.high - value.low) / 2, form)


def headline_table(report: Report) -> Table:
    """AUC on the judged set and on positives new to the user: the model, and how far it is above what is beside it."""
    evaluation = report.evaluation
    of = [evaluation.of(evaluation.judged_set), evaluation.of(evaluation.judged_set, NEW_ITEM)]
    scorers = [MODEL, *(s for s in (AS_LOGGED, BLESSED) if of[0] is not None and s in of[0].metrics)]
    best = report.best_baseline(of[0]) if of[0] is not None else None
    rows = []
    for scorer in [*scorers, *([best] if best else [])]:
        rows.append((report.name_of(scorer), *_pairs(_value(each, scorer, "auc") for each in of)))
        if scorer != MODEL:
            rows.append((f"  {report.model} above it", *_pairs((_lead(each, scorer) for each in of), "+.4f")))
    title = (
        f"AUC on {set_words(evaluation.judged_set)} negatives, of all positives and of those new to the user; "
        f"+-: half of the {evaluation.confidence:.0%} interval"
    )
    return Table(title, ("", "all", "+-", "new", "+-"), rows, _too_good(report))


def _pairs(values: Iterable[Value | None], form: str = ".4f") -> list[str]:
    return [cell for value in values for cell in (as_number(value.value if value else None, form), half(value))]


def _value(result: SliceResult | None, scorer: str, metric: str) -> Value | None:
    return result.metrics.get(scorer, {}).get(metric) if result is not None else None


def _lead(result: SliceResult | None, scorer: str) -> Value | None:
    return result.differences.get(scorer, {}).get("auc") if result is not None else None


def metrics_of(report: Report, row: Literal["score", "count"] = "score") -> Sequence[str]:
    """The model's metrics that stand in tables as scores or as counts, the registered ones first and in their order."""
    found = {name: None for each in report.evaluation.slices for name in each.metrics.get(MODEL, {})}
    known = [name for name in METRICS if name in found and METRICS[name].row == row]
    return [*known, *(name for name in found if row == "score" and name not in tuple(METRICS))]


def sets_of(report: Report) -> list[SliceResult]:
    """The negative sets that are there, each as a whole."""
    results = [report.evaluation.of(name) for name in EVALUATION_SETS]
    return [result for result in results if result is not None]


def set_table(report: Report) -> Table:
    """The model's metrics by negative set, and the AUCs beside it."""
    sets, evaluation = sets_of(report), report.evaluation
    rows = []
    bounded = {bound.metric for bound in evaluation.verdict.bounds}
    for metric in metrics_of(report):
        if metric in bounded or metric not in _ON_THE_PAGE:
            values = (_value(each, MODEL, metric) for each in sets)
            rows.append((words_of(metric), *(as_number(v.value if v else None) for v in values)))
    new = [_value(evaluation.of(each.negative_set, NEW_ITEM), MODEL, "auc") for each in sets]
    rows.insert(1, ("AUC, positive new to the user", *(as_number(v.value if v else None) for v in new)))
    for beside in (AS_LOGGED, BLESSED):
        if any(beside in each.metrics for each in sets):
            aucs = [_value(each, beside, "auc") for each in sets]
            rows.append((f"{report.name_of(beside)}: AUC", *(as_number(v.value if v else None) for v in aucs)))
    best = [_value(each, report.best_baseline(each) or "", "auc") for each in sets]
    rows.append(("best baseline: AUC", *(as_number(v.value if v else None) for v in best)))
    rows.append(("pairs", *(f"{each.pairs:,}" for each in sets)))
    return Table(f"{report.model} by negative set", ("", *(set_words(each.negative_set) for each in sets)), rows)


def _too_good(report: Report) -> list[str]:
    """Names what alone tells the label: any scorer above the upper bound, judged or not."""
    verdict = report.evaluation.verdict
    limits = [b.bound for b in verdict.bounds if (b.metric, b.kind, b.slice) == ("auc", "max", "")]
    if not limits:
        return []
    found = [
        f"{report.name_of(scorer)} is {value.value:.4f} on {each.negative_set}"
        for each in sets_of(report)
        for scorer, metrics in each.metrics.items()
        if (value := metrics.get("auc")) is not None and value.value is not None and value.value > min(limits)
    ]
    return [f"Too good to be true: {', '.join(found)}. Something gives the label away."] if found else []


def gate_table(report: Report, after: Afterwards) -> Table:
    """Every bound, what was measured, and what is to be said of those that were missed."""
    verdict = report.evaluation.verdict
    rows = []
    for bound in verdict.bounds:
        signed = "+.4f" if is_difference(bound) else ".4f"
        measured = as_number(bound.measured.value if bound.measured else None, signed)
        limit = f"{limit_of(bound)[0]} {limit_of(bound)[1]:{signed}}"
        rows.append((what_of(report, bound), measured, half(bound.measured), limit, STATES[bound.state]))
    said = reason(report)
    notes = [f"- {bound.words}" for bound in verdict.missed if bound.words not in said]
    notes += [verdict.comparison_words] if verdict.comparison_words not in said else []
    if report.pushed_version is None:
        notes.append("Nothing was pushed; what was served before is served on.")
    else:
        notes.append(f"{'An earlier run pushed it' if after.pushed_earlier else 'Pushed'} to {report.pushed_to}")
    return Table("Gate", ("", "measured", "+-", "bound", ""), rows, notes)


def what_of(report: Report, bound: BoundResult) -> str:
    """What a bound is for: metric, where, and against what."""
    at_judged = bound.negative_set == report.evaluation.judged_set
    where = ", ".join(filter(None, ("" if at_judged else set_words(bound.negative_set), bound.slice)))
    other = report.name_of(bound.against or BLESSED) if bound.against or bound.kind == "max_drop" else "a baseline"
    against = f" against {other}" if is_difference(bound) else ""
    return f"{words_of(bound.metric)}{f' ({where})' if where else ''}{against}"


def is_difference(bound: BoundResult) -> bool:
    """Whether it bounds a difference to another scorer, and not the value itself."""
    return bound.kind in ("max_drop", "min_margin")


def limit_of(bound: BoundResult) -> tuple[str, float]:
    """How a bound compares what was measured, ``<=`` or ``>=``, and with which number."""
    lower_is_better = bound.metric in tuple(METRICS) and METRICS[bound.metric].better == "lower"
    if not is_difference(bound):
        return ("<=" if bound.kind == "max" else ">="), bound.bound
    # A difference is the model's less the other's.
    allowed = -bound.bound if bound.kind == "max_drop" else bound.bound
    return ("<=", -allowed) if lower_is_better else (">=", allowed)


def ways_asked(skew: SkewFindings) -> str:
    """How a model was asked before it was pushed, and how far the answers differ, in a sentence."""
    found = [difference for difference in (skew.model_to_signature, skew.signature_to_server) if difference is not None]
    ways = "as trained, by its signatures and over gRPC" if len(found) > 1 else "by its signatures and over gRPC"
    return (
        f"Asked {ways}, {skew.impressions:,} impressions: logits differ by {max(found):.1e} at most, allowed "
        f"{skew.tolerance:g}."
    )


def served_words(served: ServedSkew, zone: ZoneInfo) -> str:
    """Which requests were compared with which data, in a sentence; times are of the log's zone."""
    known = [end for end in (served.first, served.last) if end is not None]
    ends = [shown(end, zone, "%Y-%m-%d %H:%M") for end in known]
    when = f", {' to '.join(ends)} ({zone.key})" if ends else ""
    plural = "s" if len(served.versions) > 1 else ""
    of = f", answered by version{plural} {', '.join(map(str, served.versions))}" if served.versions else ""
    return (
        f"{served.requests:,} requests of {served.request_log}{when}{of}, beside {served.trained:,} train impressions. "
        "Distances are from 0, alike, to 1."
    )


def skew_table(skew: SkewFindings, zone: ZoneInfo) -> Table:
    """Whether the model answers alike in every way, and is asked what it was trained on."""
    served = skew.served
    if served is None:
        return Table("Skew", (), [], [ways_asked(skew)])
    rows = [
        (
            each.feature,
            f"{each.served:,}",
            f"{each.trained:,}",
            as_number(each.value),
            as_number(each.bound),
            each.state.replace("_", " "),
        )
        for each in served.features
    ]
    header = ("", "served", "trained", "distance", "bound", "")
    return Table(
        "Skew: requests served and data trained on", header, rows, [served_words(served, zone), ways_asked(skew)]
    )


def _run(report: Report, after: Afterwards) -> Table:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.quarantined.items() if count)
    rows = (
        f"{report.rows_read:,} rows read, {report.rows_kept:,} kept, {sum(report.quarantined.values()):,} quarantined"
        + (f", {report.rows_left_out:,} left out by the description" if report.rows_left_out else "")
    )
    impressions = ", ".join(f"{count:,} {split}" for split, count in report.impressions.items())
    notes = [f"{rows}{f' ({reasons})' if reasons else ''}.", f"{report.users:,} users; impressions: {impressions}."]
    if after.steps:
        longest = sorted(after.steps, key=lambda each: -each.seconds)[:3]
        of = ", ".join(f"{each.step} {each.seconds:.1f}" for each in longest)
        notes.append(f"{sum(each.seconds for each in after.steps):.1f} s, of them {of}.")
    if report.profile is not None:
        notes.append(report.profile.words)
    if report.tuning is not None:
        tuned = ", ".join(f"{name} {json.dumps(value)}" for name, value in report.tuning.best.values.items())
        notes.append(f"Of {len(report.tuning.trials)} trials ({report.tuning.algorithm}) the best had {tuned}.")
    return Table("Run", (), [], notes)


def unknown_table(shares: Iterable[UnknownShare]) -> Table:
    """Shares of candidates that the vocabulary does not know, by split and label."""
    by_set: dict[str, dict[str, UnknownShare]] = {}
    for share in shares:
        name = f"{share.split}, {set_words(share.negative_set)}" if share.split == EVAL_SPLIT else share.split
        by_set.setdefault(name, {})[share.label] = share
    rows = []
    for name, labels in by_set.items():
        both = labels.get("positive"), labels.get("negative")
        items = (as_number(share.item_share if share else None, ".1%") for share in both)
        categories = (as_number(share.category_share if share else None, ".1%") for share in both)
        rows.append((name, *items, *categories))
    header = ("split", "items: positive", "items: negative", "categories: positive", "categories: negative")
    return Table("Candidates unknown to the vocabulary", header, rows)
