"""Which versions of a model are served: a watch on ``<base>/<integer version>/`` directories."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from ctr.serving.metrics import Metrics
from ctr.serving.model import MAX_ERROR_LENGTH, RequestError, Run, ServedModel
from ctr.serving.models_config import ModelConfig
from ctr.serving.version_folders import SAVED_MODEL_FILE, version_of

_MAX_VERSION: Final = 2**63 - 1
_UNKNOWN_ERROR: Final = 2
"""``tensorflow.error.UNKNOWN``."""

_Fingerprint = frozenset[tuple[str, int, int]]

_logger = logging.getLogger(__name__)


class VersionWatcher:
    """Keeps the versions of a model loaded that its configuration asks for.

    A version is a directory whose name is an integer and that holds ``saved_model.pb``; all others are ignored. It is
    loaded once two looks in a row find the same files in it, so that a copy under way is left alone. It then runs
    its warmup requests, and only then takes requests; those that the configuration does not ask for go after that. A
    version that cannot be loaded is reported and tried again when its files change; the ones before it go on serving.
    If a served version's directory goes, the highest of those that are left takes over; while none is left, it goes
    on serving.

    Args:
      model: whose versions, and which of them; the directory may appear later.
      poll_seconds: time between two looks.
      on_serving: called after each switch to a version, from the watching thread.
      metrics: what counts the loads.
      batched: as :class:`ctr.serving.model.ServedModel` has it.
      before_serving: as :class:`ctr.serving.catalogue.Catalogue` has it.

    Attributes:
      model: may be replaced by another one of the same directory, which the next look follows.
      loaded: version -> what answers its requests; replaced as a whole.
      ready: set from the first on.
    """

    def __init__(
        self,
        model: ModelConfig,
        poll_seconds: float,
        on_serving: Callable[[], None],
        metrics: Metrics,
        batched: Callable[[Run], Run] | None = None,
        before_serving: Callable[[Path, int], None] = lambda folder, version: None,
    ) -> None:
        self.model = model
        self._base_path = model.base_path
        self._poll_seconds = poll_seconds
        self._on_serving = on_serving
        self._metrics = metrics
        self._batched = batched
        self._before_serving = before_serving
        self.loaded: Mapping[int, ServedModel] = {}
        self._statuses: dict[int, ModelVersionStatus] = {}
        self._lock = threading.Lock()
        self._seen: dict[int, _Fingerprint] = {}
        self._broken: dict[int, _Fingerprint] = {}
        self._last_problem = ""
        self.ready = threading.Event()
        self._tried = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="version-watcher", daemon=True)

    def start(self) -> None:
        """Begins to watch, in a thread of its own; a watch that has begun goes on."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Tells the watch to end, and returns at once."""
        self._stop.set()

    def join(self) -> None:
        """Waits for the end of a watch that was told to, and so for a load under way."""
        if self._thread.ident is not None:
            self._thread.join()

    def statuses(self) -> list[ModelVersionStatus]:
        """Every version seen and what became of it, highest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    def wait_until_tried(self, timeout: float) -> None:
        """Waits until some version was loaded or could not be."""
        self._tried.wait(timeout)

    def what_is_known(self) -> str:
        """Of each version, while none is served."""
        known = [
            f"version {status.version}: {status.status.error_message or 'still loading'}" for status in self.statuses()
        ]
        return "; ".join(known) or f"{self._base_path} has no directory <integer>/ with a complete SavedModel"

    def _watch(self) -> None:
        while True:
            try:
                self._report_once(self._look())
            except OSError as error:
                self._report_once(f"{self._base_path}: cannot be read: {error.strerror}")
            if self._stop.wait(self._poll_seconds):
                return

    def _look(self) -> str:
        """Loads and unloads; returns what stays wrong."""
        model = self.model
        found = self._find()
        self._forget_all_but(found)
        wanted: list[int] = []
        for version in sorted(model.specific & found.keys() if model.specific else found, reverse=True):
            if model.latest is not None and len(wanted) == model.latest:
                break
            if self._stop.is_set():
                return ""
            if version in self.loaded or (
                self._is_loadable(version, found[version]) and self._load(version, found[version])
            ):
                wanted.append(version)
        if wanted:
            self._keep(wanted)
        missing = sorted(model.specific - found.keys())
        if not missing:
            return ""
        return f"{self._base_path}: has no version {', '.join(map(str, missing))}, which {model.name} is to serve"

    def _find(self) -> dict[int, Path]:
        """The directories that hold a version, by number."""
        found = {}
        for path in self._base_path.iterdir():
            version = version_of(path.name)
            if version is not None and version <= _MAX_VERSION and (path / SAVED_MODEL_FILE).is_file():
                found[version] = path
        return found

    def _forget_all_but(self, found: dict[int, Path]) -> None:
        for record in (self._seen, self._broken):
            for version in record.keys() - found.keys():
                del record[version]
        with self._lock:
            for version in self._statuses.keys() - found.keys():
                if self._statuses[version].state == ModelVersionStatus.END:
                    del self._statuses[version]

    def _is_loadable(self, version: int, path: Path) -> bool:
        fingerprint = _fingerprint(path)
        settled = self._seen.get(version) == fingerprint
        self._seen[version] = fingerprint
        return settled and self._broken.get(version) != fingerprint

    def _load(self, version: int, path: Path) -> bool:
        self._set_status(version, ModelVersionStatus.LOADING)
        _logger.info("loading version %d from %s", version, path)
        start = time.perf_counter()
        try:
            model = ServedModel(path, version, self._batched)
            warmed_up = model.warm_up()
        except Exception as error:
            self._metrics.load(str(path), loaded=False, seconds=time.perf_counter() - start)
            self._broken[version] = self._seen[version]
            self._before_serving(self._base_path, version)
            self._set_status(version, ModelVersionStatus.END, error)
            self._tried.set()
            _logger.error(
                "version %d cannot be served, %s: %s: %s",
                version,
                f"version {max(self.loaded)} goes on" if self.loaded else "and there is no other yet",
                path,
                _message(error),
            )
            return False
        self._metrics.load(str(path), loaded=True, seconds=time.perf_counter() - start)
        self._before_serving(self._base_path, version)
        self.loaded = {**self.loaded, version: model}
        self._set_status(version, ModelVersionStatus.AVAILABLE)
        _logger.info("serving version %d (%d warmup requests)", version, warmed_up)
        self.ready.set()
        self._tried.set()
        self._on_serving()
        return True

    def _keep(self, wanted: Collection[int]) -> None:
        before, self.loaded = self.loaded, {v: model for v, model in self.loaded.items() if v in wanted}
        for version in before.keys() - self.loaded.keys():
            # Requests under way hold the old version; its memory is freed after the last of them.
            self._set_status(version, ModelVersionStatus.END)

    def _set_status(self, version: int, state: int, error: Exception | None = None) -> None:
        status = ModelVersionStatus(version=version, state=state)
        if error is not None:
            status.status.error_code = error.error_code if isinstance(error, tf.errors.OpError) else _UNKNOWN_ERROR
            status.status.error_message = _message(error)
        with self._lock:
            self._statuses[version] = status

    def _report_once(self, problem: str) -> None:
        changed = problem != self._last_problem
        self._last_problem = problem
        if problem and changed:
            _logger.warning("%s", problem)


def _fingerprint(path: Path) -> _Fingerprint:
    files = set()
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                stat = os.stat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            files.add((os.path.relpath(os.path.join(folder, name), path), stat.st_size, stat.st_mtime_ns))
    return frozenset(files)


def _message(error: Exception) -> str:
    text = error.message if isinstance(error, tf.errors.OpError | RequestError) else str(error)
    return f"{type(error).__name__}: {text}"[:MAX_ERROR_LENGTH]
