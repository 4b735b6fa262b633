"""Which negatives a model is trained on: the sampler's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.config import Section

SamplerName = Literal["random", "in_batch", "hard", "frequency", "mixed"]
StoredKind = Literal["all", "uniform", "same_category", "contemporaneous"]
LossName = Literal["pointwise", "sampled_softmax"]


class FrequencyConfig(Section):
    """Streaming estimation of how often an item is a positive (Yi et al. 2019, algorithm 2)."""

    buckets: Annotated[int, Field(ge=16, le=2**28)] = 2**20
    """The paper's H: buckets of one hash."""
    hashes: Annotated[int, Field(ge=1, le=8)] = 2
    """Of several hashes the largest gap counts, since a collision only ever shortens one."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.02
    """The paper's alpha: weight of the newest gap; a change is followed in about 1/rate appearances."""


class HardConfig(Section):
    """Hard negatives."""

    kind: Literal["pool", "same_category"] = "pool"
    """``pool``: the highest-scoring of a pool of in-batch columns. ``same_category``: stored ones of the target's
    category."""
    pool: Annotated[int, Field(ge=2, le=4096)] = 32
    """M: in-batch columns a row that are scored to find the hard ones."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the negatives that are hard; the others are random ones. Hard ones alone make a model collapse."""
    curriculum_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the share rises from 0; 0 begins with the whole share."""

    def most(self, negatives: int) -> int:
        """How many of so many negatives are hard at the end of the curriculum."""
        return round(self.share * negatives)


class SamplerConfig(Section):
    """Negatives of training; evaluation and validation never depend on it."""

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
    frequency: FrequencyConfig = FrequencyConfig()
    hard: HardConfig = HardConfig()

    @model_validator(mode="after")
    def _pool_holds_them(self) -> SamplerConfig:
        if self.name == "hard" and self.hard.kind == "pool" and self.hard.pool < self.negatives:
            raise ValueError(f"hard.pool is {self.hard.pool}, which must be at least negatives, {self.negatives}")
        return self

    @property
    def uniform_negatives(self) -> int:
        """Of the mixed sampler: how many of the K are uniform."""
        return round(self.alpha * self.negatives)

    @property
    def hard_negatives(self) -> int:
        """How many of the K are hard at the end of the curriculum."""
        return self.hard.most(self.negatives)

    @property
    def columns_from_batch(self) -> int:
        """In-batch columns that are drawn for a row; only a sampler with some needs to know the training window."""
        drawn = {"random": 0, "mixed": self.negatives - self.uniform_negatives}
        if self.name == "hard" and self.hard.kind == "pool":
            return self.hard.pool
        return drawn.get(self.name, self.negatives)


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


def require_pair(
    sampler: SamplerConfig, loss: LossConfig, *, uniform: int, same_category: int, contemporaneous: int, batch_size: int
) -> None:
    """Checks that a sampler, a loss and the stored negatives make sense together.

    Args:
      sampler: the sampler.
      loss: the loss.
      uniform: stored uniform negatives of a training impression.
      same_category: likewise, of the target's category.
      contemporaneous: likewise, of the target's time.
      batch_size: impressions of a step over all replicas.

    Raises:
      ValueError: naming the fields and what they must be.
    """
    softmax = loss.name == "sampled_softmax"
    stored = {"uniform": uniform, "same_category": same_category, "contemporaneous": contemporaneous}
    if sampler.name == "random" and sampler.stored != "all" and not stored[sampler.stored]:
        raise ValueError(f"sampler.stored={sampler.stored} needs ingest.training_negatives.{sampler.stored} above 0")
    only_uniform = uniform and (sampler.stored == "uniform" or not same_category + contemporaneous)
    if softmax and sampler.name == "random" and not only_uniform:
        raise ValueError(
            "loss sampled_softmax with sampler random needs to know each negative's probability, which is known of "
            "uniform ones alone: set ingest.training_negatives.uniform above 0 and sampler.stored=uniform"
        )
    if softmax and sampler.name == "hard" and sampler.hard.kind == "same_category":
        raise ValueError(
            "loss sampled_softmax cannot be had with sampler.hard.kind=same_category, whose negatives have no known "
            "probability: use hard.kind=pool or loss pointwise"
        )
    if sampler.name == "mixed" and uniform < sampler.uniform_negatives:
        raise ValueError(
            f"sampler mixed with alpha {sampler.alpha:g} of {sampler.negatives} negatives needs "
            f"ingest.training_negatives.uniform to be at least {sampler.uniform_negatives} (it is {uniform})"
        )
    if sampler.name == "hard" and sampler.hard.kind == "same_category" and same_category < sampler.hard_negatives:
        raise ValueError(
            f"sampler hard needs ingest.training_negatives.same_category to be at least {sampler.hard_negatives} "
            f"(it is {same_category})"
        )
    if sampler.columns_from_batch >= batch_size:
        raise ValueError(
            f"sampler {sampler.name} draws {sampler.columns_from_batch} columns a row from the other rows of a batch: "
            f"training.batch_size must be above that (it is {batch_size})"
        )
