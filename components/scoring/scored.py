"""Scored impressions as columns: what Baselines writes before training, the Evaluator adds to, and metrics are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ctr.models.arrays import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """n impressions with m candidates in all."""

    users: Array
    """[n] int64."""
    negative_set: Array
    """[n] int8, index into ``models.impression.EVALUATION_SETS``."""
    attributes: Mapping[str, Array]
    """Attribute -> [n] strings (numpy unicode), what impressions are sliced by; see ``scoring.slices``."""
    candidates: Array
    """[n] int64, how many each has; n sum to m."""
    labels: Array
    """[m] int8, impression by impression."""
    scores: Mapping[str, Array]
    """Scorer -> [m] float32: probabilities of ``model`` and ``blessed``, any scores of baselines."""
