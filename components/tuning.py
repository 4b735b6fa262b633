"""What a search before training found: written by the Tuner, applied by the steps after it, shown by the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from ctr.components.files import open_file
from ctr.models.section import Record

BEST_FILE: Final = "best_hyperparameters.txt"
"""Keras Tuner's own JSON of the best values, named as TFX's Tuner names it."""
TUNING_FILE: Final = "tuning.json"
"""Beside it: :class:`Tuning`."""

SectionT = TypeVar("SectionT", bound=BaseModel)


class SearchTrial(Record):
    """One training of the search."""

    values: dict[str, Any]
    """Setting -> value, by dotted name."""
    auc: float | None
    """On the validation split; None where the training failed."""


class Tuning(Record):
    """A search."""

    algorithm: str
    trials: tuple[SearchTrial, ...]
    """In the order in which they were tried."""

    @property
    def best(self) -> SearchTrial:
        """The one whose values were taken: of equal ones, the first."""
        return max((trial for trial in self.trials if trial.auc is not None), key=lambda trial: trial.auc or 0.0)


def best_values(uri: str) -> dict[str, Any]:
    """Setting -> value of a ``HyperParameters`` artifact."""
    with closing(open_file(os.path.join(uri, BEST_FILE))) as file:
        return {name: decoded(value) for name, value in json.loads(file.read())["values"].items()}


def decoded(value: Any) -> Any:
    """A value of Keras Tuner as the configuration has it: what is no number is JSON there."""
    return json.loads(value) if isinstance(value, str) else value


def with_values(section: SectionT, name: str, values: Mapping[str, Any]) -> SectionT:
    """A section of the configuration with those values whose dotted names are below its own.

    Raises:
      ValidationError: if it cannot have them.
    """
    whole = section.model_dump(mode="json")
    for dotted, value in values.items():
        if dotted.startswith(f"{name}."):
            *parents, leaf = dotted.split(".")[1:]
            place = whole
            for parent in parents:
                place = place[parent]
            place[leaf] = value
    return type(section).model_validate(whole)
