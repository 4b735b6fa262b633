"""The impression: one user context and the candidates shown in it.

:data:`FEATURES` is the one table of what an impression holds: ingest writes its rows, the schema bounds them, Transform
maps their ids, the models embed them, and a serving request carries those of a history and of the candidates. What
kinds of events, of negatives and of splits there are is said here alone, too. Importing this module loads neither
TensorFlow nor numpy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from ctr.models.errors import CtrError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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

NegativeSet = Literal["uniform", "same_category", "contemporaneous", "revisit"]
NEGATIVE_SETS: Final[tuple[NegativeSet, ...]] = get_args(NegativeSet)
"""Kinds of negatives: in this order they stand behind the positive of a stored training impression, and each has
evaluation impressions of its own. The gate uses the contemporaneous ones. An item of a revisit one stands in the
impression's own history, an item of any other kind never in the user's own log."""
UNIFORM: Final[NegativeSet] = "uniform"
SAME_CATEGORY: Final[NegativeSet] = "same_category"
CONTEMPORANEOUS: Final[NegativeSet] = "contemporaneous"
REVISIT: Final[NegativeSet] = "revisit"

SHOWN: Final = "shown"
"""``negative_set`` of evaluation impressions of a log of exposures: candidates are what was shown, none is drawn."""
EvaluationSet = Literal[NegativeSet, "shown"]
EVALUATION_SETS: Final[tuple[EvaluationSet, ...]] = get_args(EvaluationSet)
"""Kinds of evaluation impressions."""

MIXED: Final = "mixed"
"""``negative_set`` of train and validation impressions, whose negatives follow ``ingest.training_negatives``."""

# --- sizes ---------------------------------------------------------------------------------------------------------

MAX_HISTORY: Final = 1000
"""Most events of a history, stored or in a request."""
MAX_NEGATIVES: Final = 100
"""Most negatives of a kind of a stored impression."""
MAX_SHOWN: Final = 500
"""Most candidates of a stored impression that were really shown."""

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
Fields: TypeAlias = "Mapping[str, npt.NDArray[np.int64]]"
Compute: TypeAlias = "Callable[[Fields], npt.NDArray[np.int64]]"


class FeatureError(CtrError, ValueError):
    """A feature that cannot be registered or computed; the message names it and says why."""


# Each is itself and no other, which a mapping in it does not keep from being a key.
@dataclass(frozen=True, eq=False)
class Feature:
    """A raw feature of an impression.

    Attributes:
      name: everywhere but in the JSON form of a request, see :attr:`key`.
      group: what has a value of it: the impression, each event of its history, or each of its candidates. A ``label``
        is of each candidate, too, and not in a request.
      source: the field of an event that ingest takes it from (``age`` is the time from the event to the impression), or
        what computes it from all fields, see :func:`register_feature`. None where ingest makes it in another way.
      smallest: value that it may have, padding aside.
      largest: likewise.
      dtype: of its values.
      ids: of what they are ids: Transform maps them to indices, and the models embed those.
      embedding: how the models embed the values themselves, if they do: by ``code``, a row for each of 0 to
        ``largest``, or by their ``log2``. A setting of the model named after a built-in feature can switch it off.
      width: of such an embedding; None takes the one of behaviours and ages.
      codes: names of its values, in the JSON form of a request.
      unit: part of its name there.
    """

    name: str
    group: Group
    source: str | Compute | None = None
    smallest: int = 1
    largest: int = NO_BOUND
    dtype: Literal["int64", "bytes"] = "int64"
    ids: IdSpace | None = None
    embedding: Literal["code", "log2"] | None = None
    width: int | None = None
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

    def of_events(self, fields: Fields) -> npt.NDArray[np.int64]:
        """Its values, of the fields of n events or candidates.

        Raises:
          FeatureError: if what computes it gives something else than n whole numbers.
        """
        if not callable(self.source):
            return fields[str(self.source)]
        # Reading a configuration does without it.
        import numpy as np

        values, n = np.asarray(self.source(fields)), len(fields["item"])
        if values.shape != (n,) or values.dtype.kind not in "iub":
            raise FeatureError(
                f"feature {self.name}: {_path(self.source)} gave {values.dtype} of shape "
                f"{values.shape}; expected int64 of shape {(n,)}, a value for each of the events it was given"
            )
        return values.astype(np.int64)

    @property
    def range(self) -> str:
        """The values in words."""
        return f"{self.smallest} or more" if self.largest == NO_BOUND else f"{self.smallest} to {self.largest}"


FEATURES: Final[dict[str, Feature]] = {}
"""The table, in the order in which features are written. The first one of a group of several features is the item's id,
by which padding is known."""


HISTORY_FEATURES: Final[list[str]] = []
CANDIDATE_FEATURES: Final[list[str]] = []
REQUEST_FEATURES: Final[list[str]] = []
"""What a serving request carries; everything a model may look at."""
INDEX_OF: Final[dict[str, str]] = {}
"""Raw id feature -> the dense index feature that Transform derives from it."""
HISTORY_INPUTS: Final[list[str]] = []
"""Tensors of a history that a model is called with, raw and mapped."""
CANDIDATE_INPUTS: Final[list[str]] = []
"""Likewise of the candidates."""
MODEL_INPUTS: Final[list[str]] = []
"""Both."""


def features_of(group: Group) -> tuple[Feature, ...]:
    """The rows of a group."""
    return tuple(feature for feature in FEATURES.values() if feature.group == group)


def _derive() -> None:
    # In place: other modules hold these lists by name.
    INDEX_OF.clear()
    INDEX_OF.update({feature.name: feature.index for feature in FEATURES.values() if feature.ids})
    for names, inputs, group in (
        (HISTORY_FEATURES, HISTORY_INPUTS, "history"),
        (CANDIDATE_FEATURES, CANDIDATE_INPUTS, "candidate"),
    ):
        names[:] = [feature.name for feature in FEATURES.values() if feature.group == group]
        inputs[:] = [*names, *(INDEX_OF[name] for name in names if name in INDEX_OF)]
    REQUEST_FEATURES[:] = HISTORY_FEATURES + CANDIDATE_FEATURES
    MODEL_INPUTS[:] = HISTORY_INPUTS + CANDIDATE_INPUTS


def _row(name: str, group: Group, source: str | Compute | None = None, **attributes: Any) -> str:
    FEATURES[name] = Feature(name, group, source, **attributes)
    _derive()
    return name


USER_ID: Final = _row("user_id", "context", "user")
"""[1] int64: groups for GAUC; not a model input."""
TIMESTAMP: Final = _row("timestamp", "context", "timestamp")
"""[1] int64: the impression's time, Unix seconds."""
NEGATIVE_SET: Final = _row("negative_set", "context", dtype="bytes")
"""[1] bytes: how the negatives were drawn, :data:`MIXED` or one of :data:`NEGATIVE_SETS`."""
TARGET_BEHAVIOR: Final = _row("target_behavior", "context", "behavior", largest=len(BEHAVIORS), codes=BEHAVIORS)
"""[1] int64: the kind of the event that is the positive, see :data:`BEHAVIORS`; what metrics are sliced by, and nothing
that a model may look at."""
HISTORY_ITEM_ID: Final = _row("history_item_id", "history", "item", ids="item")
"""[<=L] int64: items of the user's last L events strictly before ``timestamp``, oldest first."""
HISTORY_CATEGORY_ID: Final = _row("history_category_id", "history", "category", ids="category")
"""[<=L] int64: their categories."""
HISTORY_BEHAVIOR: Final = _row(
    "history_behavior", "history", "behavior", largest=len(BEHAVIORS), embedding="code", codes=BEHAVIORS
)
"""[<=L] int64: their kinds, see :data:`BEHAVIORS`."""
HISTORY_AGE: Final = _row("history_age", "history", "age", embedding="log2", unit="seconds")
"""[<=L] int64: seconds from the event to ``timestamp``, at least 1. There is no upper end, since to the models all that
is older than some weeks is alike."""
CANDIDATE_ITEM_ID: Final = _row("candidate_item_id", "candidate", "item", ids="item")
"""[N] int64: the positive first in stored data, then the negatives; of a log of exposures, in the order shown."""
CANDIDATE_CATEGORY_ID: Final = _row("candidate_category_id", "candidate", "category", ids="category")
"""[N] int64: their categories."""
LABEL: Final = _row("label", "label", smallest=0, largest=1)
"""[N] int64: 1 for the event that happened, 0 for a negative; 1 for each that was clicked."""

# Transform adds an index of the same shape for each id: PADDING_INDEX, UNKNOWN_INDEX, or FIRST_KNOWN_INDEX plus the
# rank of the id in the training window's vocabulary.
HISTORY_ITEM_INDEX: Final = INDEX_OF[HISTORY_ITEM_ID]
HISTORY_CATEGORY_INDEX: Final = INDEX_OF[HISTORY_CATEGORY_ID]
CANDIDATE_ITEM_INDEX: Final = INDEX_OF[CANDIDATE_ITEM_ID]
CANDIDATE_CATEGORY_INDEX: Final = INDEX_OF[CANDIDATE_CATEGORY_ID]


# --- from outside the tree -----------------------------------------------------------------------------------------

_LARGEST_TABLE: Final = 10_000_000


def register_feature(
    name: str, group: Literal["history", "candidate"], *, smallest: int = 0, largest: int, width: int | None = None
) -> Callable[[Compute], Compute]:
    """Decorates what computes a feature of each event of a history, or of each candidate, from fields of the log.

    It is given [n] int64 arrays by name: ``item`` and ``category``; of events also ``behavior`` (codes of
    :data:`BEHAVIORS`), ``timestamp`` and ``age`` (seconds before the impression). It gives an int64 [n]. It must be
    registered by the module that it stands in, which every process that runs ingest imports.

    Args:
      name: small letters, digits and underscores; the feature is ``history_<name>`` or ``candidate_<name>``, and
        ``<name>`` of an event or a candidate in the JSON form of a request.
      group: ``history`` or ``candidate``.
      smallest: value that it may have, 0 or more.
      largest: likewise; the models have a row of an embedding for each value up to it.
      width: of that embedding; None takes the one of behaviours and ages.

    Raises:
      FeatureError: if the name is impossible or taken, or the range is.
    """

    def declare(compute: Compute) -> Compute:
        full = f"{group}_{name}"
        known = FEATURES.get(full)
        same = known is not None and callable(known.source) and _path(known.source) == _path(compute)
        taken = {*FEATURES, *INDEX_OF.values(), *(f"{group}_{feature.key}" for feature in features_of(group))}
        if not re.fullmatch("[a-z][a-z0-9_]{0,62}", name):
            raise FeatureError(
                f"feature {name!r}: give a name of small letters, digits and underscores, a letter first"
            )
        if full in taken and not same:
            raise FeatureError(f"feature {full} is there already; choose another name")
        if not 0 <= smallest <= largest <= _LARGEST_TABLE:
            raise FeatureError(
                f"feature {full}: values of {smallest} to {largest} cannot be had; give 0 <= smallest <= largest <= "
                f"{_LARGEST_TABLE}"
            )
        _row(full, group, compute, smallest=smallest, largest=largest, embedding="code", width=width)
        return compute

    return declare


def feature_modules() -> list[str]:
    """The modules that features of plugins stand in; a process that knows no configuration has to import them."""
    return sorted({feature.source.__module__ for feature in FEATURES.values() if callable(feature.source)})


def _path(compute: Compute) -> str:
    return f"{compute.__module__}.{compute.__qualname__}"
