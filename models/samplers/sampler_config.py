"""Which negatives a model is trained on: the sampler's section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ctr.models.negatives import StoredNegatives
from ctr.models.registration import Extensible, Registry
from ctr.models.samplers.registry import SAMPLERS, SamplerName
from ctr.models.section import Section

LossName = Literal["pointwise", "sampled_softmax"]


class SamplerConfig(Extensible):
    """Negatives of training; evaluation and validation never depend on it. Beside the name stand the settings of
    ``models/samplers/registry.py`` and of plugins."""

    registries: ClassVar[Mapping[str, Registry[Any]]] = {"name": SAMPLERS}

    name: SamplerName = "random"
    """``random`` takes the negatives that ingest drew (``ingest.training_negatives``); see docs/samplers.md."""

    @property
    def columns_from_batch(self) -> int:
        """In-batch columns that are drawn for a row."""
        return SAMPLERS[self.name].columns_from_batch(self)

    @property
    def needs_window(self) -> bool:
        """Whether the sampler needs to know the training window."""
        return SAMPLERS[self.name].needs_window or self.columns_from_batch > 0

    @property
    def needs_positive(self) -> bool:
        """Whether the first stored candidate of each impression must be its positive."""
        return SAMPLERS[self.name].needs_positive(self)


class LossConfig(Section):
    """What joins logits and labels in training."""

    name: LossName = "pointwise"
    """Binary cross-entropy of every pair, or a softmax over the row's candidates."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Of the softmax: logits are divided by it."""
    correction: bool = True
    """Of the softmax: subtract log Q from every logit, in training alone."""
    positive: Literal["drawn", "certain"] = "drawn"
    """Of the softmax: the positive's Q is that of any column (Yi et al. 2019), or 1, as it is always in its own row
    (arXiv 2507.09331)."""

    @model_validator(mode="after")
    def _of_the_softmax(self) -> LossConfig:
        default = LossConfig.model_fields
        changed = [n for n in ("temperature", "correction", "positive") if getattr(self, n) != default[n].default]
        if self.name == "pointwise" and changed:
            raise ValueError(f"{', '.join(changed)} belong to sampled_softmax; pointwise has no such setting")
        return self

    @property
    def corrects(self) -> bool:
        """Whether log Q has an effect."""
        return self.name == "sampled_softmax" and self.correction


def require_pair(
    sampler: SamplerConfig, loss: LossConfig, stored: StoredNegatives, batch_size: int, exposures: bool = False
) -> None:
    """Checks that a sampler, a loss, the stored negatives and a step's impressions over all replicas fit one another.

    Raises:
      ValueError: naming the fields and what they must be.
    """
    declared = SAMPLERS[sampler.name]
    if exposures:
        _require_pair_of_exposures(sampler, loss)
    declared.check_stored(sampler, stored)
    shown = exposures and not sampler.needs_positive
    if loss.name == "sampled_softmax" and not shown and (why := declared.unknown_log_q(sampler, stored)):
        raise ValueError(f"loss sampled_softmax needs log Q of the negatives of sampler {sampler.name}, and {why}")
    if sampler.columns_from_batch >= batch_size:
        raise ValueError(
            f"sampler {sampler.name} draws {sampler.columns_from_batch} columns a row from the other rows of a batch: "
            f"training.batch_size / training.accumulate_steps must be above that (it is {batch_size})"
        )


def _require_pair_of_exposures(sampler: SamplerConfig, loss: LossConfig) -> None:
    """Where stored candidates are what was shown, with drawn ones behind them in no fixed place."""
    by_place = SAMPLERS[sampler.name].takes_stored(sampler)
    if by_place:
        raise ValueError(
            f"{by_place} takes negatives from their places behind a positive, which a log of exposures does not have: "
            "use sampler random with sampler.stored=all, which trains on what was shown, or in_batch, "
            "streaming_frequency or hard with hard.kind=pool, whose positives are the clicks"
        )
    if loss.corrects and not sampler.needs_positive:
        raise ValueError(
            "loss sampled_softmax subtracts log Q of what was drawn, and what was shown was not: set "
            "training.loss.correction=false for a softmax over what was shown, or use loss pointwise"
        )
