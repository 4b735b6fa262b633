"""Descriptions of logs by name or file, and the line of a file that an error is about."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from ctr.components.dataset import DatasetConfig
from ctr.models.errors import ConfigError
from ctr.models.validation import instead_of, problems

PUBLIC: Final = "public"
"""The one of UserBehavior.csv, which a configuration has where it names none."""
_SETTING: Final = re.compile(r"ingest\.dataset\.([a-z_]+(?:\.[a-z_]+)*)")


def dataset_names() -> tuple[str, ...]:
    """The descriptions that ship with the package, sorted."""
    files = resources.files(__package__).joinpath("datasets").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def read_dataset(name: str) -> DatasetConfig:
    """Reads a description.

    Args:
      name: one of :func:`dataset_names`, or the path of a file that ends in ``.yaml``.

    Raises:
      ConfigError: if there is none, or it cannot be used; the message names each field and its line.
    """
    text = _text(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"dataset: {name} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"dataset: {name} holds no settings; 'inspect' writes a first description")
    try:
        return DatasetConfig.model_validate(values)
    except ValidationError as error:
        wrong = [problem.removeprefix(": ") for problem in problems(error, DatasetConfig, whole="")]
        raise ConfigError("\n".join(f"{_place(name, text, each)}: {each}" for each in wrong)) from error


def located(message: str, name: str) -> str:
    """A message with the line of the description that a setting named in it stands in."""
    found = _SETTING.search(message)
    if found is None:
        return message
    try:
        return f"{message}\n({_place(name, _text(name), found[1])})"
    except ConfigError:
        return message


def _text(name: str) -> str:
    own = name.endswith(".yaml")
    if not own and name not in dataset_names():
        raise ConfigError(f"dataset: {name!r} is unknown; {instead_of(name, dataset_names())}, or FILE.yaml")
    file = Path(name) if own else resources.files(__package__).joinpath(f"datasets/{name}.yaml")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"dataset: {name} cannot be read: {error}") from error


def _place(name: str, text: str, problem: str) -> str:
    """The file and, of the deepest key that a problem begins with, the line."""
    dotted = re.match(r"[\w.]+", problem)
    line = 1 + _line(yaml.compose(text, yaml.SafeLoader), dotted[0].split(".") if dotted else [])
    return f"{name if name.endswith('.yaml') else f'dataset {name}'}, line {line}"


def _line(node: Any, keys: list[str], above: int = 0) -> int:
    """Counted from 0, of the deepest key that is there."""
    for key, value in node.value if keys and isinstance(node, yaml.MappingNode) else ():
        if key.value == keys[0]:
            return _line(value, keys[1:], int(key.start_mark.line))
    return above
