"""The impression: one user context and the candidates shown in it.

:data:`FEATURES` is the one table of what an impression holds: ingest writes its rows, the schema bounds them, Transform
maps their ids, the models embed them, and a serving request carries those of a history and of the candidates. What
kinds of events, of negatives and of splits there are is said here alone, too. Importing this module loads neither
TensorFlow nor gRPC.

====================  ============  =====================================================================
feature               shape, dtype  meaning
====================  ============  =====================================================================
user_id               [1] int64     groups for GAUC; not a model input
timestamp             [1] int64     the impression's time, Unix seconds
negative_set          [1] bytes     how the negatives were drawn: :data:`MIXED`, or one of :data:`NEGATIVE_SETS`
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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

# --- kinds ---------------------------------------------------------------------------------------------------------

BehaviorName = Literal["pv", "cart", "fav", "buy"]
"""Kinds of event as the log spells them."""
BEHAVIORS: Final[dict[str, int]] = {name: code for code, name in enumerate(get_args(BehaviorName), start=1)}
"""Log spelling -> the code in ``history_behavior``; 0 is padding."""
PAGE_VIEW: Final[BehaviorName] = "pv"

Split = Literal["train", "validation", "eval"]
SPLITS: Final[tuple[str, ...]] = get_args(Split)
"""In order of time: the model learns from the first, stops early on the second, is judged on the third."""
TRAIN_SPLIT: Final[Split] = "train"
VALIDATION_SPLIT: Final[Split] = "validation"
EVAL_SPLIT: Final[Split] = "eval"

NegativeSet = Literal["uniform", "same_category", "contemporaneous"]
NEGATIVE_SETS: Final[tuple[NegativeSet, ...]] = get_args(NegativeSet)
"""Kinds of negatives: in this order they stand behind the positive of a stored training impression, and each has
evaluation impressions of its own. The gate uses the contemporaneous ones."""
UNIFORM: Final[NegativeSet] = "uniform"
SAME_CATEGORY: Final[NegativeSet] = "same_category"
CONTEMPORANEOUS: Final[NegativeSet] = "contemporaneous"

MIXED: Final = "mixed"
"""``negative_set`` of train and validation impressions, whose negatives follow ``ingest.training_negatives``."""

# --- sizes ---------------------------------------------------------------------------------------------------------

MAX_HISTORY: Final = 1000
"""Most events of a history, stored or in a request."""
MAX_NEGATIVES: Final = 100
"""Most negatives of a kind of a stored impression."""

# --- indices -------------------------------------------------------------------------------------------------------

PADDING_INDEX: Final = 0
UNKNOWN_INDEX: Final = 1
FIRST_KNOWN_INDEX: Final = 2

PADDING_ID: Final = 0
"""Fills raw-tensor requests to a common length. Ingest refuses ids below 1, so no event has it."""

# --- features ------------------------------------------------------------------------------------------------------

NO_BOUND: Final = 2**63 - 1

Group = Literal["context", "history", "candidate", "label"]
IdSpace = Literal["item", "category"]


@dataclass(frozen=True)
class Feature:
    """A raw feature of an impression.

    Attributes:
      name: everywhere but in the JSON form of a request, see :attr:`key`.
      group: what has a value of it: the impression, each event of its history, or each of its candidates. A ``label``
        is of each candidate, too, and not in a request.
      source: the field of an event that ingest takes it from; ``age`` is the time from the event to the impression.
        None where ingest makes it in another way.
      smallest: value that it may have, padding aside.
      largest: likewise.
      dtype: of its values.
      ids: of what they are ids: Transform maps them to indices, and the models embed those.
      embedding: how the models embed the values themselves, if they do: by ``code``, a row for each of 0 to
        ``largest``, or by their ``log2``. A setting of the model named after the feature can switch it off.
      codes: names of its values, in the JSON form of a request.
      unit: part of its name there.
    """

    name: str
    group: Group
    source: str | None = None
    smallest: int = 1
    largest: int = NO_BOUND
    dtype: Literal["int64", "bytes"] = "int64"
    ids: IdSpace | None = None
    embedding: Literal["code", "log2"] | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    unit: str = ""

    @property
    def short(self) -> str:
        """The name within its group."""
        return self.name.removeprefix(f"{self.group}_")

    @property
    def key(self) -> str:
        """Its name in the JSON form of a request."""
        return f"{self.short}_{self.unit}" if self.unit else self.short

    @property
    def index(self) -> str:
        """What Transform makes of ids."""
        return self.name.removesuffix("id") + "index"

    @property
    def range(self) -> str:
        """The values in words."""
        return f"{self.smallest} or more" if self.largest == NO_BOUND else f"{self.smallest} to {self.largest}"


FEATURES: Final[dict[str, Feature]] = {}
"""The table, in the order in which features are written. The first one of a group of several features is the item's id,
by which padding is known."""


def _row(name: str, group: Group, source: str | None = None, **attributes: Any) -> str:
    FEATURES[name] = Feature(name, group, source, **attributes)
    return name


USER_ID: Final = _row("user_id", "context", "user")
TIMESTAMP: Final = _row("timestamp", "context", "timestamp")
NEGATIVE_SET: Final = _row("negative_set", "context", dtype="bytes")
HISTORY_ITEM_ID: Final = _row("history_item_id", "history", "item", ids="item")
HISTORY_CATEGORY_ID: Final = _row("history_category_id", "history", "category", ids="category")
HISTORY_BEHAVIOR: Final = _row(
    "history_behavior", "history", "behavior", largest=len(BEHAVIORS), embedding="code", codes=BEHAVIORS
)
# Without an upper end, since to the models all that is older than some weeks is alike.
HISTORY_AGE: Final = _row("history_age", "history", "age", embedding="log2", unit="seconds")
CANDIDATE_ITEM_ID: Final = _row("candidate_item_id", "candidate", "item", ids="item")
CANDIDATE_CATEGORY_ID: Final = _row("candidate_category_id", "candidate", "category", ids="category")
LABEL: Final = _row("label", "label", smallest=0, largest=1)


def features_of(group: Group) -> tuple[Feature, ...]:
    """The rows of a group."""
    return tuple(feature for feature in FEATURES.values() if feature.group == group)


HISTORY_FEATURES: Final = tuple(feature.name for feature in features_of("history"))
CANDIDATE_FEATURES: Final = tuple(feature.name for feature in features_of("candidate"))
REQUEST_FEATURES: Final = HISTORY_FEATURES + CANDIDATE_FEATURES
"""What a serving request carries; everything a model may look at."""

INDEX_OF: Final = {feature.name: feature.index for feature in FEATURES.values() if feature.ids}
"""Raw id feature -> the dense index feature that Transform derives from it."""
HISTORY_ITEM_INDEX: Final = INDEX_OF[HISTORY_ITEM_ID]
HISTORY_CATEGORY_INDEX: Final = INDEX_OF[HISTORY_CATEGORY_ID]
CANDIDATE_ITEM_INDEX: Final = INDEX_OF[CANDIDATE_ITEM_ID]
CANDIDATE_CATEGORY_INDEX: Final = INDEX_OF[CANDIDATE_CATEGORY_ID]

HISTORY_INPUTS: Final = HISTORY_FEATURES + tuple(INDEX_OF[name] for name in HISTORY_FEATURES if name in INDEX_OF)
"""Tensors of a history that a model is called with, raw and mapped."""
CANDIDATE_INPUTS: Final = CANDIDATE_FEATURES + tuple(INDEX_OF[name] for name in CANDIDATE_FEATURES if name in INDEX_OF)
"""Likewise of the candidates."""
