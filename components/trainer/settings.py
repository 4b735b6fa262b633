"""What a training is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ctr.components.settings import IngestConfig, StoredImpressions, TrainingConfig, TunerConfig
from ctr.components.tuning import with_values
from ctr.models.declared import Declared
from ctr.models.impression import declared_features
from ctr.models.model_config import ModelConfig
from ctr.models.registration import Plugin
from ctr.models.registry import code_of
from ctr.models.samplers.sampler_config import SamplerConfig
from ctr.models.section import Section

CATALOGUE_KEY: Final = "catalogue"
RAW_EXAMPLES_KEY: Final = "raw_examples"
"""Inputs that TFX's Trainer has not."""
HYPERPARAMETERS_KEY: Final = "hyperparameters"
BEST_KEY: Final = "best_hyperparameters"
"""The Trainer's input and the Tuner's output, named as TFX's."""


class TrainerSettings(Section):
    """What a training depends on."""

    plugins: tuple[Plugin, ...]
    """Modules that register what ``model`` and ``sampler`` name, and so before them."""
    features: Declared = ()
    """Rows that the log's description declares."""
    model: ModelConfig
    sampler: SamplerConfig
    training: TrainingConfig
    stored: StoredImpressions
    built_from: tuple[str, ...]
    """Code that no module imports by name, so that it is part of the cache's key."""

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        sampler: SamplerConfig,
        training: TrainingConfig,
        ingest: IngestConfig,
        plugins: Sequence[str] = (),
    ) -> TrainerSettings:
        """Of the sections of a run."""
        return cls(
            plugins=tuple(plugins),
            features=tuple(declared_features()),
            model=model,
            sampler=sampler,
            training=training,
            stored=ingest.stored,
            built_from=tuple(code_of(model, sampler)),
        )

    def tuned(self, values: Mapping[str, Any]) -> TrainerSettings:
        """With what a search found, by dotted name."""
        changed = {name: with_values(getattr(self, name), name, values) for name in ("model", "training")}
        return self.model_copy(update=changed)


class TunerSettings(Section):
    """What a search depends on."""

    tuner: TunerConfig
    trainer: TrainerSettings
    """What its trainings have in common."""

    def trial(self, values: Mapping[str, Any]) -> TrainerSettings:
        """A training with these values, of which nothing but its AUC is wanted."""
        training = {"epochs": self.tuner.epochs, "calibration": "none", "profile_steps": 0, "auc_fractions": 1}
        return self.trainer.tuned({**{f"training.{name}": value for name, value in training.items()}, **values})
