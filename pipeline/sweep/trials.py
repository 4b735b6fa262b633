"""What a sweep trains: the grid of its options as single trials."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, get_args

from ctr.models.errors import ConfigError
from ctr.models.negatives import StoredKind
from ctr.models.registry import ACTIVATIONS, MODELS, ActivationName, ModelName
from ctr.models.samplers.registry import SAMPLERS, MixedConfig, RandomConfig, SamplerName
from ctr.models.samplers.sampler_config import LossName
from ctr.models.section import Record
from ctr.models.validation import instead_of
from ctr.pipeline.settings.pipeline_config import PipelineConfig

ALL: Final = "all"


class Variant(Record):
    """What is compared: a row of the table. Trials of a variant differ by their seed alone."""

    model: ModelName
    activation: ActivationName
    match_features: bool
    sampler: SamplerName = "random"
    stored: StoredKind | None = None
    """Of the random sampler alone."""
    alpha: float | None = None
    """Of the mixed sampler alone."""
    loss: LossName = "pointwise"

    def __str__(self) -> str:
        parts = [f"{self.model} {self.activation}", f"match features {'on' if self.match_features else 'off'}"]
        if self.negatives != "random":
            parts.append(self.negatives)
        if self.loss != "pointwise":
            parts.append(self.loss.replace("_", " "))
        return ", ".join(parts)

    @property
    def negatives(self) -> str:
        """The sampler as it is written in tables."""
        detail = f"{self.alpha:g}" if self.alpha is not None else self.stored
        return self.sampler.replace("_", "-") + (f" {detail}" if detail not in (None, ALL) else "")


class Trial(Record):
    """One training run."""

    variant: Variant
    seed: int

    def configure(self, config: PipelineConfig) -> PipelineConfig:
        """The configuration of this trial: ``config`` but for what the sweep varies.

        Raises:
          ConfigError: if the model cannot have the other settings of ``config``.
        """
        of_the_sampler = {"sampler.stored": self.variant.stored, "sampler.alpha": self.variant.alpha}
        return config.with_overrides(
            {
                "model.name": self.variant.model,
                "model.activation": self.variant.activation,
                "model.match_features": self.variant.match_features,
                "sampler.name": self.variant.sampler,
                **{name: value for name, value in of_the_sampler.items() if value is not None},
                "training.loss": self._loss(config),
                "training.seed": self.seed,
                "also_train": (),
            }
        )

    def _loss(self, config: PipelineConfig) -> dict[str, Any]:
        if self.variant.loss == config.training.loss.name:
            return config.training.loss.model_dump(mode="json")
        return {"name": self.variant.loss}


def grid(
    config: PipelineConfig,
    models: Sequence[str],
    activations: Sequence[str],
    match_features: Sequence[bool],
    seeds: int,
    samplers: Sequence[str] | None = None,
    stored: Sequence[str] | None = None,
    alphas: Sequence[float] | None = None,
    losses: Sequence[str] | None = None,
) -> list[Trial]:
    """All combinations; each one's configuration has been validated.

    The first seed of all variants comes before the second of any, so that a sweep that is stopped early has
    something of everything.

    Args:
      config: what all trials share.
      models: names, or "all" alone.
      activations: names, or "all" alone.
      match_features: with, without, or both.
      seeds: how many, counted up from ``training.seed``.
      samplers: names, or "all" alone; None is the configured one.
      stored: kinds of stored negatives, of the random sampler; None is the configured one.
      alphas: of the mixed sampler; None is the configured one.
      losses: names, or "all" alone; None is the configured one.

    Raises:
      ConfigError: for an unknown name, or settings that a model cannot have.
    """
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1 is needed (got {seeds})")
    names = _expand("models", models, tuple(MODELS))
    kinds = _expand("activations", activations, tuple(ACTIVATIONS))
    loss_names = _expand("losses", losses or [config.training.loss.name], get_args(LossName))
    sampler_names = _expand("samplers", samplers or [config.sampler.name], tuple(SAMPLERS))
    settings: dict[str, list[dict[str, Any]]] = {
        "random": [
            {"stored": kind}
            for kind in _known("stored", stored or [config.sampler.section(RandomConfig).stored], get_args(StoredKind))
        ],
        "mixed": [{"alpha": alpha} for alpha in dict.fromkeys(alphas or [config.sampler.section(MixedConfig).alpha])],
    }
    negatives = [{"sampler": name, **chosen} for name in sampler_names for chosen in settings.get(name, [{}])]
    trials = [
        Trial(
            variant=Variant(model=name, activation=kind, match_features=match, loss=loss, **chosen),
            seed=config.training.seed + number,
        )
        for number, name, kind, match, chosen, loss in itertools.product(
            range(seeds), names, kinds, match_features, negatives, loss_names
        )
    ]
    for trial in trials:
        trial.configure(config)
    return trials


def _expand(option: str, chosen: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    return known if list(chosen) == [ALL] else _known(option, chosen, known)


def _known(option: str, chosen: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = ", ".join(map(repr, unknown)) or "nothing"
        instead = instead_of(unknown[0] if unknown else "", dict.fromkeys([ALL, *known]))
        raise ConfigError(f"{option}: {wrong} is not known; {instead}")
    return list(dict.fromkeys(chosen))
