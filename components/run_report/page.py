"""A report as one HTML page that needs nothing else: no network, no script to be read, both themes."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jinja2
import yaml
from markupsafe import Markup

from ctr import __version__
from ctr.components.run_report import charts
from ctr.components.run_report.charts import Line, Scale
from ctr.components.run_report.render import (
    headline,
    is_difference,
    limit_of,
    metrics_of,
    protocol,
    pushed,
    reason,
    served_words,
    sets_of,
    unknown_table,
    ways_asked,
    what_of,
)
from ctr.components.run_report.report import NEW_ITEM, Afterwards, Report, set_words, words_of
from ctr.components.scoring.attributes import Slice
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, MODEL, WHOLE, SliceResult, Value
from ctr.components.scoring.metrics import METRICS
from ctr.models.registration import load_plugins

_FOLDER: Final = Path(__file__).parent
_DASH: Final = "–"
_STATES: Final = {"met": "Met", "missed": "Missed", "not_compared": "Not compared"}


class Interval(NamedTuple):
    """A value as a table shows it."""

    text: str
    ends: str
    """Of its interval; empty for none."""
    strip: Markup = Markup()


class Row(NamedTuple):
    """A line of a table: what it is of, and its cells."""

    name: str
    cells: Sequence[Any]
    kind: str = ""


class Figure(NamedTuple):
    """A chart, what its lines are, and its numbers."""

    title: str
    chart: Markup
    keys: Sequence[tuple[str, str]]
    """Class and name of each line."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def render_page(report: Report, after: Afterwards | None = None) -> str:
    """The page of a run.

    Args:
      report: of the run.
      after: what is known of it when its last step has ended; the step itself writes the page without.
    """
    after = after or Afterwards()
    load_plugins(report.config["plugins"])
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    evaluation = report.evaluation
    judged = evaluation.of(evaluation.judged_set)
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=headline(report, after),
            style=Markup(style),  # noqa: S704 (ours)
            script=Markup(script),  # noqa: S704 (ours)
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'",
            report=report,
            verdict=evaluation.verdict,
            pushed=pushed(report, after.pushed_earlier),
            earlier=after.pushed_earlier,
            reason=reason(report),
            confidence=f"{evaluation.confidence:.0%}",
            judged_words=set_words(evaluation.judged_set),
            headlines=list(_headlines(report)),
            bounds=list(_bounds(report)),
            by_set=_by_set(report),
            sets=[set_words(each.negative_set) for each in _judged_first(report)],
            roc=_roc(report),
            reliability=_reliability(report),
            differences=list(_differences(report, judged)) if judged else [],
            slices=[each for each in (_slices(report, name.negative_set) for name in _judged_first(report)) if each],
            protocol=protocol(report),
            training=_training(report),
            unknown=unknown_table(report.baselines.unknown),
            quarantined=_quarantined(report),
            ways_asked=ways_asked,
            served_words=functools.partial(served_words, zone=report.zone),
            dropped=_dropped(report),
            steps=_steps(after),
            memory=any(each.peak_memory for each in after.steps),
            total=f"{sum(each.seconds for each in after.steps):.1f}",
            lineage=after.lineage,
            config=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True, width=100),
            version=__version__,
        )
    )


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- numbers -------------------------------------------------------------------------------------------------------


def _shown(value: Value | None, signed: bool = False) -> Interval:
    if value is None or value.value is None:
        return Interval(_DASH, "")
    form = "+.4f" if signed else ".4f"
    ends = "" if value.low is None or value.high is None else _ends(value.low, value.high, form)
    return Interval(_minus(format(value.value, form)), ends)


def _ends(low: float, high: float, form: str) -> str:
    return _minus(f"{low:{form}} to {high:{form}}")


def _minus(text: str) -> str:
    # The sign, as wide as the plus.
    return text.replace("-", "−")


def _on(scale: Scale, value: Value | None, kind: str, at: Sequence[float] = (), signed: bool = False) -> Interval:
    shown = _shown(value, signed)
    given = value or Value(value=None)
    return shown._replace(strip=charts.strip(scale, given.value, given.low, given.high, kind, at))


def _numbers(values: Iterable[Value | None]) -> Iterator[float | None]:
    for value in values:
        if value is not None:
            yield from (value.value, value.low, value.high)


def _kind(report: Report, result: SliceResult, scorer: str) -> str:
    known = {MODEL: "model", BLESSED: "blessed", report.best_baseline(result): "best"}
    return known.get(scorer, "other")


def _scorers(result: SliceResult, metric: str = "auc") -> list[str]:
    """The model, the blessed one, and baselines from the best."""
    values = {scorer: metrics[metric].value for scorer, metrics in result.metrics.items() if metric in metrics}
    first = [scorer for scorer in (MODEL, AS_LOGGED, BLESSED) if scorer in values]
    rest = [scorer for scorer in values if scorer not in first]
    return [*first, *sorted(rest, key=lambda scorer: -(values[scorer] or 0))]


# --- what decides --------------------------------------------------------------------------------------------------


def _headlines(report: Report) -> Iterator[dict[str, Any]]:
    evaluation = report.evaluation
    found = (
        ("All positives", evaluation.of(evaluation.judged_set)),
        ("Positives new to the user", evaluation.of(evaluation.judged_set, NEW_ITEM)),
    )
    shown = []
    for title, result in found:
        if result is not None:
            best = report.best_baseline(result)
            shown.append((title, result, [s for s in (MODEL, AS_LOGGED, BLESSED, best) if s in result.metrics]))
    for title, result, scorers in shown:
        scale = Scale.around(_numbers(result.metrics[scorer].get("auc") for scorer in scorers if scorer))
        rows = [
            Row(
                report.name_of(scorer),
                [
                    _on(scale, result.metrics[scorer].get("auc"), _kind(report, result, scorer)),
                    _shown(result.differences.get(scorer, {}).get("auc"), signed=True)
                    if scorer != MODEL
                    else Interval("", ""),
                ],
                _kind(report, result, scorer),
            )
            for scorer in scorers
            if scorer is not None
        ]
        yield {"title": title, "rows": rows, "users": result.users, "scale": scale}


def _bounds(report: Report) -> Iterator[dict[str, Any]]:
    for bound in report.evaluation.verdict.bounds:
        sign, limit = limit_of(bound)
        signed = is_difference(bound)
        scale = Scale.around(_numbers([bound.measured]), limit)
        symbol = {"<=": "≤", ">=": "≥"}[sign]
        yield {
            "state": bound.state,
            "state_words": _STATES[bound.state],
            "what": what_of(report, bound),
            "words": bound.words,
            "limit": _minus(f"{symbol} {limit:{'+.4f' if signed else '.4f'}}"),
            "measured": _on(scale, bound.measured, bound.state, [limit], signed) if bound.measured else _shown(None),
            "confidence": "the value" if bound.confidence is None else f"{bound.confidence:.0%}, one-sided",
        }


def _by_set(report: Report) -> list[Row]:
    sets = _judged_first(report)
    rows = []
    for metric in metrics_of(report):
        values = [each.metrics.get(MODEL, {}).get(metric) for each in sets]
        rows.append(Row(words_of(metric), [_shown(value) for value in values]))
    new = [report.evaluation.of(each.negative_set, NEW_ITEM) for each in sets]
    cells = [_shown(each.metrics.get(MODEL, {}).get("auc") if each else None) for each in new]
    rows.insert(1, Row("AUC, positive new to the user", cells))
    for metric in metrics_of(report, "count"):
        counts = [_count(each.metrics.get(MODEL, {}).get(metric)) for each in sets]
        rows.append(Row(words_of(metric), [Interval(count, "") for count in counts], "count"))
    for name in ("users", "impressions", "pairs"):
        rows.append(Row(name, [Interval(f"{getattr(each, name):,}", "") for each in sets], "count"))
    return rows


def _count(value: Value | None) -> str:
    return _DASH if value is None or value.value is None else f"{value.value:,.0f}"


def _differences(report: Report, judged: SliceResult) -> Iterator[dict[str, Any]]:
    """A table a metric: how far the model is above each scorer, on the same users."""
    metrics = {m: None for of in judged.differences.values() for m in of}
    for metric in metrics:
        scorers = [scorer for scorer in _scorers(judged, metric) if metric in judged.differences.get(scorer, {})]
        # What is far off would leave no room for what is near: it is drawn as an arrow.
        near = [scorer for scorer in scorers if _kind(report, judged, scorer) != "other"] or scorers
        scale = Scale.around(_numbers(judged.differences[scorer][metric] for scorer in near), 0)
        rows = [
            Row(
                report.name_of(scorer),
                [
                    _shown(judged.metrics.get(scorer, {}).get(metric)),
                    _on(scale, judged.differences[scorer][metric], _kind(report, judged, scorer), [0], signed=True),
                ],
                _kind(report, judged, scorer),
            )
            for scorer in scorers
        ]
        if rows:
            better = METRICS[metric].better if metric in tuple(METRICS) else None
            yield {"metric": words_of(metric), "better": better, "rows": rows, "scale": scale}


def _judged_first(report: Report) -> list[SliceResult]:
    return sorted(sets_of(report), key=lambda each: each.negative_set != report.evaluation.judged_set)


def _slices(report: Report, negative_set: str) -> dict[str, Any] | None:
    """AUC by slice of one set, by attribute; None where it has no slices."""
    results = [each for each in report.evaluation.slices if each.negative_set == negative_set and each.slice != WHOLE]
    whole = report.evaluation.of(negative_set)
    if not results or whole is None:
        return None
    middle = whole.metrics.get(MODEL, {}).get("auc")
    scale = Scale.around(_numbers(each.metrics.get(MODEL, {}).get("auc") for each in [whole, *results]))
    at = [middle.value] if middle is not None and middle.value is not None else []
    against = BLESSED if BLESSED in whole.differences else report.best_baseline(whole)
    groups: dict[str, list[Row]] = {}
    for each in results:
        attribute, value = Slice.parse(each.slice)
        cells = [
            _on(scale, each.metrics.get(MODEL, {}).get("auc"), "model", at),
            _shown(each.differences.get(against or "", {}).get("auc"), signed=True),
            f"{each.users:,}",
            f"{each.impressions:,}",
        ]
        name = "0, cold" if (attribute, value) == ("popularity", "0") else value
        groups.setdefault(attribute, []).append(Row(name, cells))
    return {
        "set": set_words(negative_set),
        "judged": negative_set == report.evaluation.judged_set,
        "groups": [{"name": set_words(name), "rows": rows} for name, rows in groups.items()],
        "against": report.name_of(against) if against else "",
        "scale": scale,
        "whole": _shown(middle).text,
    }


# --- charts --------------------------------------------------------------------------------------------------------


def _roc(report: Report) -> Figure | None:
    judged = report.evaluation.of(report.evaluation.judged_set)
    curves = report.evaluation.curves.get(report.evaluation.judged_set)
    if judged is None or curves is None or not curves.roc:
        return None
    order = [scorer for scorer in _scorers(judged) if scorer in curves.roc]
    lines = [
        Line(
            _kind(report, judged, scorer),
            list(zip(curves.roc[scorer].false_positive_rate, curves.roc[scorer].true_positive_rate, strict=True)),
        )
        for scorer in reversed(order)
    ]
    rows = [[report.name_of(s), _shown(judged.metrics[s].get("auc")).text, *_at_rates(lines[-1 - i])]
            for i, s in enumerate(order)]  # fmt: skip
    named = [s for s in order if _kind(report, judged, s) != "other"]
    keys = [(_kind(report, judged, scorer), report.name_of(scorer)) for scorer in named]
    keys += [("other", "other baselines")] if len(named) < len(order) else []
    unit = Scale(0, 1)
    says = "; ".join(f"{name}: AUC {auc}" for name, auc, *_ in rows)
    axes = ("false positive rate", unit), ("true positive rate", unit)
    chart = charts.line_chart("roc", "ROC curves", says, lines, *axes, diagonal=True)
    header = ("", "AUC", "true positives at 5 %", "at 10 %", "at 20 %")
    return Figure(f"ROC, {set_words(judged.negative_set)} negatives", chart, keys, header, rows)


def _at_rates(line: Line) -> list[str]:
    """The true positive rates at some false positive rates, between points on a straight line."""
    found = []
    for wanted in (0.05, 0.1, 0.2):
        before, after = (0.0, 0.0), (1.0, 1.0)
        for point in line.points:
            if point[0] <= wanted:
                before = point
            else:
                after = point
                break
        share = (wanted - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0
        found.append(f"{before[1] + share * (after[1] - before[1]):.1%}")
    return found


def _reliability(report: Report) -> Figure | None:
    curves = report.evaluation.curves.get(report.evaluation.judged_set)
    if curves is None or not curves.reliability:
        return None
    order = [scorer for scorer in (MODEL, BLESSED) if scorer in curves.reliability]
    lines = [
        Line(scorer, [(each.predicted, each.observed) for each in curves.reliability[scorer]], dots=True)
        for scorer in reversed(order)
    ]
    unit = Scale(0, 1)
    axes = ("predicted probability", unit), ("share of positives", unit)
    says = "Mean predicted probability against the share of positives; on the diagonal both are the same."
    chart = charts.line_chart("reliability", "Reliability diagram", says, lines, *axes, diagonal=True)
    rows = [
        [report.name_of(scorer), f"{each.predicted:.4f}", f"{each.observed:.4f}", f"{each.pairs:,}"]
        for scorer in order
        for each in curves.reliability[scorer]
    ]
    keys = [(scorer, report.name_of(scorer)) for scorer in order]
    header = ("", "predicted", "positives", "pairs")
    return Figure(f"Reliability, {set_words(report.evaluation.judged_set)} negatives", chart, keys, header, rows)


def _training(report: Report) -> list[Figure]:
    epochs = report.epochs
    if not epochs:
        return []
    numbers = [float(epoch.number) for epoch in epochs]
    last = max(*numbers, numbers[0] + 1)
    losses = {
        "other": ("training", numbers, [epoch.train_loss for epoch in epochs]),
        "model": ("validation", numbers, [epoch.validation_loss for epoch in epochs]),
    }
    parts = [(epoch, [*epoch.auc_within, epoch.validation_auc]) for epoch in epochs]
    at = [epoch.number - 1 + (part + 1) / len(of) for epoch, of in parts for part in range(len(of))]
    aucs = {"model": ("validation", at, [auc for _, of in parts for auc in of])}
    figures = []
    for name, title, curves in (("loss", "Loss in nats", losses), ("auc", "AUC", aucs)):
        lines = [Line(kind, list(zip(xs, of, strict=True)), dots=True) for kind, (_, xs, of) in curves.items()]
        scale = Scale.around(value for _, _, of in curves.values() for value in of)
        ends = "; ".join(f"{label} from {of[0]:.4f} to {of[-1]:.4f}" for label, _, of in curves.values())
        xs = next(iter(curves.values()))[1]
        x = "epoch", Scale(min(xs), last)
        chart = charts.line_chart(f"epochs-{name}", f"{title} by epoch", ends, lines, x, (title, scale), whole=True)
        rows = [[f"{number:.4g}", *(f"{of[i]:.4f}" for _, _, of in curves.values())] for i, number in enumerate(xs)]
        keys = [(kind, label) for kind, (label, *_) in curves.items()]
        header = ("epoch", *(label for label, *_ in curves.values()))
        figures.append(Figure(f"{title} by epoch", chart, keys, header, rows))
    return figures


# --- data and cost -------------------------------------------------------------------------------------------------


def _quarantined(report: Report) -> list[dict[str, Any]]:
    return [
        {"reason": why, "count": count, "rows": [row for row in report.quarantined_rows if row.reason == why]}
        for why, count in report.quarantined.items()
        if count
    ]


def _dropped(report: Report) -> list[Row]:
    splits = list(report.impressions)
    reasons = {why: None for by_reason in report.dropped.values() for why in by_reason}
    rows = [Row("impressions", [f"{report.impressions[split]:,}" for split in splits])]
    what = "requests" if report.exposures else "events"
    for why in reasons:
        counts = [report.dropped.get(split, {}).get(why, 0) for split in splits]
        if any(counts):
            rows.append(Row(f"{what} without one: {why}", [f"{count:,}" for count in counts]))
    for name in {name: None for of_split in report.exposures.values() for name in of_split}:
        counts = [report.exposures.get(split, {}).get(name, 0) for split in splits]
        rows.append(Row(name.replace("_", " "), [f"{count:,}" for count in counts]))
    return rows


def _steps(after: Afterwards) -> list[Row]:
    longest = max((each.seconds for each in after.steps), default=0)
    largest = max((each.peak_memory or 0 for each in after.steps), default=0)
    return [
        Row(
            each.step,
            [
                "from the cache" if each.cached else f"{each.seconds:.1f}",
                charts.bar(each.seconds, longest),
                _DASH if each.peak_memory is None else f"{each.peak_memory / 2**20:,.0f}",
                charts.bar(each.peak_memory or 0, largest, "other"),
            ],
        )
        for each in after.steps
    ]
