"""What a sweep measured, kept a line a trial so that a stopped sweep goes on where it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from pydantic import Field, ValidationError

from ctr.models.errors import DataError
from ctr.models.section import Record
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.pipeline.sweep.trials import Trial, Variant


class SetMetrics(Record):
    """A model on one negative set of the eval split."""

    pairs: int
    auc: float
    auc_new: float | None = None
    """AUC on the impressions whose positive is new to the user; None without any, or where a version that did not
    measure it made the result."""
    gauc: float | None
    """AUC of each user, averaged by pairs; None where no user has both labels."""
    log_loss: float
    """Nats a pair, of the probability as the model gives it."""


class TrialResult(Record):
    """One trained model."""

    key: str
    """Of the trial, its whole configuration, its data and its code: see :func:`trial_key`."""
    trial: Trial
    sets: dict[str, SetMetrics] = Field(default_factory=dict)
    """By negative set."""
    shuffled_auc: float | None = None
    """AUC on the judged set where each impression has the history of another user."""
    uncalibrated_log_loss: float | None = None
    """On the judged set, of the probability as training left it."""
    preparation_seconds: float = 0.0
    """The pass over the training split that a sampler needs, before the first epoch."""
    epochs: int = 0
    """Trained; the weights kept are those of the best of them."""
    impressions_per_second: float | None = None
    """In training, the median over the epochs after the first, which holds the tracing."""
    parameters: int | None = None
    embedding_parameters: int | None = None
    export_bytes: int | None = None
    """Of the SavedModel, vocabularies included."""
    p50_ms: float | None = None
    """Of scoring one impression with the longest history and 100 candidates by the SavedModel, in process."""
    seconds: float = 0.0
    """The whole trial, evaluation and export included."""
    failure: str | None = None
    """Why there is no model, where training failed."""


def trial_key(trial: Trial, config: PipelineConfig, examples: str, code: str) -> str:
    """Names what a result was measured on: equal keys mean equal settings on equal data, which an address tells, by the
    same code, of which there is a digest."""
    settled = trial.configure(config)
    sections = (settled.model, settled.sampler, settled.training, settled.ingest)
    text = "\n".join([examples, code, *(section.model_dump_json() for section in sections)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """Results as lines of JSON in a file that only grows.

    Args:
      path: the file; it need not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> dict[str, TrialResult]:
        """Key -> the newest result with it.

        Raises:
          DataError: for a line that is no result; the message names file and line.
        """
        return {result.key: result for result in self._lines()}

    def append(self, result: TrialResult) -> None:
        """Adds a result, on the disk when this returns."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(result.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[TrialResult]:
        if not os.path.exists(self.path):
            return
        with open(self.path, encoding="utf-8") as file:
            lines = file.readlines()
        for number, line in enumerate(lines, start=1):
            try:
                yield TrialResult.model_validate_json(line)
            except ValidationError as error:
                # A line that was cut off while it was written is that of a trial to be done again.
                if number == len(lines) and not line.endswith("\n"):
                    return
                raise DataError(f"{self.path}, line {number}: not a result of this version; delete the line") from error


class Spread(Record):
    """Mean and sample deviation over seeds; deviation is None for one seed."""

    mean: float
    deviation: float | None


class VariantSummary(Record):
    """The trials of a variant together."""

    variant: Variant
    seeds: int
    auc: dict[str, Spread]
    """By negative set."""
    auc_new: dict[str, Spread | None]
    """Likewise, on the impressions whose positive is new to the user."""
    shuffled_auc: Spread
    gauc: Spread | None
    """On the judged set, as is the log loss."""
    log_loss: Spread
    uncalibrated_log_loss: Spread | None
    impressions_per_second: Spread | None
    parameters: int | None
    embedding_parameters: int | None
    export_bytes: int | None
    p50_ms: float | None


def summarize(results: Iterable[TrialResult], judged_set: str) -> list[VariantSummary]:
    """Groups by variant, in the order of their first trials; failed trials do not count."""
    groups: dict[Variant, list[TrialResult]] = {}
    for result in results:
        if result.failure is None:
            groups.setdefault(result.trial.variant, []).append(result)
    return [
        VariantSummary(
            variant=variant,
            seeds=len(group),
            auc={name: spread([r.sets[name].auc for r in group]) for name in group[0].sets},
            auc_new={name: _optional([r.sets[name].auc_new for r in group]) for name in group[0].sets},
            shuffled_auc=spread([r.shuffled_auc for r in group if r.shuffled_auc is not None]),
            gauc=_optional([r.sets[judged_set].gauc for r in group]),
            log_loss=spread([r.sets[judged_set].log_loss for r in group]),
            uncalibrated_log_loss=_optional([r.uncalibrated_log_loss for r in group]),
            impressions_per_second=_optional([r.impressions_per_second for r in group]),
            parameters=group[0].parameters,
            embedding_parameters=group[0].embedding_parameters,
            export_bytes=group[0].export_bytes,
            p50_ms=float(np.median([r.p50_ms for r in group if r.p50_ms is not None])),
        )
        for variant, group in groups.items()
    ]


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample deviation (n - 1) of at least one value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), deviation=deviation)


def _optional(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return spread(known) if known else None
