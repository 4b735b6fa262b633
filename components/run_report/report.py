"""The numbers of a run as data: readable without TensorFlow or TFX."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from ctr.components.drift import Comparison
from ctr.components.files import open_file
from ctr.components.scoring.attributes import Slice
from ctr.components.scoring.baselines import BASELINES, BaselineResults
from ctr.components.scoring.evaluation import AS_LOGGED, BLESSED, MODEL, Evaluation, SliceResult
from ctr.components.scoring.metrics import METRICS
from ctr.components.skew import SkewFindings
from ctr.components.step_profile import StepProfile
from ctr.components.tuning import Tuning
from ctr.components.usage import Usage
from ctr.models.errors import CtrError
from ctr.models.section import Record

REPORT_JSON: Final = "report.json"
REPORT_MARKDOWN: Final = "report.md"
REPORT_PAGE: Final = "report.html"
"""Files in a ``RunReport`` artifact."""

NEW_ITEM: Final = str(Slice("item", "new"))
"""The slice of impressions whose positive does not stand in the user's stored history."""


class ReportUnreadable(CtrError):
    """A report that another version of this package wrote; the message names the file."""


class QuarantinedRow(Record):
    """A row of the log that was set aside, as the quarantine has it."""

    reason: str
    file: str
    line: int
    """1-based."""
    detail: str
    text: str
    """Escaped and cut, but still what a stranger wrote."""


class EpochOfRun(Record):
    """One epoch, as the Trainer's ``epochs.json`` has it; losses are in nats."""

    number: int
    train_loss: float
    validation_loss: float
    validation_auc: float
    seconds: float
    impressions_per_second: float
    auc_within: tuple[float, ...] = ()
    """Validation AUC after each part of the epoch but the last; empty for an epoch of one part."""


class Report(Record):
    """One run, from the rows of the log to the version that was pushed."""

    config: dict[str, Any]
    """The whole ``PipelineConfig`` of the run."""
    files: tuple[str, ...] = ()
    """Logs in the order read."""
    rows_read: int
    rows_kept: int
    rows_left_out: int = 0
    """Of kinds of event that the log's description leaves out."""
    quarantined: dict[str, int]
    """Reason -> rows of the log that were set aside."""
    quarantined_rows: tuple[QuarantinedRow, ...] = ()
    """Some of them of each reason."""
    users: int
    impressions: dict[str, int]
    """Split -> impressions."""
    dropped: dict[str, dict[str, int]]
    """Split -> reason -> events that became no impression; for eval, a reason may hold for one negative set alone. Of a
    log of exposures they are requests."""
    exposures: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Split -> what is counted of its requests, as ``examples.summary`` has it."""
    items_with_several_categories: int
    vocabulary: dict[str, int]
    """``items`` and ``categories`` that have an index of their own."""
    epochs: tuple[EpochOfRun, ...] = ()
    """Of the training, in order."""
    profile: StepProfile | None = None
    """Of a training step, where ``training.profile_steps`` asked for it."""
    tuning: Tuning | None = None
    """Of the search before training, where ``tuner.space`` asked for one; the model has its best values, whatever
    ``config`` says."""
    drift: tuple[Comparison, ...] = ()
    """How far the data are from those before them, and eval from train."""
    skew: SkewFindings | None = None
    """Of a model that answers alike in every way; None of a report of before it was noted."""
    baselines: BaselineResults
    evaluation: Evaluation
    pushed_version: int | None
    """None if nothing was pushed."""
    pushed_to: str | None

    @property
    def blessed(self) -> bool:
        """Whether the model passed the gate."""
        return self.evaluation.verdict.blessed

    @property
    def model(self) -> str:
        """The model's name in the registry."""
        return str(self.config["model"]["name"])

    @property
    def zone(self) -> ZoneInfo:
        """Of the log, in which its times are shown."""
        return ZoneInfo(self.config["ingest"]["dataset"]["time"]["zone"])

    def name_of(self, scorer: str) -> str:
        """A scorer in words."""
        of_models = {
            MODEL: self.model,
            BLESSED: "latest blessed model",
            AS_LOGGED: f"{self.model} at the logged position",
        }
        return {**of_models, **BASELINES}.get(scorer, scorer)

    def best_baseline(self, result: SliceResult, metric: str = "auc") -> str | None:
        """The baseline with the highest value in a slice; None where none has any."""
        values = {
            scorer: metrics[metric].value
            for scorer, metrics in result.metrics.items()
            if scorer not in (MODEL, BLESSED, AS_LOGGED) and metric in metrics
        }
        known = {scorer: value for scorer, value in values.items() if value is not None}
        return max(known, key=lambda scorer: known[scorer], default=None)


class StepCost(Usage):
    """What one step of a run took; near nothing where it came from the cache."""

    step: str
    cached: bool = False


class Lineage(Record):
    """Where a run's results come from; what is not known is None or empty, and is left out of the page."""

    run_id: str | None = None
    started: str | None = None
    """ISO 8601, with its offset."""
    data_digest: str | None = None
    """Of the log's content, with its kind before it: ``sha256:...``."""
    span: str | None = None
    code_version: str | None = None
    """Of this package, with the commit where there is one."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Name -> version, of what ran the steps."""
    artifacts: dict[str, str] = Field(default_factory=dict)
    """``node.output`` -> id in ML Metadata, or address."""


class Afterwards(Record):
    """What is known of a run only when its last step has ended."""

    pushed_earlier: bool = False
    """Whether the version is one that an earlier run had pushed."""
    steps: tuple[StepCost, ...] = ()
    """In the order in which they ran."""
    lineage: Lineage = Lineage()


def words_of(metric: str) -> str:
    """A metric in words; its name if nobody has registered it here."""
    return METRICS[metric].words if metric in tuple(METRICS) else metric


def set_words(negative_set: str) -> str:
    """A negative set in words."""
    return negative_set.replace("_", " ")


def read_report(uri: str) -> Report:
    """Reads a ``RunReport`` artifact.

    Raises:
      FileNotFoundError: if there is no report.
      ReportUnreadable: if its keys are those of another version.
    """
    path = os.path.join(uri, REPORT_JSON)
    with closing(open_file(path)) as file:
        content = file.read()
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReportUnreadable(
            f"{path}: written by another version of this package ({where}: {first['msg'].lower()}); "
            "run the pipeline again to have this run's report made anew"
        ) from error
