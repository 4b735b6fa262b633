"""Which negatives a model is trained on: the sampler's section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from models.negatives import StoredKind as StoredKind
from models.registration import Extensible, Registry
from models.samplers.registry import SAMPLERS, SamplerName
from models.samplers.registry import FrequencyConfig as FrequencyConfig
from models.samplers.registry import HardConfig as HardConfig
from models.section import Section

LossName = Literal["pointwise", "sampled_softmax"]


class SamplerConfig(Extensible):
    """Negatives of training; evaluation and validation never depend on it. Beside these settings stand the sections of
    ``models/samplers/registry.py`` and of plugins."""

    registry: ClassVar[Registry] = SAMPLERS

    name: SamplerName = "random"
    """``random`` takes the negatives that ingest drew (``ingest.training_negatives``); see docs/samplers.md."""
    stored: StoredKind = "all"
    """Of random: which of the negatives that ingest drew are trained on."""
    negatives: Annotated[int, Field(ge=1, le=1000)] = 4
    """K: negatives of a row, for all samplers but random."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the mixed sampler: share of uniform negatives among the K, the others are in-batch."""
    frequencies: Literal["exact", "streaming"] = "exact"
    """What mixed and hard correct their in-batch columns by; in_batch is exact and frequency is streaming."""

    @property
    def uniform_negatives(self) -> int:
        """Of the mixed sampler: how many of the K are uniform."""
        return round(self.alpha * self.negatives)

    @property
    def columns_from_batch(self) -> int:
        """In-batch columns that are drawn for a row; only a sampler with some needs to know the training window."""
        return SAMPLERS[self.name].columns_from_batch(self)

    @property
    def needs_positive(self) -> bool:
        """Whether the first stored candidate of each impression must be its positive."""
        return SAMPLERS[self.name].needs_positive


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


def require_pair(sampler: SamplerConfig, loss: LossConfig, stored: Mapping[str, int], batch_size: int) -> None:
    """Checks that a sampler, a loss and the stored negatives make sense together.

    Args:
      sampler: the sampler.
      loss: the loss.
      stored: negatives of a stored training impression: ``uniform`` ones, ``same_category`` ones as its target, and
        ``contemporaneous`` ones.
      batch_size: impressions of a step over all replicas.

    Raises:
      ValueError: naming the fields and what they must be.
    """
    SAMPLERS[sampler.name].check_pair(sampler, loss, stored)
    if sampler.columns_from_batch >= batch_size:
        raise ValueError(
            f"sampler {sampler.name} draws {sampler.columns_from_batch} columns a row from the other rows of a batch: "
            f"training.batch_size must be above that (it is {batch_size})"
        )
