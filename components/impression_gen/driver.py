"""The driver of ImpressionGen: which span is read, and what of its files the cache compares."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from tfx.components.example_gen import driver, input_processor
from tfx.proto import example_gen_pb2, range_config_pb2

from components.files import stat
from components.impression_gen.sources import find_logs
from components.impression_gen.spans import find_span, has_span


class Driver(driver.Driver):
    """TFX's driver of file-based ExampleGens, for which a path is a name; TFX's own makes a pattern of it."""

    def get_input_processor(
        self,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> input_processor.InputProcessor:
        """What answers for the one split that the component has."""
        return LogProcessor(input_base_uri or "", splits, range_config)


class LogProcessor(input_processor.InputProcessor):
    """Finds the files of a log.

    Args:
      base: folder of the log.
      splits: one, whose ``pattern`` is the name below it, with or without a place for a span.
      range_config: one span; None takes the latest.
    """

    def __init__(
        self,
        base: str,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
    ) -> None:
        super().__init__(splits, range_config)
        (split,) = splits
        self._base = base
        self._path = os.path.join(base, split.pattern)
        self._span = range_config.static_range.start_span_number if range_config else None

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        """The span, 0 where the name has no place for one, and its version."""
        if not has_span(self._path):
            return 0, None
        found = find_span(self._path, self._span)
        self._path = found.path
        return found.number, found.version

    def get_pattern_for_span_version(self, pattern: str, span: int, version: int | None) -> str:
        """The name below the base, of the span that was resolved."""
        return self._path[len(os.path.join(self._base, "")) :] if self._base else self._path

    def get_latest_span(self) -> int:
        """The latest span."""
        return find_span(self._path, None).number

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Changes with a file's name, size or time."""
        files = find_logs(self._path).files
        stats = [(os.path.relpath(file, self._path), *stat(file)) for file in files]
        digest = hashlib.sha256(repr(stats).encode()).hexdigest()
        return f"num_files:{len(files)},total_bytes:{sum(size for _, size, _ in stats)},sha256:{digest}"
