"""What the Evaluator is told."""

from __future__ import annotations

from ctr.components.scoring.metrics import METRICS
from ctr.components.settings import EvaluationConfig
from ctr.models.section import Section

_OF_BASELINES = {"evaluation": {"baseline_training_impressions"}}


class EvaluatorSettings(Section):
    """What a judgement depends on."""

    evaluation: EvaluationConfig
    judged_set: str
    """``ingest.judged_set``."""
    metrics: dict[str, str]
    """Metric -> dotted name of what computes it, whose code is part of the cache's key."""

    @classmethod
    def of(cls, evaluation: EvaluationConfig, judged_set: str) -> EvaluatorSettings:
        """Of the sections of a run, with all metrics that there are."""
        paths = {name: METRICS[name].path for name in METRICS}
        return cls(evaluation=evaluation, judged_set=judged_set, metrics=paths)

    def to_json(self) -> str:
        """Without what Baselines alone is told, so that a change of that is none here."""
        return self.model_dump_json(exclude=_OF_BASELINES)
