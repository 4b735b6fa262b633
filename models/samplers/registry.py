"""The samplers that the configuration can choose, the sections of their settings, and what each asks of the others.

A new sampler is one file and one line here; from outside the tree, :func:`register_sampler`. See "Add a sampler" in
docs/samplers.md. TensorFlow is loaded when a sampler is built, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import Field

from models.registration import Declaration, NameIn, Registry
from models.section import Section

if TYPE_CHECKING:
    from models.samplers.base import Sampler, StoredNegatives, TrainingWindow
    from models.samplers.sampler_config import LossConfig, SamplerConfig

T = TypeVar("T")


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


class SamplerContext(NamedTuple):
    """What a sampler is made from."""

    config: SamplerConfig
    window: TrainingWindow
    """Of training; empty but for the size of the catalogue where no in-batch columns are drawn."""
    stored: StoredNegatives
    """Which columns the stored impressions have."""
    batch_size: int
    """Impressions of a full step over all replicas."""
    seed: int
    """Of the draws."""


Pair = Callable[["SamplerConfig", "LossConfig", Mapping[str, int]], None]
"""Raises ValueError for a sampler's configuration and a loss that do not go with so many stored negatives a kind."""


@dataclass(frozen=True)
class SamplerDeclaration(Declaration):
    """A sampler that the configuration can choose.

    Attributes:
      columns_from_batch: how many in-batch columns it draws for a row. One that draws some gets to know the training
        window, and needs a batch with more rows.
      check_pair: see :data:`Pair`.
      needs_positive: whether the first stored candidate must be the positive, as it is unless labels were flipped.
    """

    columns_from_batch: Callable[[SamplerConfig], int] = lambda config: 0
    check_pair: Pair = lambda config, loss, stored: None
    needs_positive: bool = True


SAMPLERS: Final = Registry[SamplerDeclaration]("sampler", "models.samplers.base:Sampler")

SamplerName = Annotated[str, NameIn(SAMPLERS)]


def register_sampler(
    name: str,
    target: str | Callable[[SamplerContext], Sampler] | None = None,
    *,
    settings: Mapping[str, type[Section]] | None = None,
    check: Callable[[SamplerConfig], None] | None = None,
    **rules: Any,
) -> Callable[[T], T]:
    """Makes a sampler one that ``sampler.name`` can choose; called as :func:`models.registry.register_model` is.

    Args:
      name: in the configuration; small letters, digits and underscores.
      target: takes a :class:`SamplerContext` and gives a :class:`models.samplers.base.Sampler`; or
        ``"package.module:name"`` of that, imported when it is built; left out by a decorator.
      settings: its sections of the configuration below ``sampler``, by name; ``context.config.section(Class)`` gives
        the settings.
      check: called with each configuration that names it; raises ValueError for what it cannot have.
      **rules: further attributes of :class:`SamplerDeclaration`.

    Raises:
      RegistrationError: if the name or a section is taken or impossible.
    """

    def declare(decorated: Any) -> Any:
        SAMPLERS.declare(SamplerDeclaration(name, decorated, settings or {}, check, **rules))
        return decorated

    if target is not None:
        declare(target)
    return declare


# --- what each asks ------------------------------------------------------------------------------------------------


def _random_pair(config: SamplerConfig, loss: LossConfig, stored: Mapping[str, int]) -> None:
    if config.stored != "all" and not stored[config.stored]:
        raise ValueError(f"sampler.stored={config.stored} needs ingest.training_negatives.{config.stored} above 0")
    only_uniform = stored["uniform"] and (
        config.stored == "uniform" or not stored["same_category"] + stored["contemporaneous"]
    )
    if loss.name == "sampled_softmax" and not only_uniform:
        raise ValueError(
            "loss sampled_softmax with sampler random needs to know each negative's probability, which is known of "
            "uniform ones alone: set ingest.training_negatives.uniform above 0 and sampler.stored=uniform"
        )


def _mixed_pair(config: SamplerConfig, loss: LossConfig, stored: Mapping[str, int]) -> None:
    if stored["uniform"] < config.uniform_negatives:
        raise ValueError(
            f"sampler mixed with alpha {config.alpha:g} of {config.negatives} negatives needs "
            f"ingest.training_negatives.uniform to be at least {config.uniform_negatives} (it is {stored['uniform']})"
        )


def _hard_pair(config: SamplerConfig, loss: LossConfig, stored: Mapping[str, int]) -> None:
    hard = config.section(HardConfig)
    if hard.kind != "same_category":
        return
    if loss.name == "sampled_softmax":
        raise ValueError(
            "loss sampled_softmax cannot be had with sampler.hard.kind=same_category, whose negatives have no known "
            "probability: use hard.kind=pool or loss pointwise"
        )
    needed = hard.most(config.negatives)
    if stored["same_category"] < needed:
        raise ValueError(
            f"sampler hard needs ingest.training_negatives.same_category to be at least {needed} "
            f"(it is {stored['same_category']})"
        )


def _pool_holds_them(config: SamplerConfig) -> None:
    hard = config.section(HardConfig)
    if hard.kind == "pool" and hard.pool < config.negatives:
        raise ValueError(f"hard.pool is {hard.pool}, which must be at least negatives, {config.negatives}")


def _all(config: SamplerConfig) -> int:
    return config.negatives


def _not_uniform(config: SamplerConfig) -> int:
    return config.negatives - config.uniform_negatives


def _pool(config: SamplerConfig) -> int:
    hard = config.section(HardConfig)
    return hard.pool if hard.kind == "pool" else config.negatives


_FREQUENCY: Final = {"frequency": FrequencyConfig}

register_sampler("random", "models.samplers.random:make_random", check_pair=_random_pair, needs_positive=False)
register_sampler("in_batch", "models.samplers.in_batch:make_in_batch", columns_from_batch=_all)
register_sampler(
    "hard",
    "models.samplers.hard:make_hard",
    settings={**_FREQUENCY, "hard": HardConfig},
    check=_pool_holds_them,
    columns_from_batch=_pool,
    check_pair=_hard_pair,
)
register_sampler("frequency", "models.samplers.in_batch:make_frequency", settings=_FREQUENCY, columns_from_batch=_all)
register_sampler(
    "mixed",
    "models.samplers.mixed:make_mixed",
    settings=_FREQUENCY,
    columns_from_batch=_not_uniform,
    check_pair=_mixed_pair,
)


def build_sampler(
    config: SamplerConfig,
    *,
    window: TrainingWindow,
    stored: StoredNegatives,
    batch_size: int,
    seed: int,
) -> Sampler:
    """A new sampler, to be created in the strategy's scope.

    Args:
      config: which one, and its settings; its fit to the loss and to the stored negatives has been checked by
        :func:`models.samplers.sampler_config.require_pair`.
      window: of training.
      stored: which columns the stored impressions have.
      batch_size: impressions of a full step over all replicas.
      seed: of the draws.

    Raises:
      RegistrationError: if what was declared is not there, or gives no sampler.
    """
    sampler: Sampler = SAMPLERS.build(config.name, SamplerContext(config, window, stored, batch_size, seed))
    return sampler
