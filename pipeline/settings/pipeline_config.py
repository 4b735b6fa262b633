"""The one configuration of a run: typed, validated, immutable.

A configuration comes from a preset (``pipeline/settings/presets/*.yaml``, or a file of one's own) plus overrides
(``training.epochs=2``). A preset may extend another one: ``extends: full``, and then only what differs. Unknown keys
and impossible values are refused with the field's dotted name. Importing this module loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from ctr.components.files import absolute
from ctr.components.scoring.metrics import OVERALL
from ctr.components.settings import (
    EvaluationConfig,
    IngestConfig,
    ServedSkewConfig,
    StatisticsConfig,
    TrainingConfig,
    TransformConfig,
    TunerConfig,
)
from ctr.models.errors import ConfigError
from ctr.models.impression import declare_features
from ctr.models.model_config import ModelConfig
from ctr.models.registration import Plugin
from ctr.models.registry import ModelName
from ctr.models.samplers.registry import SAMPLERS
from ctr.models.samplers.sampler_config import SamplerConfig, require_pair
from ctr.models.section import Section
from ctr.models.validation import instead_of, problems
from ctr.pipeline.settings.datasets import read_dataset
from ctr.pipeline.settings.kubeflow import KubeflowConfig
from ctr.pipeline.settings.metadata import MetadataConfig

_CHOICES: Final = frozenset(
    ("model", "model.name", "model.activation", "sampler", "sampler.name", "training.loss", "training.loss.name")
)
"""Settings that decide which others have an effect."""


def _span(value: Any) -> Any:
    """Days count as TFX's driver counts them in a path with {YYYY}, {MM} and {DD}: from 1970."""
    if value == "latest":
        return None
    if isinstance(value, str) and not value.isdecimal():
        try:
            value = dt.date.fromisoformat(value)
        except ValueError:
            raise ValueError("give a number, a day such as 2017-12-03, or latest") from None
    return (value - dt.date(1970, 1, 1)).days if isinstance(value, dt.date) else value


class PipelineConfig(Section):
    """One run of the pipeline."""

    preset: str = "custom"
    plugins: tuple[Plugin, ...] = ()
    """Modules outside this project that register further models, samplers, activations, features and metrics. Every
    process that reads the configuration imports them, so they must be importable on each machine and in each image.
    Before all that may name what they register: fields are read in this order."""
    pipeline_name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "ctr"
    served_model_name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")] = "ctr"
    data: str = ""
    """A log, as ``ingest.dataset`` describes it, or a folder of them: a name, never a pattern."""
    span: Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_span)] = None
    """Of a ``data`` path with {SPAN}, or {YYYY}, {MM} and {DD}: the span or day to take; null, or ``latest``, takes the
    latest."""
    output: str = "output"
    """Root of artifacts, metadata and pushed models."""
    runner: Literal["beam", "local"] = "beam"
    beam_pipeline_args: tuple[str, ...] = ()
    """For the steps that run on Beam; without any, one worker in this process. TFX packs itself for the workers of each
    step where there are some."""
    also_train: tuple[ModelName, ...] = ()
    """Models trained after ``model.name``, each in a run of its own on the same ingested data."""
    enable_cache: bool = True
    ingest: IngestConfig = IngestConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    transform: TransformConfig = TransformConfig()
    # Made when a configuration is read, with the sections of its plugins.
    model: ModelConfig = Field(default_factory=ModelConfig)
    sampler: SamplerConfig = Field(default_factory=SamplerConfig)
    training: TrainingConfig = TrainingConfig()
    tuner: TunerConfig = TunerConfig()
    evaluation: EvaluationConfig
    skew: ServedSkewConfig = ServedSkewConfig()
    metadata: MetadataConfig = MetadataConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()

    @field_validator("output")
    @classmethod
    def _no_pattern(cls, value: str) -> str:
        # StatisticsGen, Evaluator and others hand the folder to Beam, whose patterns know no quoting.
        if found := next((character for character in value if character in "*?[\\"), None):
            raise ValueError(
                f"TFX would read the {found} as part of a pattern; choose a folder without any of * ? [ \\"
            )
        return value

    @field_validator("ingest")
    @classmethod
    def _declare(cls, value: IngestConfig) -> IngestConfig:
        # As with plugins: before what may name them.
        declare_features(value.rows)
        return value

    @model_validator(mode="after")
    def _window_has_a_day(self) -> PipelineConfig:
        if self.data:
            self.ingest.of_path(self.data)
        return self

    @model_validator(mode="after")
    def _negatives_fit(self) -> PipelineConfig:
        if self.ingest.flip_labels and (self.sampler.needs_positive or self.training.loss.name != "pointwise"):
            raise ValueError(
                "ingest.flip_labels leaves impressions without a positive: use sampler random with sampler.stored=all, "
                "and loss pointwise"
            )
        require_pair(
            self.sampler,
            self.training.loss,
            self.ingest.training_negatives,
            batch_size=self.training.part_size,
            exposures=self.ingest.exposures > 0,
        )
        return self

    @model_validator(mode="after")
    def _bounded_slices_exist(self) -> PipelineConfig:
        for bound in self.evaluation.bounds.each(self.ingest.judged_set):
            if bound.negative_set not in (OVERALL, *self.ingest.evaluation_sets):
                raise ValueError(f"evaluation.bounds: {bound.negative_set} is not among ingest.evaluation_sets")
        return self

    @model_validator(mode="after")
    def _space_is_possible(self) -> PipelineConfig:
        for model, values in itertools.product((self.model.name, *self.also_train), self.tuner.corners()):
            try:
                self.with_overrides({"model.name": model, **values, "also_train": (), "tuner": {}})
            except ConfigError as error:
                raise ValueError(f"tuner.space: {error}") from error
        return self

    def _without_effect(self, swept: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
        """Dotted name of each setting that is not its default and has no effect, and why."""
        chosen = {"model.name": [self.model.name, *self.also_train], **swept}
        for name, section in (("model", self.model), ("sampler", self.sampler)):
            names = {field: chosen.get(f"{name}.{field}", [getattr(section, field)]) for field in section.registries}
            yield from ((f"{name}.{key}", why) for key, why in section.unread(names))
        sampler, loss = self.sampler, self.training.loss
        unread = () if swept else SAMPLERS[sampler.name].without_effect(sampler, loss)
        for key in (key for key in sampler.changed() if key in unread):
            yield f"sampler.{key}", f"has no effect with sampler {sampler.name} as it is set and loss {loss.name}"

    def to_json(self) -> str:
        """Canonical JSON: equal configurations give equal strings."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def changes_json(self) -> str:
        """Canonical JSON of what differs from the defaults; :meth:`from_json` gives the same configuration."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        if self.ingest.exposures:
            # Their defaults are others for a log of exposures.
            drawn = {"evaluation_sets", "training_negatives"}
            changed["ingest"] |= self.ingest.model_dump(mode="json", include=drawn)
        return json.dumps(changed, sort_keys=True)

    def with_absolute_paths(self) -> PipelineConfig:
        """A copy whose paths mean the same from any working directory."""
        paths = {"data": absolute(self.data), "output": absolute(self.output)}
        if self.skew.request_log:
            paths["skew.request_log"] = absolute(self.skew.request_log)
        return self.with_overrides(paths)

    @classmethod
    def from_json(cls, text: str) -> PipelineConfig:
        """Inverse of :meth:`to_json`.

        Raises:
          ConfigError: if the JSON is not a valid configuration.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"the configuration is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError("the configuration is not a JSON object")
        return _validated(values)

    def with_overrides(self, overrides: Mapping[str, Any]) -> PipelineConfig:
        """A copy with dotted names set, e.g. ``{"training.epochs": 2}``.

        Where they choose another model, activation, sampler or loss, what belongs to the former one falls back to its
        default.

        Raises:
          ConfigError: if a name is unknown, a value impossible or one of the settings without effect.
        """
        values = self.model_dump(mode="json")
        for name, value in overrides.items():
            _set(values, name, value)
        return _settled(values, overrides, {})


def preset_names() -> tuple[str, ...]:
    """The presets that ship with the package, sorted."""
    files = resources.files(__package__).joinpath("presets").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def load_preset(
    name: str,
    assignments: Sequence[str] = (),
    plugins: Sequence[str] = (),
    swept: Mapping[str, Sequence[str]] | None = None,
    dataset: str | None = None,
) -> PipelineConfig:
    """Reads a preset and applies ``name=value`` assignments, values in YAML syntax.

    Args:
      name: of the preset, or the path of a file that ends in ``.yaml``.
      assignments: in their order.
      plugins: modules, besides those of setting ``plugins``.
      swept: ``model.name``, ``model.activation`` and ``sampler.name`` -> what a sweep tries of them in the place of the
        configured one; settings of theirs have an effect.
      dataset: name or file of a log's description, in the place of the preset's; see ``datasets.py``.

    Raises:
      ConfigError: for an unknown preset or description, presets that extend each other in a circle, a malformed
        assignment, an unknown key, an impossible value or a setting without effect.
    """
    values = {**_preset(name), "preset": Path(name).stem}
    if dataset is not None:
        _set(values, "ingest.dataset", read_dataset(dataset).model_dump(mode="json"))
    given = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        given.append(key.strip())
        if not equals:
            raise ConfigError(f"--set {assignment!r}: expected NAME=VALUE, e.g. training.epochs=2")
        try:
            _set(values, key.strip(), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment!r}: the value is not valid YAML: {error}") from error
    if plugins:
        values["plugins"] = list(dict.fromkeys([*(values.get("plugins") or ()), *plugins]))
    return _settled(values, given, swept or {})


def _preset(name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset, with those of what it extends under them."""
    chain = " extends ".join((*below, name))
    if name in below:
        raise ConfigError(f"preset: {chain}, in a circle; one of them must extend nothing")
    own = name.endswith(".yaml")
    if not own and name not in preset_names():
        raise ConfigError(f"preset: {chain}; {name!r} is unknown; {instead_of(name, preset_names())}, or FILE.yaml")
    file = Path(name) if own else resources.files(__package__).joinpath(f"presets/{name}.yaml")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"preset: {chain}; it cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"preset: {chain}; it holds no settings; write e.g. extends: full")
    extended = values.pop("extends", None)
    if extended is None:
        return values
    if own and str(extended).endswith(".yaml"):
        extended = os.path.normpath(Path(name).parent / extended)
    return _over(_preset(str(extended), (*below, name)), values)


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The base with values instead of its own, sections key by key."""
    merged = dict(base)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{dotted}: {parent!r} is a value, not a section")
    values[leaf] = value


def _settled(values: dict[str, Any], given: Collection[str], swept: Mapping[str, Sequence[str]]) -> PipelineConfig:
    """The configuration of ``values``, of which a person gave some, without settings that have no effect."""
    config = _validated(values)
    wrong, stale = [], False
    for name, why in config._without_effect(swept):
        section, _, key = name.partition(".")
        if any(each in (name, section) or each.startswith(f"{name}.") for each in given):
            wrong.append(f"{name}: {why}")
        elif _CHOICES.intersection(given):
            stale = True
            del values[section][key]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return _validated(values) if stale else config


def _validated(values: Mapping[str, Any]) -> PipelineConfig:
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(error, PipelineConfig))) from error
