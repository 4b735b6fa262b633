"""What a sweep trains: the grid of its options as single trials."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import get_args

from models.config import ActivationName, ModelName, Section
from pipeline.config import ConfigError, PipelineConfig

ALL = "all"


class Variant(Section):
    """What is compared: a row of the table. Trials of a variant differ by their seed alone."""

    model: ModelName
    activation: ActivationName
    match_features: bool

    def __str__(self) -> str:
        return f"{self.model} {self.activation}, match features {'on' if self.match_features else 'off'}"


class Trial(Section):
    """One training run."""

    variant: Variant
    seed: int

    def configure(self, config: PipelineConfig) -> PipelineConfig:
        """The configuration of this trial: ``config`` but for what the sweep varies.

        Raises:
          ConfigError: if the model cannot have the other settings of ``config``.
        """
        return config.with_overrides(
            {
                "model.name": self.variant.model,
                "model.activation": self.variant.activation,
                "model.match_features": self.variant.match_features,
                "training.seed": self.seed,
            }
        )


def grid(
    config: PipelineConfig,
    models: Sequence[str],
    activations: Sequence[str],
    match_features: Sequence[bool],
    seeds: int,
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

    Raises:
      ConfigError: for an unknown name, or settings that a model cannot have.
    """
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1 is needed (got {seeds})")
    names = _expand("models", models, get_args(ModelName))
    kinds = _expand("activations", activations, get_args(ActivationName))
    trials = [
        Trial(variant=Variant(model=name, activation=kind, match_features=match), seed=config.training.seed + number)
        for number, name, kind, match in itertools.product(range(seeds), names, kinds, match_features)
    ]
    for trial in trials:
        trial.configure(config)
    return trials


def _expand(option: str, chosen: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    if list(chosen) == [ALL]:
        return known
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = ", ".join(map(repr, unknown)) or "nothing"
        raise ConfigError(f"{option}: {wrong} is not known; choose among {ALL}, {', '.join(known)}")
    return list(dict.fromkeys(chosen))
