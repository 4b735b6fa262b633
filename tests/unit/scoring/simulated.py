"""Scored impressions whose users differ in skill and in level, so that a user's pairs resemble each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctr.components.scoring.attributes import ATTRIBUTES
from ctr.components.scoring.scored import Scored


def simulated(
    seed: int,
    users: int = 60,
    *,
    negatives: int = 1,
    sets: Sequence[int] = (0, 2),
    noise: dict[str, float] | None = None,
    digits: int | None = None,
    sliced: bool = True,
) -> Scored:
    """Each user has 1 to 8 impressions in each set; scorers are noisy versions of one score.

    Args:
      negatives: of an impression.
      sets: the negative sets, as codes.
      noise: scorer -> deviation of its noise.
      digits: scores are rounded to these, so that there are ties.
      sliced: whether attributes differ.
    """
    rng = np.random.default_rng(seed)
    of_user = rng.integers(1, 9, users)
    ids = rng.permutation(users) * 7 + 3
    n = int(of_user.sum()) * len(sets)
    user = np.tile(np.repeat(np.arange(users), of_user), len(sets))
    label = np.zeros((n, 1 + negatives), np.int8)
    label[:, 0] = 1
    skill, level = rng.normal(1, 0.5, users)[user, None], rng.normal(0, 0.7, users)[user, None]
    common = skill * label + level + rng.normal(0, 0.7, label.shape)
    scores = {}
    for name, deviation in (noise or {"model": 0.4, "blessed": 0.5, "logistic_regression": 1.0}).items():
        score = common + rng.normal(0, deviation, label.shape)
        score = 1 / (1 + np.exp(-score)) if name in ("model", "blessed") else score
        scores[name] = (score if digits is None else score.round(digits)).astype(np.float32).ravel()
    return Scored(
        users=ids[user],
        negative_set=np.repeat(np.array(sets, np.int8), n // len(sets)),
        attributes={name: np.array(values)[rng.integers(0, len(values), n)] for name, values in ATTRIBUTES.items()}
        if sliced
        else {"item": np.full(n, "new")},
        candidates=np.full(n, 1 + negatives),
        labels=label.ravel(),
        scores=scores,
    )


def taken(scored: Scored, rows: np.ndarray) -> Scored:
    """Some impressions, in that order; a row may be taken several times."""
    first = np.cumsum(scored.candidates) - scored.candidates
    pairs = np.concatenate([np.arange(first[row], first[row] + scored.candidates[row]) for row in rows])
    return Scored(
        scored.users[rows],
        scored.negative_set[rows],
        {name: values[rows] for name, values in scored.attributes.items()},
        scored.candidates[rows],
        scored.labels[pairs],
        {name: values[pairs] for name, values in scored.scores.items()},
    )
