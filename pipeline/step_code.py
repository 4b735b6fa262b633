"""Which source files a step runs, and their digest: what of a step's cache key is code.

TFX's key knows a step's inputs and parameters, and the name of its executor, not what stands in it. So each node gets
the digest of its code as one more parameter, which ML Metadata then has on record, too.

The files are found and not listed: those of the executor's module, of every module that a parameter names (the model
that the Trainer builds, the Evaluator's metrics), and of all that these import, wherever in the module it stands.
Files are read, never run. Libraries are not part of it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ctr
from ctr.models.registration import plugin_packages

if TYPE_CHECKING:
    from tfx.dsl.components.base.base_node import BaseNode
    from tfx.dsl.components.base.executor_spec import ExecutorClassSpec

CODE_KEY: Final = "code_sha256"
"""The parameter with the digest."""

_DOTTED_NAME: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class Sources:
    """The Python files of some packages.

    Args:
      packages: name of a top-level package -> its folder.
    """

    def __init__(self, packages: Mapping[str, Path]) -> None:
        self._packages = dict(packages)
        self._imports: dict[str, frozenset[str]] = {}

    def digest(self, names: Iterable[str]) -> str:
        """SHA-256 of the files that :meth:`files` finds, in hexadecimal; it changes with any of their bytes."""
        whole = hashlib.sha256()
        for module, file in sorted(self.files(names).items()):
            whole.update(f"{module} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return whole.hexdigest()

    def files(self, names: Iterable[str]) -> dict[str, Path]:
        """Module -> file of every module of these packages that is loaded with the named ones.

        Args:
          names: of modules, or of what stands in one (``ctr.models.dnn.DNN``); others than these packages' are passed
            over.
        """
        found: dict[str, Path] = {}
        waiting = [module for name in names if (module := self._module(name))]
        while waiting:
            module = waiting.pop()
            file = self._file(module)
            if module in found or file is None:
                continue
            found[module] = file
            if "." in module:
                # Loading it runs the packages above it.
                waiting.append(module.rpartition(".")[0])
            waiting += self._imports_of(module, file)
        return found

    def _file(self, module: str) -> Path | None:
        top, *rest = module.split(".")
        if top not in self._packages:
            return None
        path = self._packages[top].joinpath(*rest)
        files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
        return next((file for file in files if file.is_file()), None)

    def _module(self, name: str) -> str | None:
        while name and self._file(name) is None:
            name = name.rpartition(".")[0]
        return name or None

    def _imports_of(self, module: str, file: Path) -> frozenset[str]:
        if module not in self._imports:
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            named = _imported_names(ast.parse(file.read_bytes(), str(file)), package)
            self._imports[module] = frozenset(filter(None, map(self._module, named)))
        return self._imports[module]


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        # A name may be a module of its own.
        yield from (f"{base}.{alias.name}" for alias in node.names)
    else:
        children: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # What stands there is not loaded when the step runs.
            children = node.orelse
        for child in children:
            yield from _imported_names(child, package)


def loaded_names(executor: ExecutorClassSpec, parameters: Mapping[str, Any]) -> list[str]:
    """What a node loads by name: its executor, and whatever its parameters name; other words may be among them."""
    texts = [value for key, value in parameters.items() if isinstance(value, str) and key != CODE_KEY]
    return [executor.class_path, *(name for text in texts for name in _DOTTED_NAME.findall(text))]


def add_code(nodes: Iterable[BaseNode]) -> None:
    """Makes the code of each node that has an executor one of its parameters."""
    for node in nodes:
        executor = getattr(node, "executor_spec", None)
        if hasattr(executor, "class_path"):
            node.exec_properties[CODE_KEY] = project_sources().digest(loaded_names(executor, node.exec_properties))


def project_sources() -> Sources:
    """Of this project and its plugins, as they were when the process first asked."""
    return _sources_with(tuple(sorted(plugin_packages().items())))


@functools.cache
def _sources_with(plugins: tuple[tuple[str, Path], ...]) -> Sources:
    return Sources({**dict(plugins), "ctr": Path(ctr.__file__).parent})
