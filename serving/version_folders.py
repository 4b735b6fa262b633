"""The folders of a model's versions, and those where a version lies while it is copied; without TensorFlow.

A version is a folder whose name is a number, and the largest is served. What a killed push left is found here, too.
"""

from __future__ import annotations

import glob
import os
from typing import Final

SAVED_MODEL_FILE: Final = "saved_model.pb"
"""A folder without it is no version."""

_PREFIX: Final = "."
_SUFFIX: Final = ".incoming"


def incoming_folder(base_dir: str, version: int) -> str:
    """Hidden, beside the versions: a server takes folders alone whose name is a number."""
    return os.path.join(base_dir, f"{_PREFIX}{version}{_SUFFIX}")


def lock_file(incoming: str) -> str:
    """Held by the push that writes into the folder."""
    return os.path.join(incoming, "lock")


def incoming_folders(base_dir: str) -> list[str]:
    """What is being copied, or was by a push that was killed."""
    return sorted(glob.glob(os.path.join(glob.escape(base_dir), f"{_PREFIX}*{_SUFFIX}")))


def version_of(name: str) -> int | None:
    """The version that a folder of this name holds; None for other names."""
    return int(name) if name.isascii() and name.isdigit() else None


def next_version(names: list[str], first: int) -> int:
    """``first``, or the number after all that folders of these names hold or claim."""
    taken = [version_of(name.removeprefix(_PREFIX).removesuffix(_SUFFIX)) for name in names]
    return max([first, *(version + 1 for version in taken if version is not None)])


def newest_version(base_dir: str) -> int | None:
    """The largest version in a folder of this machine; None where there is none."""
    names = os.listdir(base_dir) if os.path.isdir(base_dir) else []
    return max((version for name in names if (version := version_of(name)) is not None), default=None)
