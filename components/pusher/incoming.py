"""Where a version lies while it is copied, and how what a killed push left there is found; without TFX."""

from __future__ import annotations

import glob
import os
from typing import Final

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
    """The version that a folder holds or claims; None for other names."""
    number = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(number) if number.isascii() and number.isdigit() else None
