"""What log to generate: the generator's configuration."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, model_validator

from ctr.components.dataset import PUBLIC_LOG
from ctr.components.settings import IngestConfig
from ctr.models.section import Section

MIN_EVENTS: Final = 5
"""Clean rows of the least active user."""
ITEMS_PER_USER: Final = 4.2
"""Catalogue items a user of the real log: 4,162,024 over 987,994."""
MIN_ITEMS: Final = 1_500_000
"""Smallest default catalogue: a few users of the real log choose among nearly all of its items, too."""
CATEGORIES: Final = 9439
"""Categories of the real log."""

FIRST_SECOND, LAST_SECOND = IngestConfig().window
"""Of the real log."""
FIRST_DAY: Final = IngestConfig().bounds[0].date()

MAX_RATE: Final = 0.1


def _checked_amount(value: object) -> object:
    counts = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not counts and not (isinstance(value, float) and 0 <= value <= MAX_RATE):
        raise ValueError(f"give a count (a whole number from 0) or a rate (a fraction from 0.0 to {MAX_RATE})")
    return value


Amount = Annotated[int | float, PlainValidator(_checked_amount)]
"""A whole number is an exact count; a fraction is a rate of the expected clean rows."""


class DirtConfig(Section):
    """Bad rows, each kind by count (``38``) or as a share of the clean rows (``0.001``).

    Dirt is added: the clean rows are the same without it. Kinds that a reader must reject bear the names of
    the quarantine's reasons.
    """

    negative_timestamp: Amount = 0
    outside_window: Amount = 0
    """Rows before or after the window whose time is not negative."""
    duplicate: Amount = 0
    """Exact copies of clean rows."""
    wrong_field_count: Amount = 0
    not_an_integer: Amount = 0
    unknown_behavior: Amount = 0
    two_category_items: Amount = 0
    """Items with two categories, each in two added rows. The rows are valid; which category holds is the reader's
    choice."""
    crlf: bool = False
    """End lines with CR LF instead of LF."""


DIRT_KINDS: Final = tuple(name for name in DirtConfig.model_fields if name != "crlf")
"""The kinds of dirt that are counted, in the order of the fields."""


class GeneratorConfig(Section):
    """One log. Equal configurations give equal bytes."""

    users: Annotated[int, Field(ge=1, le=10_000_000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 2017
    items: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Catalogue size; by default 4.2 items a user, at least 1,500,000. Most never occur in a small log."""
    categories: Annotated[int, Field(ge=1, le=1_000_000)] = CATEGORIES
    events_per_user: Annotated[float, Field(ge=2 * MIN_EVENTS, le=5000)] = 101.0
    """Mean of clean rows a user; some users have many times as many."""
    start: Annotated[dt.date, Field(ge=dt.date(1992, 1, 1), le=dt.date(2036, 1, 1))] = FIRST_DAY
    """First of the log's nine days, in Asia/Shanghai."""
    like: Literal["public", "shop", "amazon-reviews", "exposures"] = "public"
    """The form that it is written in; ``exposures`` has other events, see ``generator/exposures.py``."""
    dirt: DirtConfig = DirtConfig()

    @model_validator(mode="after")
    def _possible(self) -> GeneratorConfig:
        if self.like != "public" and self.dirt != DirtConfig():
            raise ValueError(f"dirt is of the public log's form; leave it out with like {self.like}")
        if self.categories > self.catalogue_items:
            raise ValueError(f"categories is {self.categories} but items only {self.catalogue_items}: each needs one")
        for kind in DIRT_KINDS:
            amount = self.dirt_count(kind)
            most = self.catalogue_items // 5 if kind == "two_category_items" else self.expected_rows
            if amount > most:
                raise ValueError(f"dirt.{kind} is {amount}, too many for a log of this size; ask for at most {most}")
        if self.dirt_count("two_category_items") and self.categories < 2:
            raise ValueError("dirt.two_category_items needs at least 2 categories")
        return self

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the file's name; of exposures there is none, as they are a folder."""
        if self.like == "exposures":
            return ()
        plain = ".json" if self.like == "amazon-reviews" else ".csv"
        return plain, f"{plain}.gz"

    @property
    def catalogue_items(self) -> int:
        """:attr:`items` or its default."""
        return self.items if self.items is not None else max(MIN_ITEMS, int(ITEMS_PER_USER * self.users))

    @property
    def delay(self) -> int:
        """Seconds that the log is later than the real one."""
        start = dt.datetime.combine(self.start, dt.time(), PUBLIC_LOG.zone)
        return int(start.timestamp()) - FIRST_SECOND

    @property
    def window(self) -> tuple[int, int]:
        """First and last Unix second of clean rows."""
        return FIRST_SECOND + self.delay, LAST_SECOND + self.delay

    @property
    def expected_rows(self) -> int:
        """Clean rows to expect; the log's own number differs by chance."""
        return round(self.users * self.events_per_user)

    def dirt_count(self, kind: str) -> int:
        """How many of one of :data:`DIRT_KINDS` are wanted, a rate turned into a number."""
        amount: int | float = getattr(self.dirt, kind)
        return amount if isinstance(amount, int) else round(amount * self.expected_rows)
