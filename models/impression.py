"""The impression: one user context and the candidates shown in it.

This module is the single definition of every feature's name, meaning and id space. Ingest writes these
features, Transform maps them, the models read them, and a serving request carries them (without a label).

Raw impression (written by ``components/impression_gen``, sent by ``serving/client.py``):

====================  ============  =====================================================================
feature               shape, dtype  meaning
====================  ============  =====================================================================
user_id               [1] int64     groups for GAUC; not a model input
timestamp             [1] int64     the impression's time, Unix seconds
negative_set          [1] bytes     how the negatives were drawn, see :data:`NEGATIVE_SETS`
history_item_id       [<=L] int64   items of the user's last L events strictly before ``timestamp``, oldest first
history_category_id   [<=L] int64   their categories
history_behavior      [<=L] int64   their kinds, see :data:`BEHAVIORS`
history_age           [<=L] int64   seconds from the event to ``timestamp``, always >= 1
candidate_item_id     [N] int64     the positive first in stored data, then the negatives
candidate_category_id [N] int64     their categories
label                 [N] int64     1 for the event that happened, 0 for a negative
====================  ============  =====================================================================

Transform adds, for each ``*_item_id`` and ``*_category_id``, a ``*_item_index`` and ``*_category_index`` of
the same shape: :data:`PADDING_INDEX`, :data:`UNKNOWN_INDEX`, or :data:`FIRST_KNOWN_INDEX` plus the id's
rank in the training window's vocabulary.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

USER_ID: Final = "user_id"
TIMESTAMP: Final = "timestamp"
NEGATIVE_SET: Final = "negative_set"
HISTORY_ITEM_ID: Final = "history_item_id"
HISTORY_CATEGORY_ID: Final = "history_category_id"
HISTORY_BEHAVIOR: Final = "history_behavior"
HISTORY_AGE: Final = "history_age"
CANDIDATE_ITEM_ID: Final = "candidate_item_id"
CANDIDATE_CATEGORY_ID: Final = "candidate_category_id"
LABEL: Final = "label"

HISTORY_ITEM_INDEX: Final = "history_item_index"
HISTORY_CATEGORY_INDEX: Final = "history_category_index"
CANDIDATE_ITEM_INDEX: Final = "candidate_item_index"
CANDIDATE_CATEGORY_INDEX: Final = "candidate_category_index"

HISTORY_FEATURES: Final = (HISTORY_ITEM_ID, HISTORY_CATEGORY_ID, HISTORY_BEHAVIOR, HISTORY_AGE)
CANDIDATE_FEATURES: Final = (CANDIDATE_ITEM_ID, CANDIDATE_CATEGORY_ID)
REQUEST_FEATURES: Final = HISTORY_FEATURES + CANDIDATE_FEATURES
"""What a serving request carries; everything a model may look at."""

INDEX_OF: Final = {
    HISTORY_ITEM_ID: HISTORY_ITEM_INDEX,
    HISTORY_CATEGORY_ID: HISTORY_CATEGORY_INDEX,
    CANDIDATE_ITEM_ID: CANDIDATE_ITEM_INDEX,
    CANDIDATE_CATEGORY_ID: CANDIDATE_CATEGORY_INDEX,
}
"""Raw id feature -> the dense index feature that Transform derives from it."""

HISTORY_INPUTS: Final = (*HISTORY_FEATURES, HISTORY_ITEM_INDEX, HISTORY_CATEGORY_INDEX)
"""Tensors of a history that a model is called with, raw and mapped."""
CANDIDATE_INPUTS: Final = (*CANDIDATE_FEATURES, CANDIDATE_ITEM_INDEX, CANDIDATE_CATEGORY_INDEX)
"""Likewise of the candidates."""

PADDING_INDEX: Final = 0
UNKNOWN_INDEX: Final = 1
FIRST_KNOWN_INDEX: Final = 2

PADDING_ID: Final = 0
"""Fills raw-tensor requests to a common length. Ingest refuses ids below 1, so no event has it."""

BehaviorName = Literal["pv", "cart", "fav", "buy"]
"""Kinds of event as the log spells them."""

BEHAVIORS: Final[dict[str, int]] = {name: code for code, name in enumerate(get_args(BehaviorName), start=1)}
"""Log spelling -> the code in ``history_behavior``; 0 is padding."""


class ValueRange(NamedTuple):
    """Values that a feature may have, both ends included."""

    minimum: int
    maximum: int


_POSITIVE: Final = ValueRange(1, 2**63 - 1)

VALUE_RANGES: Final = {
    HISTORY_ITEM_ID: _POSITIVE,
    HISTORY_CATEGORY_ID: _POSITIVE,
    HISTORY_BEHAVIOR: ValueRange(min(BEHAVIORS.values()), max(BEHAVIORS.values())),
    HISTORY_AGE: _POSITIVE,
    CANDIDATE_ITEM_ID: _POSITIVE,
    CANDIDATE_CATEGORY_ID: _POSITIVE,
}
"""What an event and a candidate of a request may hold; padding is :data:`PADDING_ID` in every feature. An age has no
upper end, since to the models all that is older than some weeks is alike."""

TRAIN_SPLIT: Final = "train"
VALIDATION_SPLIT: Final = "validation"
EVAL_SPLIT: Final = "eval"
SPLITS: Final = (TRAIN_SPLIT, VALIDATION_SPLIT, EVAL_SPLIT)
"""In order of time: the model learns from the first, stops early on the second, is judged on the third."""

UNIFORM: Final = "uniform"
SAME_CATEGORY: Final = "same_category"
CONTEMPORANEOUS: Final = "contemporaneous"
NEGATIVE_SETS: Final = (UNIFORM, SAME_CATEGORY, CONTEMPORANEOUS)
"""Kinds of evaluation negatives. The gate uses the contemporaneous set."""

MIXED: Final = "mixed"
"""``negative_set`` of train and validation impressions, whose negatives follow ``ingest.training_negatives``."""
