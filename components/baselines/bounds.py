"""Whether there is what the gate's slices and bounds are about, asked before a model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ctr.components.scoring.rows import empty_bounds, values_of
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.scored_shards import joined
from ctr.models.errors import DataError


class SlicesCheck:
    """Whether the eval split has what it is to be judged on; of the impressions only what is asked for is kept.

    Args:
      keys: of ``evaluation.bounds``.
      judged_set: what bounds are for that name no negative set.
      features: of ``evaluation.slices``.
    """

    def __init__(self, keys: Sequence[str], judged_set: str, features: Sequence[str]) -> None:
        self._keys, self._judged_set = keys, judged_set
        self._attributes = {key.partition("/")[2].partition(":")[0] for key in keys}
        self._values: dict[str, set[str]] = {name: set() for name in features}
        self._kept: list[Scored] = []

    def add(self, scored: Scored) -> None:
        """Takes some impressions."""
        kept = {name: values for name, values in scored.attributes.items() if name in self._attributes}
        self._kept.append(dataclasses.replace(scored, attributes=kept, scores={}))
        for name, values in self._values.items():
            values.update(np.unique(scored.attributes[name]).tolist())

    def check(self) -> None:
        """Looks at all slices and bounds.

        Raises:
          DataError: if a feature has too many values, or bounds are about impressions that are not there.
        """
        for name, values in self._values.items():
            values_of(name, np.array([*values], np.str_))
        if empty := empty_bounds(joined(self._kept), self._keys, self._judged_set):
            raise DataError(
                "\n".join(empty) + "\nNo model is trained, since it could not be blessed. Leave such a bound out, or "
                "judge on a log, or a larger eval_share, that has such impressions"
            )
