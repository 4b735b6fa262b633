"""The impression: one user context and the candidates shown in it.

:data:`FEATURES` is the one table of what an impression holds: ingest writes its rows, the schema bounds them, Transform
maps their ids, the models embed them, and a serving request carries those of a history and of the candidates. What
kinds of events, of negatives and of splits there are is said here alone, too. Importing this module loads neither
TensorFlow nor numpy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
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

Group = Literal["context", "context_input", "history", "candidate", "label"]
IdSpace = Literal["item", "category"]
EncodingKind = Literal["vocabulary", "hash", "buckets", "quantiles", "log"]
Fields: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
Compute: TypeAlias = "Callable[[Fields], npt.NDArray[np.int64]]"

NO_CODE: Final = 0
"""The code of padding, and of a category that is not there."""
UNKNOWN_CODE: Final = 1
FIRST_CODE: Final = 2
"""Of a vocabulary: the code of what is not in it, and that of its most frequent value."""
LOG_CODES: Final = 32
"""Codes of ``log``: 1 below 1, then one for each power of two, the last for all from 2^31 - 1 on."""


LOOKED_UP: Final = "lookup"
"""See :attr:`Feature.served`."""


class FeatureError(CtrError, ValueError):
    """A feature that cannot be registered or computed; the message names it and says why."""


@dataclass(frozen=True)
class Encoding:
    """How Transform makes codes of raw values: int64 of 0 to :attr:`largest`, 0 for padding and for no category.

    Attributes:
      kind: of categories ``vocabulary`` (1 unknown, 2 the most frequent in the train split, and on) or ``hash`` (1 and
        on); of numbers the place among ``buckets`` that are given, among ``quantiles`` of the train split, or by
        ``log`` floor(log2(1 + x)), from 1 on.
      size: most values of a vocabulary, buckets of a hash, number of quantiles.
      min_count: fewest times that a value of a vocabulary stands in the train split.
      boundaries: of ``buckets``, rising: a value on a boundary is above it.
    """

    kind: EncodingKind
    size: int = 0
    min_count: int = 1
    boundaries: tuple[float, ...] = ()

    @property
    def is_learnt(self) -> bool:
        """Whether the train split has a say in it."""
        return self.kind in ("vocabulary", "quantiles")

    @property
    def largest(self) -> int:
        """The largest code that there can be: K."""
        if self.kind == "vocabulary":
            return self.size + 1
        return {"buckets": len(self.boundaries) + 1, "log": LOG_CODES}.get(self.kind, self.size)


# Each is itself and no other, which a mapping in it does not keep from being a key.
@dataclass(frozen=True, eq=False)
class Feature:
    """A raw feature of an impression.

    Attributes:
      name: everywhere but in the JSON form of a request, see :attr:`key`.
      group: what has a value of it: the impression, each event of its history, or each of its candidates. A ``label``
        is of each candidate, too, and not in a request. Of the impression's own, models look at ``context_input``,
        which requests carry, and not at ``context``.
      source: the field of an event that ingest takes it from (``age`` is the time from the event to the impression), or
        what computes it from all fields, see :func:`register_feature`. None where ingest makes it in another way.
      smallest: value that it may have, padding aside.
      largest: likewise.
      dtype: of its values; ``float`` is float32, and has no bounds.
      ids: of what they are ids: Transform maps them to indices, and the models embed those.
      embedding: how the models embed the values themselves, if they do: by ``code``, a row for each of 0 to
        ``largest``, or by their ``log2``. A setting of the model named after a built-in feature can switch it off.
      width: of such an embedding; None takes the one of behaviours and ages.
      codes: names of its values, in the JSON form of a request.
      unit: part of its name there.
      declared: the name by which a log's description declares it, which a row for each value of a feature with several
        shares; empty for what is built in or of a plugin.
      encoding: how Transform makes codes of it, which alone are stored and embedded, by one table for all rows of a
        ``declared``.
      default: stands for a number that a request leaves out; of other rows 0, no category.
      separator: between the values of a declared feature with several, in a cell of a CSV.
      served: what serving puts in the place of a value, so that the feature is in no request: a constant, or, where it
        is :data:`LOOKED_UP`, what an export's own table has for the candidate.
    """

    name: str
    group: Group
    source: str | Compute | None = None
    smallest: int = 1
    largest: int = NO_BOUND
    dtype: Literal["int64", "float", "bytes"] = "int64"
    ids: IdSpace | None = None
    embedding: Literal["code", "log2"] | None = None
    width: int | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    unit: str = ""
    declared: str = ""
    encoding: Encoding | None = None
    default: float = 0
    separator: str = ""
    served: int | Literal["lookup"] | None = None

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
        """What Transform makes of ids, or of what has an :attr:`encoding`."""
        return f"{self.name}_code" if self.encoding else self.name.removesuffix("id") + "index"

    def of_events(self, fields: Fields) -> npt.NDArray[Any]:
        """Its values, of the fields of n events or candidates (of impressions where it is theirs), in :attr:`dtype`.

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
CONTEXT_FEATURES: Final[list[str]] = []
"""What a serving request carries of each event, of each candidate, and of itself."""
REQUEST_FEATURES: Final[list[str]] = []
"""All three."""
INDEX_OF: Final[dict[str, str]] = {}
"""Raw feature -> the dense index or code that Transform derives from it."""
HISTORY_INPUTS: Final[list[str]] = []
"""Tensors of a history that a model is called with, raw and mapped; of what has an encoding, the code alone."""
CANDIDATE_INPUTS: Final[list[str]] = []
"""Likewise of the candidates."""
CONTEXT_INPUTS: Final[list[str]] = []
"""Likewise of the impression itself."""
MODEL_INPUTS: Final[list[str]] = []
"""All three."""
STORED_FEATURES: Final[list[str]] = []
"""What transformed impressions hold: all rows of the table but those that have an encoding, and what is derived."""


def features_of(group: Group) -> tuple[Feature, ...]:
    """The rows of a group."""
    return tuple(feature for feature in FEATURES.values() if feature.group == group)


def _derive() -> None:
    # In place: other modules hold these lists by name.
    INDEX_OF.clear()
    INDEX_OF.update({each.name: each.index for each in FEATURES.values() if each.ids or each.encoding})
    raw = [feature.name for feature in FEATURES.values() if not feature.encoding]
    for names, inputs, group in (
        (HISTORY_FEATURES, HISTORY_INPUTS, "history"),
        (CANDIDATE_FEATURES, CANDIDATE_INPUTS, "candidate"),
        (CONTEXT_FEATURES, CONTEXT_INPUTS, "context_input"),
    ):
        rows = [feature for feature in FEATURES.values() if feature.group == group]
        names[:] = [feature.name for feature in rows if feature.served is None]
        inputs[:] = [row.name for row in rows if row.name in raw]
        inputs += [INDEX_OF[row.name] for row in rows if row.name in INDEX_OF]
    REQUEST_FEATURES[:] = HISTORY_FEATURES + CANDIDATE_FEATURES + CONTEXT_FEATURES
    MODEL_INPUTS[:] = HISTORY_INPUTS + CANDIDATE_INPUTS + CONTEXT_INPUTS
    STORED_FEATURES[:] = [*raw, *INDEX_OF.values()]


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
        taken = _taken()
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


def _taken() -> set[str]:
    """Names that no further row may have."""
    keys = {f"{feature.group}_{feature.key}" for group in ("history", "candidate") for feature in features_of(group)}
    return {*FEATURES, *INDEX_OF.values(), *keys}


def declare_features(rows: Iterable[Feature]) -> None:
    """Makes these the declared rows of the table, in the place of those that were.

    Every process that reads a configuration, or the settings of a step, calls it, and so do workers; see
    :data:`ctr.models.declared.Declared`.

    Args:
      rows: with a ``declared`` name each.

    Raises:
      FeatureError: if a name is taken by a built-in feature or a plugin's.
    """
    wanted = list(rows)
    if declared_features() == [as_plain(row) for row in wanted]:
        # Others hold the rows themselves.
        return
    before = [name for name, feature in FEATURES.items() if feature.declared]
    for name in before:
        del FEATURES[name]
    _derive()
    for row in wanted:
        if row.name in _taken() or row.index in _taken():
            raise FeatureError(f"feature {row.declared}: there is a feature {row.name} already; choose another name")
        FEATURES[row.name] = row
        _derive()


def declared_features() -> list[dict[str, Any]]:
    """The declared rows of this process, as JSON holds them: what the settings of a step, and an export, carry."""
    return [as_plain(feature) for feature in FEATURES.values() if feature.declared]


def as_plain(row: Feature) -> dict[str, Any]:
    """A declared row as JSON holds it, without what is the default; ``from_plain`` is the inverse."""
    default = Feature(row.name, row.group)
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    changed = {key: value for key, value in values.items() if value != getattr(default, key)}
    if row.encoding:
        encoding = asdict(row.encoding)
        changed["encoding"] = encoding | {"boundaries": list(row.encoding.boundaries)}
    return {"name": row.name, "group": row.group} | changed


def from_plain(values: Mapping[str, Any]) -> Feature:
    """A row of what :func:`as_plain` gave.

    Raises:
      FeatureError: if it is of another version.
    """
    try:
        encoding = values.get("encoding")
        made = encoding and Encoding(**{**encoding, "boundaries": tuple(encoding["boundaries"])})
        return Feature(**{**values, "encoding": made})
    except (TypeError, KeyError) as error:
        raise FeatureError(f"{dict(values)} is no feature of this version: {error}") from error


def feature_modules() -> list[str]:
    """The modules that features of plugins stand in; a process that knows no configuration has to import them."""
    return sorted({feature.source.__module__ for feature in FEATURES.values() if callable(feature.source)})


def _path(compute: Compute) -> str:
    return f"{compute.__module__}.{compute.__qualname__}"
