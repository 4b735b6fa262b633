"""TFX is known to a step's ``component.py`` alone, and no step knows another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

COMPONENTS = Path(__file__).resolve().parents[3] / "components"
STEPS = {file.parent.name for file in COMPONENTS.glob("*/component.py")}


def imports() -> Iterator[tuple[str, str]]:
    """File below components/, and what it imports, wherever in the file that stands."""
    for file in COMPONENTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports are written in full here"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                yield file.relative_to(COMPONENTS).as_posix(), name


def test_tfx_is_imported_by_shells_alone() -> None:
    found = {file for file, name in imports() if name.split(".")[0] == "tfx"}
    assert found == {f"{step}/component.py" for step in STEPS} | {"artifacts.py"}


def test_no_step_imports_another_and_no_shared_room_imports_a_step() -> None:
    wrong = [
        (file, name)
        for file, name in imports()
        if name.startswith("components.") and (of := name.split(".")[1]) in STEPS and file.split("/")[0] != of
    ]
    assert not wrong
