"""Whether there is anything that each bound of the gate can be checked on, asked before a model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ctr.components.scoring.rows import empty_bounds
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.scored_shards import joined
from ctr.models.errors import DataError


class BoundedSlices:
    """Impressions of the eval split, of which only what bounds ask for is kept.

    Args:
      keys: of ``evaluation.bounds``.
      judged_set: what bounds are for that name no negative set.
    """

    def __init__(self, keys: Sequence[str], judged_set: str) -> None:
        self._keys, self._judged_set = keys, judged_set
        self._attributes = {key.partition("/")[2].partition(":")[0] for key in keys}
        self._kept: list[Scored] = []

    def add(self, scored: Scored) -> None:
        """Takes some impressions."""
        kept = {name: values for name, values in scored.attributes.items() if name in self._attributes}
        self._kept.append(dataclasses.replace(scored, attributes=kept, scores={}))

    def check(self) -> None:
        """Looks at all bounds.

        Raises:
          DataError: if some are about impressions that are not there.
        """
        if empty := empty_bounds(joined(self._kept), self._keys, self._judged_set):
            raise DataError(
                "\n".join(empty) + "\nNo model is trained, since it could not be blessed. Leave such a bound out, or "
                "judge on a log, or a larger eval_share, that has such impressions"
            )
