"""The arrows between the rooms, from top to bottom; README's picture is this list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {link.name for link in ROOT.glob("ctr/*") if link.is_symlink()}
STEPS = {file.parent.name for file in ROOT.glob("components/*/component.py")}
SHELLS = ("component", "driver", "executor")

# Room -> the rooms that it may import. A shell is the component.py of a step, with its driver.py and
# executor.py, an engine the rest of its folder.
ARROWS = {
    "commands": "sweep runners release dag output process settings engines generator shared serving models",
    "sweep": "runners step_code output process settings engines shared serving models",
    "runners": "dag output process settings shared models",
    "release": "output shared serving models",
    "dag": "step_code output settings shells engines models",
    "step_code": "models",
    "output": "process settings shared serving models",
    "process": "shared",
    "settings": "shared models",
    "shells": "engines shared models",
    "engines": "shared serving models",
    "generator": "shared models",
    "shared": "models",
    "serving": "models",
    "models": "",
}


def room(module: str) -> tuple[str, str | None]:
    """Of a dotted name; for a shell or an engine, with its step."""
    _, top, first, *rest = [*module.split("."), "", "", ""]
    if top == "components":
        return ("shared", None) if first not in STEPS else ("shells" if rest[0] in SHELLS else "engines", first)
    return ("commands" if top == "__main__" else first if top == "pipeline" else top), None


def imports() -> Iterator[tuple[str, str]]:
    """Module of the project, and what it imports, wherever in the file that stands."""
    for file in sorted([*ROOT.glob("ctr/*.py"), *ROOT.glob("ctr/*/**/*.py")]):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.level == 0, f"{file}: imports are written in full here"
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)


def picture() -> str:
    """For README."""
    width = max(map(len, ARROWS))
    return "\n".join(f"{name:{width}} -> {below}".rstrip(" ->") for name, below in ARROWS.items())


def test_arrows_point_down_and_steps_know_nothing_of_each_other() -> None:
    found = set()
    for module, imported in imports():
        assert imported.split(".")[0] not in ROOMS, f"{module} imports {imported}: every import starts at ctr"
        if not imported.startswith("ctr.") or imported == "ctr.__version__":
            continue
        (here, step), (there, of) = room(module), room(imported)
        if here == there:
            assert step == of, f"{module} imports {imported}"
        elif step is not None and of is not None:
            assert (here, step) == ("shells", of), f"{module} imports {imported}"
        assert here == there or there in ARROWS[here].split(), f"{module} imports {imported}"
        found.add((here, there))
    # An arrow that nothing needs would allow what nobody meant.
    assert {(here, there) for here, below in ARROWS.items() for there in below.split()} <= found
    order = list(ARROWS)
    assert all(order.index(there) > order.index(here) for here, there in found if here != there)


def test_tfx_is_known_to_shells_alone() -> None:
    knows = {room(module) for module, imported in imports() if imported.split(".")[0] == "tfx"}
    assert {here for here, _ in knows} <= {"runners", "dag", "step_code", "shells", "shared"}
    shared = {module for module, imported in imports() if imported.startswith("tfx.") and room(module)[0] == "shared"}
    assert shared == {"ctr.components.artifacts", "ctr.components.executors"}


def test_the_picture_in_the_readme_is_this_list() -> None:
    assert f"```text\n{picture()}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    print(picture())
