"""Reads impressions of a run's eval split, to try served models on."""

from __future__ import annotations

import itertools
import os
from typing import Final

from ctr.components.examples.names import read_names
from ctr.components.examples.shards import list_shards, split_folder
from ctr.models import impression as names
from ctr.pipeline.output.layout import CATALOGUE, IMPRESSIONS, Layout
from ctr.pipeline.output.runs import NoSuchRun, latest_output
from ctr.serving.impressions import Impression

_EVENT: Final = (names.USER_ID, names.TIMESTAMP)
_LOOKED_AT: Final = 1000
"""Stored impressions of which one is chosen."""


def eval_impression(output: str, pipeline_name: str) -> tuple[Impression, int | None]:
    """The eval impression with the longest history among the first thousand of the newest run.

    Returns:
      The impression and the item that the user really chose; None where it is none of those shown.

    Raises:
      NoSuchRun: if there is no run, or its examples are gone.
    """
    events = _events(output, pipeline_name, _LOOKED_AT)
    chosen = max(events, key=lambda group: (len(group), max(group[0][names.LABEL]), len(group[0][names.HISTORY_AGE])))
    labels, items = (chosen[0][name] for name in (names.LABEL, names.CANDIDATE_ITEM_ID))
    return _impression(chosen), items[labels.index(1)] if 1 in labels else None


def strings_of(output: str, pipeline_name: str, impression: Impression) -> dict[int, str]:
    """Number -> string of the impression's ids that are strings in the log of the newest run."""
    catalogue = latest_output(Layout(output).metadata_db, pipeline_name, *CATALOGUE)
    rows = (*impression.history, *impression.candidates)
    return {
        **read_names(catalogue, "category", {row.category_id for row in rows}),
        **read_names(catalogue, "item", {row.item_id for row in rows}),
    }


def eval_impressions(output: str, pipeline_name: str, count: int) -> list[Impression]:
    """The first so many of the eval split of the newest run. Errors as for :func:`eval_impression`."""
    stored = count * len(names.NEGATIVE_SETS)
    return [_impression(group) for group in _events(output, pipeline_name, stored)[:count]]


def _events(output: str, pipeline_name: str, count: int) -> list[list[dict[str, list[int]]]]:
    """The first so many stored impressions, those of one event together."""
    examples = latest_output(Layout(output).metadata_db, pipeline_name, *IMPRESSIONS)
    split = split_folder(examples, names.EVAL_SPLIT)
    if not os.path.isdir(split):
        raise NoSuchRun(
            f"{split}: no such folder; the newest run whose metadata lies in {output} wrote its impressions there, and "
            f"they are not in {Layout(output).artifacts} either"
        )
    # That there is no run is known without it.
    from ctr.components.examples.impressions import first_features

    events: dict[tuple[int, ...], list[dict[str, list[int]]]] = {}
    for record in first_features(list_shards(split), count):
        event = (*(record[name][0] for name in _EVENT), record[names.CANDIDATE_ITEM_ID][0])
        events.setdefault(event, []).append(record)
    if not events:
        raise NoSuchRun(f"{examples}: the eval split is empty")
    return list(events.values())


def _impression(group: list[dict[str, list[int]]]) -> Impression:
    """Of an event; its candidates are those of all negative sets, by id: a ranking that keeps the order of equal scores
    must not find the real one first."""
    # What a served model declares, a log that was read later need not have.
    stored = [name for name in names.CANDIDATE_FEATURES if name in group[0]]
    rows = itertools.chain.from_iterable(zip(*(record[name] for name in stored), strict=True) for record in group)
    of_item = {row[0]: row for row in reversed(list(rows))}
    columns = map(list, zip(*(of_item[item] for item in sorted(of_item)), strict=True))
    features = group[0] | dict(zip(stored, columns, strict=True))
    return Impression.from_features(features)
