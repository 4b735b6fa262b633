"""Executors by path, so that a process which builds or compiles a DAG imports none of them."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec
from tfx.utils.import_utils import import_class_by_path


class PythonExecutor(ExecutorClassSpec):
    """As TFX's ``ExecutorClassSpec``.

    Args:
      class_path: dotted name of the class.
    """

    def __init__(self, class_path: str) -> None:
        self._path = class_path
        self.extra_flags: list[str] = []

    @property
    def class_path(self) -> str:
        """Dotted name of the class."""
        return self._path

    @property
    def executor_class(self) -> Any:
        """The class, which is imported now."""
        return import_class_by_path(self._path)


class BeamExecutor(PythonExecutor, BeamExecutorSpec):
    """As TFX's ``BeamExecutorSpec``; see :class:`PythonExecutor`."""

    def __init__(self, class_path: str) -> None:
        super().__init__(class_path)
        self.beam_pipeline_args: list[Any] = []
