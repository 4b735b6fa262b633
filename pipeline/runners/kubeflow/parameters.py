"""What a person may set when starting a run of the compiled pipeline, and which setting each of it overrides.

The pipeline's parameters, what each step is given and the checks of ``submit`` come from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ctr.models.errors import ConfigError
from ctr.models.registration import Registry
from ctr.models.registry import ACTIVATIONS, MODELS
from ctr.models.samplers.registry import SAMPLERS
from ctr.models.validation import instead_of
from ctr.pipeline.settings.pipeline_config import PipelineConfig


@dataclass(frozen=True)
class RunParameter:
    """One parameter of the compiled pipeline."""

    name: str
    """In the user interface."""
    setting: str
    """Dotted name in :class:`PipelineConfig`."""
    type: Literal["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE"]
    """``parameterType`` of Kubeflow Pipelines."""
    says: str | Registry[Any]
    """One line about it, or the registry that its values are the names of."""
    null: str = "auto"
    """What stands for null, where the setting may be null."""

    @property
    def description(self) -> str:
        """One line; of a name, all that there are now, those of plugins included."""
        return ", ".join(self.says) if isinstance(self.says, Registry) else self.says

    def value(self, text: str) -> str | int | float:
        """A value as the API takes it.

        Raises:
          ConfigError: if the text is no number where one is needed.
        """
        if self.type == "STRING":
            return text
        try:
            # The backend writes every number as a float, and a whole one without a point.
            return int(text) if self.type == "NUMBER_INTEGER" else float(text)
        except ValueError:
            raise ConfigError(f"parameter {self.name}: {text!r} is no number") from None


PARAMETERS: Final = (
    RunParameter("data", "data", "STRING", "behaviour log or a folder of them; may hold {SPAN}, or {YYYY} {MM} {DD}"),
    RunParameter("span", "span", "STRING", "of such a path: a number, a day (2017-12-03), or latest", "latest"),
    RunParameter("window_start", "ingest.window_start", "STRING", "first second kept, in the log's time zone, or auto"),
    RunParameter("window_end", "ingest.window_end", "STRING", "last second kept, likewise"),
    RunParameter(
        "window_days", "ingest.window_days", "STRING", "or so many days, the last of them the span's; or auto"
    ),
    RunParameter("model", "model.name", "STRING", MODELS),
    RunParameter("sampler", "sampler.name", "STRING", SAMPLERS),
    RunParameter("activation", "model.activation", "STRING", ACTIVATIONS),
    RunParameter("epochs", "training.epochs", "NUMBER_INTEGER", "at most"),
)
"""Of every pipeline; behind them stand those of its bounds."""

USUAL_NAMES: Final = (
    *(parameter.name for parameter in PARAMETERS),
    "min_auc",
    "max_auc",
    "max_auc_drop",
    "min_auc_margin",
)
"""Of a pipeline with the usual bounds, for help."""


def parameters(config: PipelineConfig) -> tuple[RunParameter, ...]:
    """Those of a pipeline: :data:`PARAMETERS`, and one for each bound of its gate, as ``min_auc``."""
    bounds = (_of_bound(key, bound) for key, bounds in config.evaluation.bounds for bound, _ in bounds.given())
    return (*PARAMETERS, *bounds)


def _of_bound(key: str, bound: str) -> RunParameter:
    metric, *where = re.split(r"\W+", key)
    side, _, difference = bound.partition("_")
    name = "_".join(filter(None, (side, metric, difference, *where)))
    says = {
        "min": "at least, or nothing is pushed",
        "max": "at most, or nothing is pushed",
        "max_drop": "worse than the latest blessed model, at most",
        "min_margin": "better than the baseline, at least",
    }
    return RunParameter(name, f"evaluation.bounds.{key}.{bound}", "NUMBER_DOUBLE", says[bound])


def defaults(config: PipelineConfig) -> dict[str, str | int | float]:
    """Parameter -> what the configuration says."""
    values = config.model_dump(mode="json")
    found: dict[str, str | int | float] = {}
    for parameter in parameters(config):
        value: Any = values
        for part in parameter.setting.split("."):
            value = value[part]
        found[parameter.name] = parameter.null if value is None else str(value) if parameter.type == "STRING" else value
    return found


def with_parameters(config: PipelineConfig, values: Mapping[str, str]) -> PipelineConfig:
    """The configuration of a run with these parameters, text by name, of what the pipeline was compiled from.

    Raises:
      ConfigError: if a name is unknown or a value impossible; the message names the parameter and its setting.
    """
    by_name = {parameter.name: parameter for parameter in parameters(config)}
    for name in values:
        if name not in by_name:
            raise ConfigError(f"parameter {name}: unknown; {instead_of(name, by_name)}")
    settings = {by_name[name].setting: by_name[name].value(text) for name, text in values.items()}
    try:
        return config.with_overrides(settings)
    except ConfigError as error:
        given = ", ".join(f"{name}={text}" for name, text in values.items())
        raise ConfigError(f"{error}\nfrom the run's parameters: {given}") from error
