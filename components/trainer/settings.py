"""What a training is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ctr.components.settings import IngestConfig, StoredImpressions, TrainingConfig
from ctr.models.model_config import ModelConfig
from ctr.models.registration import Plugin
from ctr.models.registry import code_of
from ctr.models.samplers.sampler_config import SamplerConfig
from ctr.models.section import Section

CATALOGUE_KEY: Final = "catalogue"
RAW_EXAMPLES_KEY: Final = "raw_examples"
"""Inputs that TFX's Trainer has not."""


class TrainerSettings(Section):
    """What a training depends on."""

    plugins: tuple[Plugin, ...]
    """Modules that register what ``model`` and ``sampler`` name, and so before them."""
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
            model=model,
            sampler=sampler,
            training=training,
            stored=ingest.stored,
            built_from=tuple(code_of(model, sampler)),
        )
