"""Settings of the steps: each component's section of the configuration."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    NaiveDatetime,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from ctr.components.counting import CountsConfig
from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.quarantine import REASONS
from ctr.components.scoring.attributes import ATTRIBUTES, Slice, sliceable_features
from ctr.components.scoring.baselines import LOGISTIC_REGRESSION, BaselineName
from ctr.components.scoring.evaluation import WHOLE, BoundKind
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.models.impression import (
    CONTEMPORANEOUS,
    EVALUATION_SETS,
    FEATURES,
    MAX_HISTORY,
    MAX_NEGATIVES,
    NEGATIVE_SETS,
    PAGE_VIEW,
    SHOWN,
    BehaviorName,
    EvaluationSet,
    Feature,
)
from ctr.models.negatives import StoredNegatives
from ctr.models.samplers.sampler_config import LossConfig
from ctr.models.section import Section
from ctr.models.validation import instead_of

SETTINGS_KEY: Final = "settings"
"""The one parameter by which a step gets its settings: JSON of a section that holds what it depends on, and no more."""

_SPAN_DAYS: Final = 9
"""Of a window that counts back from a span, where nothing else is said: as many as the public log has."""
WINDOW_SETTINGS = ("ingest.window_start", "ingest.window_end", "ingest.window_days")

SEARCHED_OF_TRAINING: Final = ("training.learning_rate", "training.batch_size")
"""Settings that a search may vary, beside those of the model: no step but the Trainer has to know them."""

_Value = TypeVar("_Value")
OrAuto = Annotated[_Value | None, BeforeValidator(lambda value: None if value == "auto" else value)]
Share = Annotated[float, Field(ge=0, le=1)]


class PlausibilityConfig(Section):
    """Bounds that every behaviour log meets, and one with swapped or constant columns does not.

    Items and categories are those of the train split. A bound of null is not looked at.
    """

    min_events: Annotated[int, Field(ge=0)] = 1000
    """Logs with fewer events are not judged: their shares mean nothing."""
    min_users: Annotated[int, Field(ge=1)] | None = 2
    min_items: Annotated[int, Field(ge=1)] | None = 2
    min_categories: Annotated[int, Field(ge=1)] | None = 2
    min_events_per_user: Annotated[float, Field(ge=1)] | None = 2.0
    """Mean. Items in the place of users have few; users without a history teach nothing."""
    max_events_per_user: Annotated[float, Field(ge=1)] | None = 10_000.0
    """Mean."""
    max_items_with_several_categories: Share | None = 0.05
    """Share of them among the items with two events or more. An item has one category; a user as an item has many."""
    max_categories_per_item: Annotated[float, Field(gt=0)] | None = 0.9
    """Number of categories over number of items."""
    min_pv_share: Share | None = 0.3
    """Of all events."""
    max_pv_share: Share | None = 0.999
    """A log of views alone is refused, as the other kinds may have been lost: null takes it."""
    max_cart_share: Share | None = 0.4
    max_fav_share: Share | None = 0.4
    max_buy_share: Share | None = 0.4
    max_second_share: Share | None = 0.1
    """Of the second with the most events. Constant times, or days, have large ones."""


class IngestConfig(Section):
    """From a behaviour log to impressions (``components/impression_gen``)."""

    window_start: OrAuto[NaiveDatetime] = None
    """First second kept, local to the log's zone; null, or ``auto``, is the one of the log's description."""
    window_end: OrAuto[NaiveDatetime] = None
    """Last second kept, likewise."""
    window_days: OrAuto[Annotated[int, Field(ge=1, le=36_500)]] = None
    """Instead of both, for a ``data`` path with {YYYY}, {MM} and {DD}: so many days of the log's zone, of which the
    last is the span's. Null, or ``auto``, is 9 for such a path where no start and no end is given and the log's
    description has the public file's window."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the window's events between the end of train and the start of eval, by time."""
    eval_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the window's events at its end, by time, that the gate judges on."""
    history_length: Annotated[int, Field(ge=1, le=MAX_HISTORY)] = 50
    """L: events of history kept, the latest ones."""
    min_history: Annotated[int, Field(ge=0)] = 1
    """An event with fewer earlier events of its user becomes no impression."""
    behaviors_as_targets: tuple[BehaviorName, ...] | None = None
    """Kinds of event that become positives; histories hold all kinds. Null: those that the log's description says."""
    targets: Literal["each", "last"] = "each"
    """``last``: only each user's last event of all, and the shares of validation and eval are of users, by the time of
    that event."""
    targets_per_user: Annotated[int, Field(ge=1)] | None = None
    """At most so many impressions of a user in each split, its latest; null keeps all."""
    training_negatives: StoredNegatives = StoredNegatives()
    """Drawn beside the positive; beside what was shown, of a log of exposures, where all are 0 unless set."""
    evaluation_negatives: Annotated[int, Field(ge=1, le=MAX_NEGATIVES)] = 1
    """Negatives of an evaluation impression, in each of the sets."""
    evaluation_sets: tuple[EvaluationSet, ...] = NEGATIVE_SETS
    """The gate judges on contemporaneous negatives; without that set, on the first one named here. Of a log of
    exposures it is ``shown`` alone unless set, and the gate judges on that."""
    flip_labels: bool = False
    """An impression has one candidate: its positive or, with probability 1/2, its negative."""
    candidate_in_history: bool = False
    """A leak of MIMN's protocol, for comparison alone: the candidate stands as the last event of its own history."""
    catalogue_from: Literal["train", "all"] = "train"
    """``all`` is a leak of MIMN's protocol: items known from the whole log, as vocabulary and to draw negatives."""
    contemporaneous_events: Annotated[int, Field(ge=1, le=100_000)] = 600
    """A contemporaneous negative is drawn among so many events after the impression."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 2017
    user_partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Files of each split, and units of parallel work. One partition's events must fit in a worker's memory."""
    block_megabytes: Annotated[int, Field(ge=1, le=1024)] = 32
    """Plain CSV and JSON lines are split into byte ranges of this size, read in parallel."""
    max_quarantined_share: Share = 0.01
    """Share of the rows that may go to quarantine; with more the run stops. 1 takes any."""
    max_quarantined_share_by_reason: dict[str, Share] = Field(default_factory=dict)
    """Reason -> share. A reason named here has a bound of its own and does not count for the one above, e.g.
    ``{outside_window: 1}`` where the window is a part of the log on purpose."""
    plausibility: PlausibilityConfig = PlausibilityConfig()
    counts: CountsConfig = CountsConfig()
    """Features of candidates that count events, e.g. ``{item: [3600, 86400, all], category: [86400, all]}``."""
    dataset: DatasetConfig = PUBLIC_LOG
    """The form of the log; ``--dataset FILE`` reads it."""

    @field_validator("max_quarantined_share_by_reason")
    @classmethod
    def _known_reasons(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(value) - set(REASONS)):
            raise ValueError(f"{unknown[0]} is no reason; there are {', '.join(REASONS)}")
        return value

    @field_validator("behaviors_as_targets")
    @classmethod
    def _some_target(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("name at least one behaviour, each once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _of_exposures(cls, values: Any) -> Any:
        """Nothing is drawn beside what was shown, unless it is asked for."""
        if not isinstance(values, dict) or not _is_of_exposures(values.get("dataset")):
            return values
        drawn = values.get("training_negatives", {})
        if isinstance(drawn, dict):
            drawn = {**dict.fromkeys(NEGATIVE_SETS, 0), **drawn}
        return {"evaluation_sets": (SHOWN,), **values, "training_negatives": drawn}

    def _check_exposures(self) -> None:
        if self.dataset.shown is None:
            if SHOWN in self.evaluation_sets:
                raise ValueError(
                    f"evaluation_sets: {SHOWN} is of a log of exposures; set ingest.dataset.columns.clicked"
                )
            if self.training_negatives.total == 0:
                raise ValueError(
                    "training_negatives: at least one kind must be above 0, or there is nothing to tell the positive "
                    "from"
                )
            return
        if SHOWN not in self.evaluation_sets:
            raise ValueError(f"evaluation_sets: of a log of exposures, name {SHOWN}, which the gate judges on")
        default = type(self).model_fields
        for name in ("targets", "behaviors_as_targets", "flip_labels", "candidate_in_history"):
            if getattr(self, name) != default[name].default:
                raise ValueError(
                    f"{name} is of logs without exposures: there the request is the impression; leave it out"
                )

    @model_validator(mode="after")
    def _consistent(self) -> IngestConfig:
        self._check_exposures()
        if self.window_days is not None and (self.window_start or self.window_end):
            raise ValueError("window_days counts back from a span's day: leave window_start and window_end null (auto)")
        start, end = self.bounds
        if end <= start:
            raise ValueError(f"window_end must be after window_start; they are {end} and {start}")
        if self.validation_share + self.eval_share >= 1:
            raise ValueError("validation_share + eval_share must leave a part to train on (be below 1)")
        if not self.evaluation_sets or len(set(self.evaluation_sets)) != len(self.evaluation_sets):
            raise ValueError("evaluation_sets must name at least one set, each once")
        if self.flip_labels and (self.training_negatives.total != 1 or self.evaluation_negatives != 1):
            raise ValueError("flip_labels needs 1 negative: training_negatives of 1 in all, evaluation_negatives of 1")
        if self.min_history > self.history_length:
            raise ValueError("min_history cannot exceed history_length")
        if self.candidate_in_history and self.dataset.features:
            raise ValueError("candidate_in_history: this leak is of logs without features; leave dataset.features out")
        self._check_counts()
        return self

    def _check_counts(self) -> None:
        # A click on what was shown is a page view.
        kinds = (*self.dataset.kinds, *((PAGE_VIEW,) if self.dataset.shown else ()))
        if unknown := sorted(set(self.counts.behaviors or ()) - set(kinds)):
            raise ValueError(
                f"counts.behaviors: no event becomes {unknown[0]}; there are {', '.join(dict.fromkeys(kinds))}"
            )
        if taken := [count.name for count in self.counts.counts if count.name in self.dataset.features]:
            raise ValueError(f"dataset.features.{taken[0]}: counts has a feature of that name; choose another name")

    @property
    def exposures(self) -> int:
        """Most candidates of an impression that were shown; 0 where nothing says what was."""
        return self.dataset.shown.max_candidates if self.dataset.shown else 0

    @property
    def judged_set(self) -> EvaluationSet:
        """The negative set that a model is judged on."""
        if self.exposures:
            return SHOWN
        return CONTEMPORANEOUS if CONTEMPORANEOUS in self.evaluation_sets else self.evaluation_sets[0]

    @property
    def rows(self) -> list[Feature]:
        """What these settings add to the table of features."""
        return [*self.dataset.rows, *self.counts.rows]

    @property
    def stored(self) -> StoredImpressions:
        """The part that training depends on."""
        return StoredImpressions(**{name: getattr(self, name) for name in StoredImpressions.model_fields})

    @property
    def leaks(self) -> tuple[str, ...]:
        """Settings under which the model is told what it will not know in production."""
        leaks = {"candidate_in_history": self.candidate_in_history, "catalogue_from": self.catalogue_from == "all"}
        return tuple(f"ingest.{name}" for name, present in leaks.items() if present)

    @property
    def bounds(self) -> tuple[dt.datetime, dt.datetime]:
        """First and last second kept, local to the log's zone, of a window that counts back from no span."""
        start, end = self.dataset.bounds
        return self.window_start or start, self.window_end or end

    @property
    def target_kinds(self) -> tuple[BehaviorName, ...]:
        """Kinds of event that become positives."""
        return self.behaviors_as_targets or self.dataset.targets or self.dataset.kinds

    @property
    def window(self) -> tuple[int, int]:
        """First and last Unix second kept, likewise."""
        start, end = (int(bound.replace(tzinfo=self.dataset.zone).timestamp()) for bound in self.bounds)
        return start, end

    def of_path(self, data: str) -> IngestConfig:
        """With ``window_days`` where, and only where, the window of that path's logs counts back from their span's day.

        Raises:
          ValueError: if it is to count back, and the path has no day.
        """
        dated = "{YYYY}" in data
        if self.window_days is not None and not dated:
            raise ValueError(
                f"ingest.window_days: {data} has no {{YYYY}}, {{MM}} and {{DD}} to count back from; give such a path, "
                "or ingest.window_start and ingest.window_end in its place"
            )
        said = self.window_days or self.window_start or self.window_end or self.dataset.window != PUBLIC_LOG.window
        if not dated or said:
            return self
        return self.model_copy(update={"window_days": _SPAN_DAYS})

    def of_span(self, span: int) -> IngestConfig:
        """With the window of one span, in days since 1970, where :meth:`of_path` says that it counts back from it."""
        if self.window_days is None:
            return self
        after = dt.datetime(1970, 1, 1) + dt.timedelta(days=span + 1)
        start, end = after - dt.timedelta(days=self.window_days), after - dt.timedelta(seconds=1)
        return self.model_copy(update={"window_days": None, "window_start": start, "window_end": end})


def _is_of_exposures(dataset: Any) -> bool:
    """Of a description before it is read, or as it was."""
    columns = dataset.get("columns") if isinstance(dataset, dict) else getattr(dataset, "columns", None)
    clicked = columns.get("clicked") if isinstance(columns, dict) else getattr(columns, "clicked", None)
    return clicked is not None


class StoredImpressions(Section):
    """What training has to know of the impressions that ingest stored."""

    history_length: int
    """L."""
    training_negatives: StoredNegatives
    """Columns behind the positive."""
    judged_set: EvaluationSet
    """What a model is judged on."""
    evaluation_negatives: int
    """Negatives a positive in evaluation."""
    flip_labels: bool
    """An impression has one candidate, and it may be a negative."""
    exposures: int = 0
    """Most candidates of an impression that were shown, in any order of labels; 0 where the positive stands first."""

    @property
    def candidates(self) -> int:
        """N, of impressions that are trained on; the most where they differ."""
        if self.exposures:
            return self.exposures + self.training_negatives.total
        return 1 if self.flip_labels else 1 + self.training_negatives.total


class DriftBounds(Section):
    """How far a distribution may be from another one, from 0, alike, to 1; null for no bound."""

    report: Share | None = None
    """From here on it is noted as drift."""
    stop: Share | None = None
    """From here on the run stops."""

    @model_validator(mode="after")
    def _in_order(self) -> DriftBounds:
        if self.report is not None and self.stop is not None and self.stop < self.report:
            raise ValueError(f"stop ({self.stop:g}) must not be below report ({self.report:g})")
        return self


class HourBounds(DriftBounds):
    """Of the Jensen-Shannon divergence (base 2) of events by hour of the day, each the mean of its days. Between parts
    of a real log it was up to 0.02, and 0.08 and more where one's clock was moved by three hours."""

    report: Share | None = 0.03
    stop: Share | None = 0.06


class BehaviorBounds(DriftBounds):
    """Of the largest fall of a behaviour's share of the events: 0.5 where one has half of it, 1 where one is gone.
    Between parts of a real log it was up to 0.15."""

    report: Share | None = 0.3
    stop: Share | None = 0.7


class DriftConfig(Section):
    """Each split against the same split of the data that were approved last."""

    hour: HourBounds = HourBounds()
    behavior: BehaviorBounds = BehaviorBounds()
    history_age: DriftBounds = DriftBounds(report=0.1)
    """Of the largest distance of two cumulative distributions (Kolmogorov-Smirnov), as TFDV's deciles give them."""
    history_length: DriftBounds = DriftBounds(report=0.1)
    """Likewise."""
    declared: DriftBounds = DriftBounds(report=0.1)
    """Likewise, of each declared feature; categories in the order of their numbers."""


class SkewConfig(DriftConfig):
    """Eval against train. Histories grow with the time in the window, so that those of eval are longer."""

    history_age: DriftBounds = DriftBounds(report=0.25)
    history_length: DriftBounds = DriftBounds(report=0.5)
    declared: DriftBounds = DriftBounds(report=0.25)


class StatisticsConfig(Section):
    """What the schema is held against (TFX's StatisticsGen and ExampleValidator), and data against other data."""

    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the users (of the shards of ``ingest.user_partitions``) whose impressions statistics are of."""
    drift: DriftConfig = DriftConfig()
    skew: SkewConfig = SkewConfig()
    min_events: Annotated[int, Field(ge=1)] = 10_000
    """Hours and histories are compared of splits with so many events: those of some hundred users are not a shop's."""


class ServedSkewConfig(Section):
    """What a server was asked, against what the model is trained on: each feature of a request, by the largest distance
    of the cumulative distributions, of a share, or of the share of unknown ids."""

    request_log: str = ""
    """Folder of a served model in the log of ``serve --request-log``; empty: nothing is compared."""
    report: Share | None = 0.1
    """From here on it is noted."""
    stop: Share | None = None
    """From here on the run stops before the push."""
    min_requests: Annotated[int, Field(ge=1)] = 1000
    """Of fewer, nothing is compared."""
    max_requests: Annotated[int, Field(ge=1)] = 20_000
    """The newest are looked at; and of the train split no more."""

    @model_validator(mode="after")
    def _in_order(self) -> ServedSkewConfig:
        if self.report is not None and self.stop is not None and self.stop < self.report:
            raise ValueError(f"stop ({self.stop:g}) must not be below report ({self.report:g})")
        return self


class TransformConfig(Section):
    """Ids to dense ids (``components/transform``)."""

    min_item_count: Annotated[int, Field(ge=1)] = 2
    """Items with fewer events in the train split are unknown."""
    min_category_count: Annotated[int, Field(ge=1)] = 2
    max_items: Annotated[int, Field(ge=1)] | None = None
    """Keep only so many items, the most frequent; null keeps all above the threshold."""


BASE_BATCH_SIZE: Final = 256
"""What ``training.learning_rate`` is meant for where it is scaled."""


class TrainingConfig(Section):
    """How it is trained (``components/trainer``)."""

    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Impressions of one step over all replicas together."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Of the computation; weights, moments and logits are float32 always."""
    loss: LossConfig = LossConfig()
    calibration: Literal["platt", "intercept", "none"] = "platt"
    """Fitted on the validation split after training, at the base rate of evaluation: scale and offset of the logit, the
    offset alone, or nothing."""
    choose_epoch_on: Literal["validation", "eval"] = "validation"
    """``eval`` is a leak of MIMN's protocol: the epoch is chosen on what the model is then judged on."""
    early_stopping_patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a better validation AUC before training stops; the best epoch's weights are kept."""
    max_validation_impressions: Annotated[int, Field(ge=1)] = 200_000
    shuffle_buffer: Annotated[int, Field(ge=1)] = 100_000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    cpu_replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Without a GPU: logical CPU devices to mirror over. With GPUs, all of them are used and this is ignored."""
    profile_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Steps that are traced for TensorBoard, and whose parts are timed, before training; 0 leaves it out, and so do
    several workers."""
    auc_fractions: Annotated[int, Field(ge=1, le=100)] = 1
    """Parts of an epoch after each of which the validation AUC is measured; the epoch's end still chooses."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether XLA compiles the training step; ``auto`` does where a GPU trains, and what cannot be compiled trains
    without. On a CPU a compiled step takes several times as long."""
    tf32: bool = True
    """Whether a GPU may round the factors of float32 products to 10 bits of mantissa (TensorFloat-32)."""
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How ``learning_rate`` goes with ``batch_size``: not at all, or it is that of a batch of 256 and grows in
    proportion (Goyal et al. 2017, arXiv 1706.02677) or with the square root (Krizhevsky 2014, arXiv 1404.5997)."""
    accumulate_steps: Annotated[int, Field(ge=1, le=64)] = 1
    """Parts that ``batch_size`` is passed through the model in, one after the other, before their gradients make one
    step: a batch whose activations do not fit in memory at once."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = None
    """Save within an epoch, too, whenever so many minutes are over. Null: after each epoch."""
    shard_tables: bool = False
    """Each device of one machine holds a part of the rows of the item tables, and of their moments, rather than all of
    them (see "Large tables" in docs/training.md)."""

    @property
    def part_size(self) -> int:
        """Impressions that models and samplers see at once, over all replicas together."""
        return self.batch_size // self.accumulate_steps

    @property
    def step_size(self) -> float:
        """The optimizer's learning rate."""
        batches = self.batch_size / BASE_BATCH_SIZE
        return (
            self.learning_rate
            * {"none": 1.0, "linear": batches, "sqrt": math.sqrt(batches)}[self.learning_rate_scaling]
        )

    @model_validator(mode="after")
    def _can_be_compiled(self) -> TrainingConfig:
        if self.shard_tables and self.compile == "on":
            raise ValueError("a step with shard_tables cannot be compiled; set compile to auto or off")
        return self

    @model_validator(mode="after")
    def _whole_parts(self) -> TrainingConfig:
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                f"batch_size is {self.batch_size}, which must be a multiple of accumulate_steps, "
                f"{self.accumulate_steps}"
            )
        return self


class SearchRange(Section):
    """Numbers between two, whole ones between whole ones."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether each power of ten is as likely as another."""
    step: Annotated[int, Field(ge=1)] | None = None
    """Of whole numbers: from low on, what is added to come to the next value, or with ``log`` multiplied by, as in
    Keras Tuner."""

    @model_validator(mode="after")
    def _rises(self) -> SearchRange:
        if not self.low < self.high or (self.log and self.low <= 0):
            above = " and above 0" if self.log else ""
            raise ValueError(f"low must be below high{above}; they are {self.low} and {self.high}")
        if self.step is not None and not self.whole:
            raise ValueError(f"step is of whole numbers; low and high are {self.low} and {self.high}")
        if self.log and self.step == 1:
            raise ValueError("step is what a value is multiplied by, since log is true; it must be above 1")
        return self

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def corners(self) -> tuple[int | float, ...]:
        """Both ends, and what lies beside the lower one: where it and low are multiples of a number, so are all."""
        if not self.whole:
            return self.low, self.high
        if self.log and self.step is not None:
            values = [self.low]
            while values[-1] * self.step <= self.high:
                values.append(values[-1] * self.step)
            return tuple(values)
        step = self.step or 1
        last = self.low + (self.high - self.low) // step * step
        return tuple(sorted({self.low, min(self.low + step, last), last}))


class TunerConfig(Section):
    """A search for settings before training; off where there is no ``space``."""

    space: dict[str, SearchRange | Annotated[tuple[JsonValue, ...], Field(min_length=2)]] = Field(default_factory=dict)
    """Setting, by its dotted name -> a list of values, or ``{low: 1.0e-4, high: 1.0e-2, log: true}``; whole numbers may
    have a ``step``. Settings below ``model`` but its name, ``training.learning_rate`` and ``training.batch_size`` can
    be searched."""
    algorithm: Literal["random", "bayesian"] = "random"
    """Keras Tuner's: values drawn at random, or by a Gaussian process over those that were tried."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 10
    """Trainings of the search."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Of each of them; such models are best after about one."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Of the values."""

    @field_validator("space")
    @classmethod
    def _searchable(cls, space: dict[str, Any]) -> dict[str, Any]:
        for name in space:
            if name == "model.name" or not name.startswith(("model.", *SEARCHED_OF_TRAINING)):
                raise ValueError(
                    f"{name} cannot be searched; there are the settings below model but model.name, and "
                    f"{', '.join(SEARCHED_OF_TRAINING)}"
                )
        return space

    def corners(self) -> Iterator[dict[str, Any]]:
        """Setting -> value: each two settings with all pairs of their values, of a range its corners, beside the first
        value of the others."""
        of = {
            name: values.corners() if isinstance(values, SearchRange) else values for name, values in self.space.items()
        }
        first = {name: values[0] for name, values in of.items()}
        for names in itertools.combinations(of, 2 if len(of) > 1 else 1):
            for values in itertools.product(*(of[name] for name in names)):
                yield {**first, **dict(zip(names, values, strict=True))}


Bound = Annotated[float, Field(allow_inf_nan=False)]
Drop = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Bounds(Section):
    """What a metric has to keep to; null for no such bound."""

    min: Bound | None = None
    max: Bound | None = None
    max_drop: Drop | None = None
    """How much worse than the latest blessed model's a candidate's value may be on the same impressions."""
    min_margin: Bound | None = None
    """How much better than a trivial baseline's it must be on the same impressions."""
    margin_over: Literal["best", BaselineName] = LOGISTIC_REGRESSION
    """That baseline; ``best`` is the best one of that negative set and slice."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = 0.95
    """Of ``max_drop`` and ``min_margin``: the worse end of the one-sided interval of the difference must keep to them.
    Null: the difference itself."""

    def given(self) -> Iterator[tuple[BoundKind, float]]:
        """Those that are not null."""
        for kind in get_args(BoundKind):
            if (value := getattr(self, kind)) is not None:
                yield kind, value


class AucBounds(Bounds):
    """Those of the AUC, without which there is no gate."""

    min: Annotated[float, Field(gt=0, lt=1)]
    """Required: a gate without a bound would let everything through."""
    max: Bound | None = 0.99
    """Above it, a leak or swapped columns are likelier than such a model."""
    max_drop: Drop | None = 0.005
    min_margin: Bound | None = 0.0
    """By default a model has to be better than logistic regression."""


class SliceBounds(NamedTuple):
    """The bounds of a metric on a slice of a negative set."""

    metric: str
    negative_set: str
    """Or ``overall``."""
    slice: str
    """``ATTRIBUTE:VALUE``, or :data:`WHOLE`."""
    bounds: Bounds

    @classmethod
    def parse(cls, key: str, bounds: Bounds, judged_set: str) -> SliceBounds:
        """Of ``METRIC[@SET][/ATTRIBUTE:VALUE]``; without a set, of the judged one."""
        where, _, slice_ = key.partition("/")
        metric, _, negative_set = where.partition("@")
        return cls(metric, negative_set or judged_set, slice_ or WHOLE, bounds)


class BoundsByMetric(Section):
    """By ``METRIC[@SET][/ATTRIBUTE:VALUE]``: on the negative set that a model is judged on, another one or overall; on
    all of its impressions, or on a slice of them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Bounds]

    auc: AucBounds

    @model_validator(mode="after")
    def _possible(self) -> BoundsByMetric:
        for key, bounds in self:
            name, of, slice_, _ = SliceBounds.parse(key, bounds, OVERALL)
            if name not in tuple(METRICS):
                raise ValueError(f"{key}: there is no metric {name}; {instead_of(name, METRICS)}")
            if of not in SETS:
                raise ValueError(f"{key}: there is no negative set {of}; {instead_of(of, SETS)}")
            if "/" in key:
                _check_slice(key, Slice.parse(slice_))
            metric = METRICS[name]
            for bound, value in bounds.given():
                if bound == "max_drop" and metric.better is None:
                    raise ValueError(f"{key}.max_drop: neither more nor less of it is better; set min or max")
                if bound == "min_margin" and metric.of != "order":
                    raise ValueError(f"{key}.min_margin: a baseline's scores are no probabilities and have no {name}")
                if bound in ("min", "max") and not metric.lowest <= value <= metric.highest:
                    raise ValueError(
                        f"{key}.{bound}: {value:g} is out of reach, {name} lies between {metric.lowest:g} and "
                        f"{metric.highest:g}"
                    )
            if bounds.min is not None and bounds.max is not None and bounds.max <= bounds.min:
                raise ValueError(f"{key}: max {bounds.max:g} must be above min {bounds.min:g}, or null")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With each metric that there is now as a property."""
        own = handler.resolve_ref_schema(handler(schema))
        own["properties"] = {**dict.fromkeys(METRICS, own["additionalProperties"]), **own["properties"]}
        return own

    def each(self, judged_set: str) -> Iterator[SliceBounds]:
        """All of them, the AUC's first; those without a set are of the judged one."""
        return (SliceBounds.parse(key, bounds, judged_set) for key, bounds in self)


SETS: Final = (OVERALL, *EVALUATION_SETS)
"""What bounds may be for."""


def _check_slice(key: str, slice_: Slice) -> None:
    name, value = slice_
    if name in ATTRIBUTES:
        if value not in ATTRIBUTES[name]:
            raise ValueError(f"{key}: {name} is never {value!r}; {instead_of(value, ATTRIBUTES[name])}")
    elif name in sliceable_features():
        feature = FEATURES[name]
        if not value.isdecimal() or not feature.smallest <= int(value) <= feature.largest:
            raise ValueError(f"{key}: {name} is never {value!r}; its values are whole numbers, {feature.range}")
    else:
        known = (*ATTRIBUTES, *sliceable_features())
        raise ValueError(f"{key}: there is no attribute {name!r} to slice by; {instead_of(name, known)}")


_MOVED = {"min_auc": "bounds.auc.min", "max_auc": "bounds.auc.max", "max_auc_drop": "bounds.auc.max_drop"}


class EvaluationConfig(Section):
    """The gate (``components/evaluator``): judged on one set of negatives of the eval split, ``ingest.judged_set``."""

    bounds: BoundsByMetric
    """METRIC[@SET][/ATTRIBUTE:VALUE] -> ``{min, max, max_drop, min_margin}``, e.g. ``{auc: {min: 0.8}, log_loss:
    {max_drop: 0.01}}``; ``auc@uniform``, ``auc@overall`` and ``auc/item:new`` are the AUC elsewhere. ``auc.min`` is
    required."""
    slices: tuple[str, ...] = ()
    """Features to slice by, beside what impressions are always sliced by: one that has a value an impression, or one a
    candidate, which is then the target's."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Of the intervals in the report, two-sided. Those that bounds decide by have a ``confidence`` of their own."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Of the users, for the intervals."""
    compare_with_blessed: bool = True
    """False judges without any ``max_drop``: the way through when the blessed model can no longer read the data."""
    baseline_training_impressions: Annotated[int, Field(ge=100)] = 100_000
    """Train impressions that the logistic-regression baseline is fitted on, at most."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for old in _MOVED.keys() & values:
                raise ValueError(f"{old} is named evaluation.{_MOVED[old]} now")
        return values

    @field_validator("slices")
    @classmethod
    def _sliceable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = sliceable_features()
        if unknown := next((name for name in value if name not in known), None):
            why = "has several values an impression" if unknown in FEATURES else "is no feature"
            raise ValueError(f"{unknown} {why}; {instead_of(unknown, known)}")
        if len(set(value)) != len(value):
            raise ValueError("name each feature once")
        return value

    @model_validator(mode="after")
    def _slices_are_made(self) -> EvaluationConfig:
        for key, _ in self.bounds:
            name = Slice.parse(key.partition("/")[2]).attribute
            if name and name not in (*ATTRIBUTES, *self.slices):
                raise ValueError(f"bounds.{key}: {name} is a feature; name it in evaluation.slices, too")
        return self
