"""What of a log is not taken, in the words that a person gets: rows, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.examples.summary import NOT_A_TARGET_BEHAVIOR, SHORT_HISTORY, IngestSummary
from ctr.components.impression_gen.events import FIELDS
from ctr.components.impression_gen.hints import advise
from ctr.components.impression_gen.plausibility import many
from ctr.components.quarantine import OF_FORM, Example
from ctr.components.settings import WINDOW_SETTINGS, IngestConfig
from ctr.models.errors import DataError
from ctr.models.impression import EVAL_SPLIT, SPLITS


def check_rows(
    rows: int,
    quarantined: Mapping[str, int],
    examples: Mapping[str, Sequence[Example]],
    ingest: IngestConfig,
    left_out: int = 0,
    of: str = "",
) -> None:
    """Bounds the share of rows in quarantine.

    Args:
      rows: read.
      quarantined: reason -> rows.
      examples: reason -> some of them, earliest first.
      ingest: the bounds, the window and the form of the rows.
      left_out: rows of kinds of event that the description leaves out.
      of: what to call the rows, where they are not all.

    Raises:
      DataError: if there is no row, none can be used, or more cannot than a bound allows; the message has the
        commonest reason, a row, and what is probably wrong.
    """
    expected = "expected {} from {} to {}".format(_form(ingest.dataset), *ingest.bounds)
    if not rows:
        raise DataError(f"data: the log has no row; {expected}")
    if left_out == rows:
        raise DataError(f"data: all {rows:,} rows are of kinds of event that the description leaves out; {expected}")
    own = ingest.max_quarantined_share_by_reason
    together = {reason: count for reason, count in quarantined.items() if count and reason not in own}
    bounds = [("max_quarantined_share", ingest.max_quarantined_share, together)] + [
        (f"max_quarantined_share_by_reason.{reason}", bound, {reason: quarantined.get(reason, 0)})
        for reason, bound in own.items()
    ]
    over = next((found for found in bounds if sum(found[2].values()) > found[1] * rows), None)
    if over is None:
        if sum(quarantined.values()) + left_out < rows:
            return
        over = ("", 1.0, {reason: count for reason, count in quarantined.items() if count})
    name, bound, counts = over
    lost = sum(counts.values())
    reason = max(counts, key=lambda each: counts[each])
    allowed = f", more than ingest.{name} allows ({bound:.2%})" if name else ""
    lines = [
        f"data: {lost:,} of {of}{rows:,} rows cannot be used ({lost / rows:.2%}){allowed}; {expected} "
        f"({', '.join(WINDOW_SETTINGS)})",
        f"In quarantine: {', '.join(f'{count:,} {each}' for each, count in _by_count(counts))}",
    ]
    seen = examples.get(reason, ())
    if seen:
        first = seen[0]
        lines.append(f"For example {reason} ({first.detail}), {first.file}, line {first.line}: {first.text}")
    if advice := advise(reason, seen, ingest.dataset):
        lines.append(f"Probably {advice}.")
    if ingest.dataset == PUBLIC_LOG and reason in OF_FORM:
        lines.append("A log of another form is read by its description: 'inspect' writes one, --dataset FILE gives it.")
    if name and sum(quarantined.values()) < rows:
        own_bound = f"ingest.max_quarantined_share_by_reason.{reason}"
        lines.append(f"If the log is right as it is, set {own_bound} above {counts[reason] / rows:.4f}.")
    raise DataError("\n".join(lines))


def _form(dataset: DatasetConfig) -> str:
    if dataset.is_public_form:
        return f"lines {','.join(FIELDS)}"
    columns = ", ".join(f"{field} in {dataset.column_of(field)}" for field, _ in dataset.given_columns())
    return f"{dataset.format} with {columns}"


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def check_impressions(summary: IngestSummary, ingest: IngestConfig) -> None:
    """Sees that each split has something to learn from or to judge on.

    Raises:
      DataError: if a split has no impression, or of exposures no click, or nothing else; the message has what became of
        its events, or requests, and what would help.
    """
    _check_clicks(summary, ingest.dataset)
    found = {**summary.impressions, EVAL_SPLIT: summary.eval_impressions.get(ingest.judged_set, 0)}
    empty = [split for split in SPLITS if not found[split]]
    if not empty:
        return
    shown = ingest.dataset.shown is not None
    what = "request" if shown else "event"
    asked = {split: of_split["requests"] for split, of_split in summary.exposures.items()} if shown else summary.events
    lost = [
        f"- {split}: {asked.get(split, 0):,} {what}s, of which "
        + ", ".join(f"{count:,} {reason}" for reason, count in _by_count(summary.dropped[split]) if count)
        for split in empty
    ]
    reasons = {reason for split in empty for reason, count in summary.dropped[split].items() if count}
    advice = []
    if NOT_A_TARGET_BEHAVIOR in reasons:
        kinds = ", ".join(ingest.target_kinds)
        where = "ingest.behaviors_as_targets, or targets of the log's description"
        advice.append(f"An impression's positive is an event of kind {kinds} ({where}).")
    if SHORT_HISTORY in reasons:
        advice.append(
            f"Before it its user must have {ingest.min_history} events or more (ingest.min_history)"
            + ("; of what was shown, only a click is one." if shown else ".")
        )
    if any(reason.startswith("no_negative") for reason in reasons):
        advice.append(
            "Its negative is an item that its user never had, and a contemporaneous one is of another user's event "
            "after it in the same split; a revisit one is another item of its own history."
        )
    raise DataError(
        f"data: no {what} of {' and '.join(empty)} becomes an impression, so there is nothing to "
        f"{'judge on' if empty == [EVAL_SPLIT] else 'learn from'}; the log has {many(summary.users, 'user')}.\n"
        + "\n".join([*lost, *advice])
    )


def _check_clicks(summary: IngestSummary, dataset: DatasetConfig) -> None:
    for split in SPLITS:
        counts = summary.exposures.get(split, {})
        candidates, clicked = counts.get("candidates", 0), counts.get("clicked", 0)
        if candidates and clicked in (0, candidates):
            raise DataError(
                f"data: of {many(candidates, 'candidate')} of {split} {'all were' if clicked else 'none was'} clicked, "
                f"so there is nothing to tell apart. Does {dataset.column_of('clicked')} say what was clicked "
                "(ingest.dataset.columns.clicked), in words that are read so (ingest.dataset.exposures.clicked)?"
            )
