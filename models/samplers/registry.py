"""The samplers that the configuration can choose, with their settings, and what each needs and gives.

A new sampler is a file of its own and a call of :func:`register_sampler` here, or in a plugin. See "Add a sampler" in
docs/samplers.md. TensorFlow is loaded when a sampler is built, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from ctr.models.impression import SAME_CATEGORY, UNIFORM
from ctr.models.negatives import ALL, StoredKind
from ctr.models.registration import Declaration, NameIn, Registry
from ctr.models.section import Section

if TYPE_CHECKING:
    from ctr.models.negatives import StoredNegatives
    from ctr.models.samplers.base import Sampler, TrainingWindow
    from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig


class RandomConfig(Section):
    """Of the stored negatives."""

    stored: StoredKind = ALL
    """Which of the negatives that ingest drew are trained on."""


class NegativesConfig(Section):
    """Of what draws negatives of its own."""

    negatives: Annotated[int, Field(ge=1, le=1000)] = 4
    """K: negatives of a row."""


class MixedConfig(Section):
    """In-batch and uniform negatives."""

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of uniform negatives among the K, the others are in-batch."""


class CorrectionConfig(Section):
    """Of what may correct its in-batch columns in two ways."""

    frequencies: Literal["exact", "streaming"] = "exact"
    """What gives q: the counts of the train split, or the stream of batches."""


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

    @model_validator(mode="after")
    def _of_the_pool(self) -> HardConfig:
        if self.kind != "pool" and self.pool != HardConfig.model_fields["pool"].default:
            raise ValueError(f"pool belongs to kind pool; {self.kind} has no such setting")
        return self

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
    exposures: bool = False
    """Whether stored candidates are what was shown, with any labels."""


@dataclass(frozen=True)
class SamplerDeclaration(Declaration):
    """A sampler that the configuration can choose, with what it needs and what it gives."""

    log_q: str = ""
    """Log Q of a column, as the docs write it; empty where it is never known."""
    columns_from_batch: Callable[[SamplerConfig], int] = lambda config: 0
    """How many in-batch columns it draws for a row; a batch needs more rows than that."""
    needs_window: bool = False
    """Whether it gets to know the training window though it draws no such columns."""
    takes_stored: Callable[[SamplerConfig], str] = lambda config: ""
    """The settings, in words, by which it takes some stored negatives by their place; empty where it does not."""
    needs_positive: Callable[[SamplerConfig], bool] = lambda config: True
    """Whether the first stored candidate must be the positive, as it is unless labels were flipped."""
    check_stored: Callable[[SamplerConfig, StoredNegatives], None] = lambda config, stored: None
    """Raises ValueError for a configuration that so many stored negatives a kind are not enough for."""
    unknown_log_q: Callable[[SamplerConfig, StoredNegatives], str | None] = lambda config, stored: None
    """With such a configuration, why log Q is not known and what to do; None where it is known."""
    without_effect: Callable[[SamplerConfig, LossConfig], Iterable[str]] = lambda config, loss: ()
    """Settings, of those it reads, that have none beside its others and this loss."""


SAMPLERS: Final = Registry("sampler", "ctr.models.samplers.base:Sampler", SamplerDeclaration)

SamplerName = Annotated[str, NameIn(SAMPLERS)]


register_sampler: Final = SAMPLERS.register
"""Of what takes a :class:`SamplerContext` and gives a :class:`ctr.models.samplers.base.Sampler`; ``about`` tells of its
negatives. Its settings stand below ``sampler``, and ``context.config.section(Class)`` gives them."""


# --- what each needs -----------------------------------------------------------------------------------------------


def _stored_kind(config: SamplerConfig) -> StoredKind:
    return config.section(RandomConfig).stored


def _kind_is_stored(config: SamplerConfig, stored: StoredNegatives) -> None:
    kind = _stored_kind(config)
    if kind != ALL and not stored[kind]:
        raise ValueError(f"sampler.stored={kind} needs ingest.training_negatives.{kind} above 0")


def _of_other_than_uniform(config: SamplerConfig, stored: StoredNegatives) -> str | None:
    kind = _stored_kind(config)
    if kind == UNIFORM or (kind == ALL and stored[UNIFORM] == stored.total):
        return None
    needed = f"set ingest.training_negatives.{UNIFORM} above 0 and sampler.stored={UNIFORM}"
    return f"it is known of {UNIFORM} ones alone: {needed}"


def negatives_of(config: SamplerConfig) -> int:
    """K."""
    return config.section(NegativesConfig).negatives


def uniform_of(config: SamplerConfig) -> int:
    """How many of the K of the mixed sampler are uniform."""
    return round(config.section(MixedConfig).alpha * negatives_of(config))


def _enough_uniform(config: SamplerConfig, stored: StoredNegatives) -> None:
    if stored[UNIFORM] < uniform_of(config):
        raise ValueError(
            f"sampler mixed with alpha {config.section(MixedConfig).alpha:g} of {negatives_of(config)} negatives needs "
            f"ingest.training_negatives.{UNIFORM} to be at least {uniform_of(config)} (it is {stored[UNIFORM]})"
        )


def _in_batch_of_mixed(config: SamplerConfig) -> int:
    return negatives_of(config) - uniform_of(config)


def _is_pool(config: SamplerConfig) -> bool:
    return config.section(HardConfig).kind == "pool"


def _pool_holds_them(config: SamplerConfig) -> None:
    hard = config.section(HardConfig)
    if _is_pool(config) and hard.pool < negatives_of(config):
        raise ValueError(f"hard.pool is {hard.pool}, which must be at least negatives, {negatives_of(config)}")


def _enough_of_the_category(config: SamplerConfig, stored: StoredNegatives) -> None:
    needed = config.section(HardConfig).most(negatives_of(config))
    if not _is_pool(config) and stored[SAME_CATEGORY] < needed:
        raise ValueError(
            f"sampler hard needs ingest.training_negatives.{SAME_CATEGORY} to be at least {needed} "
            f"(it is {stored[SAME_CATEGORY]})"
        )


def _of_the_category(config: SamplerConfig, stored: StoredNegatives) -> str | None:
    return None if _is_pool(config) else "hard.kind=same_category has none: use hard.kind=pool"


def _in_batch_of_hard(config: SamplerConfig) -> int:
    return config.section(HardConfig).pool if _is_pool(config) else negatives_of(config)


def _uncorrected(config: SamplerConfig, loss: LossConfig, by_q: bool = True) -> Iterable[str]:
    """What estimates q, where nothing is corrected by it."""
    if not (loss.corrects and by_q):
        return ("frequencies", "frequency")
    return () if config.section(CorrectionConfig).frequencies == "streaming" else ("frequency",)


register_sampler(
    "random",
    "ctr.models.samplers.random:make_random",
    about="those that ingest stored (`ingest.training_negatives`), all or a kind (`sampler.stored`)",
    log_q="uniform ones: log(K / N), N the catalogue of the train split; other kinds: not known",
    flat=(RandomConfig,),
    takes_stored=lambda config: "" if _stored_kind(config) == ALL else f"sampler.stored={_stored_kind(config)}",
    needs_positive=lambda config: _stored_kind(config) != ALL,
    check_stored=_kind_is_stored,
    unknown_log_q=_of_other_than_uniform,
)
register_sampler(
    "in_batch",
    "ctr.models.samplers.mixed:make_in_batch",
    about="K other rows' positives",
    log_q="log(K q), q the item's share of the positives, counted over the train split",
    flat=(NegativesConfig,),
    columns_from_batch=negatives_of,
)
register_sampler(
    "hard",
    "ctr.models.samplers.hard:make_hard",
    about="the highest-scoring of a pool of in-batch ones, or stored ones of the category, beside random ones",
    log_q="pool: hard ones log(M q), the others log(M q r / (m - h)); same category: not known",
    settings={"frequency": FrequencyConfig, "hard": HardConfig},
    takes_stored=lambda config: "" if _is_pool(config) else "sampler hard with hard.kind=same_category",
    flat=(NegativesConfig, CorrectionConfig),
    check=_pool_holds_them,
    columns_from_batch=_in_batch_of_hard,
    check_stored=_enough_of_the_category,
    unknown_log_q=_of_the_category,
    without_effect=lambda config, loss: _uncorrected(config, loss, _is_pool(config)),
)
register_sampler(
    "streaming_frequency",
    "ctr.models.samplers.mixed:make_streaming_frequency",
    about="K other rows' positives",
    log_q="log(K q), q estimated from the stream of batches (Yi et al., RecSys 2019)",
    settings={"frequency": FrequencyConfig},
    flat=(NegativesConfig,),
    columns_from_batch=negatives_of,
    without_effect=lambda config, loss: () if loss.corrects else ("frequency",),
)
register_sampler(
    "mixed",
    "ctr.models.samplers.mixed:make_mixed",
    about="`sampler.alpha` of the K uniform and stored, the others in-batch (arXiv 2006.02282)",
    log_q="log(K_b q + K_r / N) on every column, whichever of the two drew it",
    settings={"frequency": FrequencyConfig},
    flat=(NegativesConfig, MixedConfig, CorrectionConfig),
    takes_stored=lambda config: "sampler mixed with alpha above 0" if uniform_of(config) else "",
    columns_from_batch=_in_batch_of_mixed,
    check_stored=_enough_uniform,
    without_effect=lambda config, loss: _uncorrected(config, loss, _in_batch_of_mixed(config) > 0),
)


def build_sampler(context: SamplerContext) -> Sampler:
    """A new sampler, to be created in the strategy's scope.

    Args:
      context: its fit to the loss and to the stored negatives has been checked by
        :func:`ctr.models.samplers.sampler_config.require_pair`.

    Raises:
      RegistrationError: if what was declared is not there, or gives no sampler.
    """
    sampler: Sampler = SAMPLERS.build(context.config.name, context)
    sampler.exposures = context.exposures
    sampler.needs_positive = context.config.needs_positive
    return sampler
