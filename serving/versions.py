"""Which version of a model is served: a watch on ``<base>/<integer version>/`` directories."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from ctr.serving.model import MAX_ERROR_LENGTH, RequestError, ServedModel
from ctr.serving.version_folders import SAVED_MODEL_FILE, version_of

_MAX_VERSION: Final = 2**63 - 1
_UNKNOWN_ERROR: Final = 2
"""``tensorflow.error.UNKNOWN``."""

_Fingerprint = frozenset[tuple[str, int, int]]

_logger = logging.getLogger(__name__)


class VersionWatcher:
    """Keeps the highest version of a base directory loaded.

    A version is a directory whose name is an integer and that holds ``saved_model.pb``; all others are ignored. It is
    loaded once two looks in a row find the same files in it, so that a copy under way is left alone. It then runs
    its warmup requests, and only then replaces the version before it. A version that cannot be loaded is reported and
    tried again when its files change; the one before it goes on serving. If the served version's directory goes, the
    highest of those that are left takes over; while none is left, it goes on serving.

    Args:
      base_path: the directory of the versions; it may appear later.
      poll_seconds: time between two looks.
      on_serving: called after each switch to a version, from the watching thread.

    Attributes:
      live: the version that takes requests; None before the first is loaded.
      ready: set from then on.
    """

    def __init__(self, base_path: Path, poll_seconds: float, on_serving: Callable[[], None]) -> None:
        self._base_path = base_path
        self._poll_seconds = poll_seconds
        self._on_serving = on_serving
        self.live: ServedModel | None = None
        self._statuses: dict[int, ModelVersionStatus] = {}
        self._lock = threading.Lock()
        self._seen: dict[int, _Fingerprint] = {}
        self._broken: dict[int, _Fingerprint] = {}
        self._last_problem = ""
        self.ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="version-watcher", daemon=True)

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch; waits for a load under way."""
        self._stop.set()
        self._thread.join()

    def statuses(self) -> list[ModelVersionStatus]:
        """Every version seen and what became of it, highest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    def _watch(self) -> None:
        while True:
            try:
                self._look()
                self._last_problem = ""
            except OSError as error:
                self._report_once(f"{self._base_path}: cannot be read: {error.strerror}")
            if self._stop.wait(self._poll_seconds):
                return

    def _look(self) -> None:
        found = self._find()
        self._forget_all_but(found)
        for version in sorted(found, reverse=True):
            if self.live is not None and version == self.live.version:
                return
            if self._is_loadable(version, found[version]) and self._load(version, found[version]):
                return

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
        try:
            model = ServedModel(path, version)
            warmed_up = model.warm_up()
        except Exception as error:
            self._broken[version] = self._seen[version]
            self._set_status(version, ModelVersionStatus.END, error)
            _logger.error(
                "version %d cannot be served, %s: %s: %s",
                version,
                f"version {self.live.version} goes on" if self.live else "and there is no other yet",
                path,
                _message(error),
            )
            return False
        previous, self.live = self.live, model
        self._set_status(version, ModelVersionStatus.AVAILABLE)
        if previous is not None:
            # Requests under way hold the old version; its memory is freed after the last of them.
            self._set_status(previous.version, ModelVersionStatus.END)
        self._on_serving()
        _logger.info("serving version %d (%d warmup requests)", version, warmed_up)
        self.ready.set()
        return True

    def _set_status(self, version: int, state: int, error: Exception | None = None) -> None:
        status = ModelVersionStatus(version=version, state=state)
        if error is not None:
            status.status.error_code = error.error_code if isinstance(error, tf.errors.OpError) else _UNKNOWN_ERROR
            status.status.error_message = _message(error)
        with self._lock:
            self._statuses[version] = status

    def _report_once(self, problem: str) -> None:
        if problem != self._last_problem:
            self._last_problem = problem
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
