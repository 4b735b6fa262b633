"""What proves of a version that it was blessed: a file in its folder, readable without TensorFlow or TFX.

The Pusher writes it for blessed models alone, with the digest of each file that a server loads. So a folder that was
copied there from elsewhere, or changed since, can be told from a version that was pushed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import IO, Final

from pydantic import ValidationError

from ctr.components.scoring.evaluation import Value, Verdict
from ctr.models.errors import CtrError
from ctr.models.section import Record

BLESSING_FILE: Final = "blessing.json"
"""In the folder of a version, JSON of :class:`Blessing`. Servers do not look at it."""
_PUSHED_ANEW: Final = "'run' with the same settings pushes the model anew, the rest comes from the cache"


class NotBlessed(CtrError):
    """A version that no label may name; the message says what is missing and what to do."""


class Blessing(Record):
    """Of one version."""

    served_model_name: str
    judged_set: str
    """The negative set of the AUC."""
    auc: Value | None
    """None where it was not measured."""
    verdict: Verdict
    artifacts: dict[str, int]
    """What was pushed and what it was judged by -> its number in ML Metadata."""
    execution: str
    """Number of the push there."""
    data_digest: str
    """Of the log."""
    files: dict[str, str]
    """Path below the folder -> SHA-256, of the SavedModel."""


def sha256(file: IO[bytes]) -> str:
    """Of the rest of an open file, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def read_blessing(folder: str) -> Blessing:
    """The blessing in the folder of a version.

    Raises:
      NotBlessed: if there is no version, or no blessing in it.
    """
    if not os.path.isdir(folder):
        raise NotBlessed(f"{folder}: no such version")
    path = os.path.join(folder, BLESSING_FILE)
    try:
        with open(path, "rb") as file:
            return Blessing.model_validate_json(file.read())
    except FileNotFoundError:
        raise NotBlessed(
            f"{folder}: nothing says that this version was blessed, {BLESSING_FILE} is missing. It was copied there by "
            f"hand, or pushed by an older version of this project; {_PUSHED_ANEW}"
        ) from None
    except (OSError, ValidationError) as error:
        raise NotBlessed(f"{path}: cannot be read: {str(error).splitlines()[0]}; {_PUSHED_ANEW}") from error


def check_blessed(folder: str, served_model_name: str) -> Blessing:
    """The blessing of a version whose files are those that were pushed; reads all of them.

    Raises:
      NotBlessed: if it is no version of this model, was not blessed, or is not what was pushed.
    """
    blessing = read_blessing(folder)
    if blessing.served_model_name != served_model_name:
        raise NotBlessed(
            f"{folder}: was pushed as model {blessing.served_model_name!r}, and this is model {served_model_name!r}"
        )
    if not blessing.verdict.blessed:
        raise NotBlessed(f"{folder}: its {BLESSING_FILE} says that it was not blessed")
    for name, expected in _changed(folder, blessing.files).items():
        raise NotBlessed(
            f"{os.path.join(folder, name)}: {expected}; it is not the model that was judged. {_PUSHED_ANEW}"
        )
    return blessing


def _changed(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """The files that are not as they were pushed, and what is wrong with each."""
    found = {}
    for name, digest in files.items():
        try:
            with open(os.path.join(folder, name), "rb") as file:
                if sha256(file) != digest:
                    found[name] = "was changed since it was pushed"
        except OSError as error:
            found[name] = f"cannot be read: {error.strerror}"
    return found
