"""From impressions and scores to pairs: the one way of the baselines, the sweep and the Evaluator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctr.components.examples.impressions import Impressions
from ctr.components.scoring.pairs import Pairs
from ctr.components.scoring.seen import positive_is_new
from ctr.models.arrays import Array
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, LABEL, USER_ID


def pairs_by_set(impressions: Impressions, predictions: Array) -> Iterator[tuple[str, Pairs]]:
    """The pairs of each negative set that is there, in the order of their names.

    Args:
      impressions: with users, negative sets and histories.
      predictions: [pairs, ...], impression by impression.
    """
    padded = (impressions.padded(name) for name in (HISTORY_ITEM_ID, CANDIDATE_ITEM_ID, LABEL))
    new = impressions.for_pairs(positive_is_new(*padded).numpy())
    users = impressions.for_pairs(impressions.features[USER_ID].numpy()[:, 0])
    labels = impressions.of_pairs(LABEL).astype(np.int8)
    for name in np.unique(impressions.negative_set):
        rows = impressions.negative_set == name
        of_set = impressions.for_pairs(rows)
        yield (
            name.decode(),
            Pairs(labels[of_set], predictions[of_set], users[of_set], new[of_set], impressions.candidates[rows]),
        )
