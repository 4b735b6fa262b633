from __future__ import annotations

import ast
import builtins
from pathlib import Path

ROOT = Path(__file__).parents[3]
NOT_FOR_A_PERSON = {"CtrError", "Interrupted"}
"""The base itself, and a signal's way out of the program."""


def _is_exception(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def test_every_error_of_our_own_derives_from_the_one_base() -> None:
    trees = [ast.parse(file.read_text()) for file in ROOT.glob("ctr/*/**/*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases} for node in classes}
    ours = {"CtrError"}
    while more := {name for name, of in bases.items() if of & ours} - ours:
        ours |= more
    assert {"ConfigError", "RunFailed", "ServingError", "RegistrationError"} <= ours
    errors = {name for name, of in bases.items() if any(map(_is_exception, of))}
    assert errors - ours - NOT_FOR_A_PERSON == set()
