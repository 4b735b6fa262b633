"""What the Pusher is told of the model that it pushes, for its card."""

from __future__ import annotations

from typing import Any

from ctr.components.settings import IngestConfig, TrainingConfig
from ctr.models.model_config import ModelConfig
from ctr.models.samplers.registry import SAMPLERS
from ctr.models.samplers.sampler_config import SamplerConfig
from ctr.models.section import Section, dotted


class CardSettings(Section):
    """Nothing that the training does not depend on: another card is another version."""

    training: dict[str, Any]
    """Setting -> value, by dotted name; those of what was not chosen are left out."""
    zone: str
    """``ingest.dataset.time.zone``, in which times are shown."""

    @classmethod
    def of(
        cls, model: ModelConfig, sampler: SamplerConfig, training: TrainingConfig, ingest: IngestConfig
    ) -> CardSettings:
        """Of the sections of a run."""
        loss = training.loss
        unread = SAMPLERS[sampler.name].without_effect(sampler, loss)
        softmax = loss.name == "sampled_softmax"
        values = {
            "model": model.in_use(),
            "sampler": {key: value for key, value in sampler.in_use().items() if key not in unread},
            "training": training.model_dump(mode="json")
            | {"loss": loss.model_dump(mode="json", include=None if softmax else {"name"})},
            "history_length": ingest.history_length,
            "training_negatives": ingest.training_negatives.model_dump(mode="json"),
        }
        return cls(training=dict(dotted(values)), zone=ingest.dataset.time.zone)
