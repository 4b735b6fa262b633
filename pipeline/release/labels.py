"""The state of a release: labels on versions, in a ``models.config`` that TF Serving and the own server read.

The file is the whole state. Its policy loads the labelled versions and no others, so that going back moves a label to
a version that is in memory already.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ctr.models.errors import ConfigError
from ctr.pipeline.release.config_text import edited
from ctr.serving.models_config import models_of

MODELS_CONFIG: Final = "models.config"
"""Beside the versions, where nothing else is said."""

STABLE: Final = "stable"
CANARY: Final = "canary"
PREVIOUS: Final = "previous"
_OURS: Final = (STABLE, CANARY, PREVIOUS)

_HEAD: Final = (
    "# Written by `ctr release`: labels of versions. release.jsonl beside the versions says who, when and why.\n"
)


@dataclass(frozen=True)
class Labels:
    """Label -> version. Each label that callers may ask for always names one."""

    stable: int
    canary: int
    """The stable version while no other is tried."""
    previous: int | None = None
    """What was stable before, and is kept loaded to go back to."""

    def by_name(self) -> dict[str, int]:
        """Those that there are."""
        found = {STABLE: self.stable, CANARY: self.canary}
        return found if self.previous is None else {**found, PREVIOUS: self.previous}

    def with_canary(self, version: int) -> Labels:
        """A version is tried beside the stable one; what was stable before is let go, so that two are in memory."""
        return Labels(self.stable, version)

    def promoted(self) -> Labels:
        """The canary is stable from now on."""
        return Labels(self.canary, self.canary, self.stable)

    def rolled_back(self) -> Labels | None:
        """Without the canary or, where none is tried, with the version that was stable before; None without one."""
        if self.canary != self.stable:
            return Labels(self.stable, self.stable)
        return None if self.previous is None else Labels(self.previous, self.previous)


class ReleaseFile:
    """A ``models.config`` and what it says of one model; of others, and of comments, nothing is changed.

    Args:
      path: of the file; there may be none yet.
      model: as servers and requests name it.
      base_path: the folder of its versions as servers see it, for a file that does not say so yet.

    Raises:
      ConfigError: if the file cannot be read or servers would not take it.
    """

    def __init__(self, path: str, model: str, base_path: str) -> None:
        self.path = path
        self._model = model
        self._config = model_server_config_pb2.ModelServerConfig()
        self._text: str | None = None
        if os.path.exists(path):
            try:
                with open(path, encoding="utf-8") as file:
                    self._text = file.read()
                text_format.Parse(self._text, self._config)
                models_of(self._config)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
            except (text_format.ParseError, ValueError) as error:
                raise ConfigError(f"{path}: {error}") from error
        if self._entry is None:
            self._config.model_config_list.config.add(name=model, base_path=base_path, model_platform="tensorflow")

    @property
    def _entry(self) -> Any:
        return next((each for each in self._config.model_config_list.config if each.name == self._model), None)

    @property
    def labels(self) -> Labels | None:
        """None before the first release."""
        found: dict[str, int] = dict(self._entry.version_labels)
        if STABLE not in found:
            return None
        return Labels(found[STABLE], found.get(CANARY, found[STABLE]), found.get(PREVIOUS))

    def as_read(self) -> model_server_config_pb2.ModelServerConfig:
        """What the file holds; of none, what a server has that follows the newest version."""
        copy = model_server_config_pb2.ModelServerConfig()
        copy.CopyFrom(self._config)
        return copy

    @property
    def base_path(self) -> str:
        """The folder of the versions, as servers see it."""
        return str(self._entry.base_path)

    def with_labels(
        self, labels: Labels | None, also_loaded: Iterable[int] = ()
    ) -> model_server_config_pb2.ModelServerConfig:
        """What the file is to hold: these labels, and the policy that loads their versions and some more."""
        changed = model_server_config_pb2.ModelServerConfig()
        changed.CopyFrom(self._config)
        entry = next(each for each in changed.model_config_list.config if each.name == self._model)
        for label in _OURS:
            entry.version_labels.pop(label, None)
        entry.version_labels.update(labels.by_name() if labels else {})
        versions = sorted({*entry.version_labels.values(), *also_loaded})
        entry.model_version_policy.Clear()
        entry.model_version_policy.specific.versions.extend(versions)
        return changed

    @property
    def text(self) -> str | None:
        """Of the file; None where there is none."""
        return self._text

    def write(self, config: model_server_config_pb2.ModelServerConfig, text: str | None = None) -> None:
        """Replaces the file at once: who reads it meanwhile gets the old one or the new one.

        Args:
          config: what :meth:`with_labels` or :meth:`as_read` gave.
          text: the same as text, where it is known: :attr:`text` of before.

        Raises:
          ConfigError: if the file has comments that could not be kept; it is as it was then.
        """
        if text is None:
            text = self._edited(config)
        incoming = os.path.join(os.path.dirname(self.path), f".{os.path.basename(self.path)}.{os.getpid()}.incoming")
        try:
            with open(incoming, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(incoming, self.path)
        finally:
            if os.path.exists(incoming):
                os.unlink(incoming)
        self._config, self._text = config, text

    def _edited(self, config: model_server_config_pb2.ModelServerConfig) -> str:
        if self._text is None:
            return f"{_HEAD}{text_format.MessageToString(config)}"
        try:
            return edited(self._text, config, self._model, _OURS)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error
