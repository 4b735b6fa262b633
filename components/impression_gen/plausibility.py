"""Whether a log looks like a behaviour log at all: swapped or constant columns read well and teach nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.examples import summary
from ctr.components.examples.catalogue import Catalogue
from ctr.components.impression_gen.events import FIELDS, Records
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.settings import PlausibilityConfig
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS


@dataclass(frozen=True)
class LogFacts:
    """Counts of what a log holds."""

    users: int
    items: int
    """Of the train split."""
    categories: int
    """Likewise."""
    repeated_items: int
    """Items with two events or more in the train split."""
    repeated_items_with_several_categories: int
    behaviors: Mapping[str, int]
    """Events of each kind."""
    busiest_second: float
    """Share of the events in the second with the most."""

    @property
    def events(self) -> int:
        """All events kept."""
        return sum(self.behaviors.values())


def facts_of(totals: Mapping[str, int], catalogue: Catalogue, timeline: Timeline) -> LogFacts:
    """The facts of a log from its counts, named as in ``summary.py``."""
    repeated, several = (totals.get(name, 0) for name in summary.REPEATED_ITEMS)
    return LogFacts(
        users=totals.get(summary.USERS, 0),
        items=len(catalogue.item_ids),
        categories=len(catalogue.category_ids),
        repeated_items=repeated,
        repeated_items_with_several_categories=several,
        behaviors={name: totals.get(summary.key("behavior", name), 0) for name in BEHAVIORS},
        busiest_second=timeline.busiest_second,
    )


def repeated_items(counts: Records) -> tuple[int, int]:
    """Items with two events or more in the train split, and those of them with several categories.

    Args:
      counts: [n] ITEM_COUNT, each (item, category) once, all of an item's.
    """
    counts = counts[counts["train_events"] > 0]
    _, inverse, categories = np.unique(counts["item"], return_inverse=True, return_counts=True)
    repeated = np.bincount(inverse, counts["train_events"], len(categories)) >= 2
    return int(repeated.sum()), int((repeated & (categories > 1)).sum())


def check_plausible(facts: LogFacts, bounds: PlausibilityConfig, dataset: DatasetConfig = PUBLIC_LOG) -> None:
    """Holds a log against the bounds, without those of what the log has not, as its description says.

    Raises:
      DataError: if it is out of one; the message has all of them, what was found, and the settings.
    """
    if facts.events < max(1, bounds.min_events):
        return
    problems = list(_problems(facts, bounds, dataset))
    if problems:
        found = (
            f"{facts.events:,} events of {many(facts.users, 'user')}, with {many(facts.items, 'item')} in "
            f"{many(facts.categories, 'category', 'categories')} in the train split"
        )
        raise DataError(
            f"data: this does not look like a behaviour log: {found}.\n"
            + "".join(f"- {problem}\n" for problem in problems)
            + f"{_question(dataset)} If the log is right, change the setting; null "
            "switches it off."
        )


def _question(dataset: DatasetConfig) -> str:
    if dataset.is_public_form:
        return f"Are the columns {','.join(FIELDS)}, in this order?"
    said = ", ".join(f"{field} in {dataset.column_of(field)}" for field, _ in dataset.given_columns())
    return f"Is it true that the log has {said} (ingest.dataset.columns)?"


def _of_nothing(dataset: DatasetConfig) -> set[str]:
    """Bounds of columns that the log does not have."""
    found = {name for name in PlausibilityConfig.model_fields if "categor" in name and dataset.columns.category is None}
    if dataset.behaviors is None or len(dataset.kinds) == 1:
        found |= {f"{end}_{name}_share" for name in BEHAVIORS for end in ("min", "max")}
    return found


def _problems(facts: LogFacts, bounds: PlausibilityConfig, dataset: DatasetConfig) -> Iterator[str]:
    events = facts.events
    of_nothing = _of_nothing(dataset)
    shares = {name: facts.behaviors.get(name, 0) / events for name in BEHAVIORS}
    several = facts.repeated_items_with_several_categories / max(1, facts.repeated_items)
    measured: list[tuple[str, float, str, str]] = [
        ("min_users", facts.users, "{:,} different user_id", ""),
        ("min_items", facts.items, "{:,} different item_id", ""),
        ("min_categories", facts.categories, "{:,} different category_id", ""),
        ("min_events_per_user", events / max(1, facts.users), "{:,.2f} events a user", "on average"),
        ("max_events_per_user", events / max(1, facts.users), "{:,.2f} events a user", "on average"),
        (
            "max_items_with_several_categories",
            several,
            "{:.2%} of the items",
            "with several events have several categories",
        ),
        ("max_categories_per_item", facts.categories / max(1, facts.items), "{:,.2f} categories an item", "on average"),
        *(
            (f"{end}_{name}_share", shares[name], "{:.2%} of the events", f"are {name}")
            for name in BEHAVIORS
            for end in ("min", "max")
        ),
        ("max_second_share", facts.busiest_second, "{:.2%} of the events", "are in one and the same second"),
    ]
    for name, value, form, what in measured:
        bound = getattr(bounds, name, None)
        if name in of_nothing or bound is None or (value >= bound if name.startswith("min_") else value <= bound):
            continue
        limit = f"{'at least' if name.startswith('min_') else 'at most'} {form.partition(' ')[0].format(bound)}"
        yield f"{form.format(value)}{' ' + what if what else ''}; expected {limit} (ingest.plausibility.{name})"


def many(count: int, one: str, several: str = "") -> str:
    """So many of them, in words."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
