"""The models that a server has now: a watch on each, changed as a whole by a new configuration."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from ctr.serving.metrics import Metrics
from ctr.serving.model import RequestError, Run, ServedModel, invalid
from ctr.serving.models_config import ModelConfig
from ctr.serving.signatures import CANDIDATE, HISTORY, RANK_SIGNATURE
from ctr.serving.versions import VersionWatcher

_MAX_AWAITED: Final = 60.0
"""Seconds that a new configuration waits for its new models: it holds one of the server's threads."""


class Catalogue:
    """The models of a server, by name. Safe to call from many threads.

    Args:
      models: the first configuration; its labels may name versions that are not loaded yet.
      poll_seconds: time between two looks at a model's folder.
      on_serving: called from a watching thread after each switch to a version.
      metrics: what counts the loads.
      batched: as :class:`ctr.serving.model.ServedModel` has it.

    Attributes:
      before_serving: called from a watching thread with a model's folder and the version that is loaded, or could not
        be; when it returns, requests may get that version.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig],
        poll_seconds: float,
        on_serving: Callable[[], None],
        metrics: Metrics,
        batched: Callable[[Run], Run] | None = None,
    ) -> None:
        self._poll_seconds = poll_seconds
        self._on_serving = on_serving
        self._metrics = metrics
        self._batched = batched
        self.before_serving: Callable[[Path, int], None] = lambda folder, version: None
        self._change = threading.Lock()
        self._watchers = {model.name: self._watcher(model) for model in models}

    def begin_with(self, models: Sequence[ModelConfig]) -> None:
        """Takes other models than those of the constructor, before the start."""
        self._watchers = {model.name: self._watcher(model) for model in models}

    def start(self) -> None:
        """Begins to watch the folders."""
        with self._change:
            for watcher in self._watchers.values():
                watcher.start()

    def stop(self) -> None:
        """Ends the watches; waits for loads under way."""
        with self._change:
            _stop(self._watchers.values())

    @property
    def models(self) -> list[ModelConfig]:
        """The configuration in force."""
        return [watcher.model for watcher in self._watchers.values()]

    @property
    def names(self) -> Collection[str]:
        """The models' names."""
        return self._watchers.keys()

    def newest_version(self) -> int | None:
        """Of the first model, the highest version that takes requests."""
        return max(next(iter(self._watchers.values())).loaded, default=None)

    def is_ready(self) -> bool:
        """Whether each model has a version that takes requests."""
        return all(watcher.ready.is_set() for watcher in self._watchers.values())

    def wait_until_ready(self, timeout: float) -> str:
        """Waits until each model has a version; returns what is known of those that have none after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        for watcher in self._watchers.values():
            watcher.ready.wait(max(0.0, deadline - time.monotonic()))
        return _lacking(self._watchers.values())

    def find(self, spec: model_pb2.ModelSpec) -> ServedModel:
        """The version that a request asks for; the newest loaded one if it names none.

        Raises:
          RequestError: NOT_FOUND if it is not served; INVALID_ARGUMENT for an unknown label and no name.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        wanted = self._version(spec)
        watcher = self._watchers.get(spec.name)
        # Read once: the watcher may change the versions at any time.
        loaded = watcher.loaded if watcher else {}
        version = max(loaded, default=None) if wanted is None else wanted
        if version is None or version not in loaded:
            asked = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return loaded[version]

    def own_inputs(self, name: str, version: int) -> list[str]:
        """Inputs of a version's ``rank`` that are neither of events nor of candidates; none where there is no such
        version or signature."""
        spec = model_pb2.ModelSpec(name=name)
        spec.version.value = version
        with contextlib.suppress(RequestError, LookupError):
            inputs = self.find(spec).signature_defs[RANK_SIGNATURE].inputs
            return [alias for alias in inputs if not alias.startswith((HISTORY, CANDIDATE))]
        return []

    def statuses(self, spec: model_pb2.ModelSpec) -> list[ModelVersionStatus]:
        """What became of the version, or of each of the model's; the highest first.

        Raises:
          RequestError: as for :meth:`find`.
        """
        watcher = self._watchers.get(spec.name)
        statuses = watcher.statuses() if watcher else []
        missing = f"any versions of model {spec.name}"
        version = self._version(spec)
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            missing = f"version {version} of model {spec.name}"
        if not statuses:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find {missing}")
        return statuses

    def check(self, models: Sequence[ModelConfig]) -> None:
        """Refuses what :meth:`change` would refuse, and changes nothing."""
        for model in models:
            _check_labels(model, self._watchers.get(model.name))

    def change(self, models: Sequence[ModelConfig]) -> list[VersionWatcher]:
        """Puts another configuration in force; returns the watches on the models that are new in it.

        A label that is in use, as its version is loaded, may only move to a version that is loaded, too. A model whose
        folder stays keeps its loaded versions; one that is not in the new configuration goes.

        Raises:
          RequestError: FAILED_PRECONDITION if a label cannot move, and then nothing has changed.
        """
        with self._change:
            before = self._watchers
            for model in models:
                _check_labels(model, before.get(model.name))
            after = {}
            for model in models:
                watcher = before.get(model.name)
                if watcher is None or watcher.model.base_path != model.base_path:
                    watcher = self._watcher(model)
                after[model.name] = watcher
            new = [watcher for name, watcher in after.items() if before.get(name) is not watcher]
            for model in models:
                after[model.name].model = model
            for watcher in new:
                watcher.start()
            self._watchers = after
        _stop(watcher for name, watcher in before.items() if after.get(name) is not watcher)
        return new

    def change_and_wait(self, models: Sequence[ModelConfig]) -> None:
        """The same, and waits for the new models, at most a minute.

        Raises:
          RequestError: as for :meth:`change`; UNKNOWN if a new model has no version yet, whose folder is watched
            nevertheless.
        """
        new = self.change(models)
        deadline = time.monotonic() + _MAX_AWAITED
        for watcher in new:
            watcher.wait_until_tried(max(0.0, deadline - time.monotonic()))
        if problem := _lacking(new):
            raise RequestError(grpc.StatusCode.UNKNOWN, f"model(s) did not become available: {problem}")

    def _watcher(self, model: ModelConfig) -> VersionWatcher:
        return VersionWatcher(
            model,
            self._poll_seconds,
            self._on_serving,
            self._metrics,
            self._batched,
            lambda folder, version: self.before_serving(folder, version),
        )

    def _version(self, spec: model_pb2.ModelSpec) -> int | None:
        if not spec.HasField("version_label"):
            return int(spec.version.value) if spec.HasField("version") else None
        watcher = self._watchers.get(spec.name)
        if watcher is None or spec.version_label not in watcher.model.labels:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return watcher.model.labels[spec.version_label]


def _stop(watchers: Iterable[VersionWatcher]) -> None:
    watchers = list(watchers)
    for watcher in watchers:
        watcher.stop()
    for watcher in watchers:
        watcher.join()


def _check_labels(model: ModelConfig, watcher: VersionWatcher | None) -> None:
    for label, version in model.labels.items():
        before = watcher.model.labels.get(label, version) if watcher else version
        if watcher and version != before and before in watcher.loaded and version not in watcher.loaded:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {model.name}, "
                f"which is not currently available for inference",
            )


def _lacking(watchers: Iterable[VersionWatcher]) -> str:
    """Of models without a version: what is known of each; empty if there are none."""
    return "; ".join(
        f"model {watcher.model.name!r}: {watcher.what_is_known()}" for watcher in watchers if not watcher.ready.is_set()
    )
