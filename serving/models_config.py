"""Which models a server serves, which of their versions, and under which labels: TF Serving's ``models.config``.

Importing this module loads no TensorFlow, so that a wrong file is refused before that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ctr.models.errors import ConfigError, CtrError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server."""

    name: str
    """As requests say it."""
    base_path: Path
    """The folder of its versions."""
    latest: int | None = 1
    """How many of the newest versions are served; None: all of them."""
    specific: frozenset[int] = frozenset()
    """The versions that are served; empty: ``latest`` decides."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Label -> version."""


def read_models_config(path: str | Path) -> tuple[ModelConfig, ...]:
    """Reads a ``ModelServerConfig`` in protobuf's text format, as TF Serving's ``--model_config_file`` takes it.

    Raises:
      ConfigError: if the file cannot be read, is no such message, or asks for what this server cannot do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return models_of(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except text_format.ParseError as error:
        raise ConfigError(f"{path}: no ModelServerConfig of TF Serving: {error} (line:column)") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


class FollowedConfig:
    """A ``models.config`` that may change while its models are served.

    Args:
      path: of the file.
      models: what was read of it.
      change: puts other models in force; what it raises of :class:`CtrError` is logged.
    """

    def __init__(
        self, path: str | Path, models: Sequence[ModelConfig], change: Callable[[Sequence[ModelConfig]], object]
    ) -> None:
        self._path = path
        self._models = tuple(models)
        self._change = change
        self._last_problem = ""

    def look(self) -> None:
        """Reads the file; what is in force stays where it cannot be meant. A label moves when its version is loaded."""
        try:
            models = read_models_config(self._path)
            if models != self._models:
                self._take(models)
                self._models = models
                _logger.info("%s: now serving %s", self._path, ", ".join(model.name for model in models))
            problem = ""
        except CtrError as error:
            problem = str(error)
        if problem and problem != self._last_problem:
            _logger.error("%s: not taken: %s", self._path, problem.removeprefix(f"{self._path}: "))
        self._last_problem = problem

    def _take(self, models: Sequence[ModelConfig]) -> None:
        try:
            self._change(models)
        except CtrError:
            # A label moves to what is loaded alone, and what nobody asks for is never loaded: so the versions come
            # first, under the labels in force, and a later look moves these.
            self._change(_loading(models, self._models))
            raise


def _loading(models: Sequence[ModelConfig], before: Sequence[ModelConfig]) -> list[ModelConfig]:
    """Other models under the labels that their names have now, with the versions of both."""
    labels = {model.name: model.labels for model in before}
    return [
        replace(
            model,
            labels=labels.get(model.name, model.labels),
            specific=model.specific and model.specific | {*labels.get(model.name, {}).values()},
        )
        for model in models
    ]


def models_of(config: model_server_config_pb2.ModelServerConfig) -> tuple[ModelConfig, ...]:
    """The models of a ``ModelServerConfig``.

    Raises:
      ValueError: if it lists none or one twice, or asks for what this server cannot do.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise ValueError("Only ModelConfigList is currently supported: expected a model_config_list")
    models = tuple(map(_model, config.model_config_list.config))
    if not models:
        raise ValueError("model_config_list: lists no model")
    names = [model.name for model in models]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"Illegal to list model {name} multiple times in config list")
    return models


def _model(config: Any) -> ModelConfig:
    if not config.name:
        raise ValueError("model_config_list: a model has no name")
    if not Path(config.base_path).is_absolute():
        raise ValueError(
            f"Expected model {config.name} to have an absolute path on this machine; got base_path()={config.base_path}"
        )
    if config.model_platform != "tensorflow":
        raise ValueError(f"model {config.name}: model_platform must be 'tensorflow', got {config.model_platform!r}")
    if config.HasField("logging_config"):
        raise ValueError(
            f"model {config.name}: the flag --request-log is this server's request log; remove logging_config"
        )
    return ModelConfig(
        config.name, Path(config.base_path), *_policy(config), labels=dict(sorted(config.version_labels.items()))
    )


def _policy(config: Any) -> tuple[int | None, frozenset[int]]:
    policy = config.model_version_policy
    if policy.HasField("all"):
        return None, frozenset()
    if policy.HasField("specific"):
        versions = frozenset(policy.specific.versions)
        if not versions or min(versions) < 0:
            raise ValueError(f"model {config.name}: specific must list versions of 0 or more, got {sorted(versions)}")
        return None, versions
    return max(policy.latest.num_versions, 1), frozenset()
