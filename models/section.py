"""What every part of the configuration is, and every record of what a run did."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Record(BaseModel):
    """What is written down about a run, a sweep or a step: immutable, and strict about its keys."""

    model_config = Section.model_config
