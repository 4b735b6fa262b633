"""What there is to release, and what of it is served. Loads no TensorFlow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from ctr.components.blessing import NotBlessed, read_blessing
from ctr.models.errors import CtrError
from ctr.pipeline.output.history import History
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.release.change import Versions
from ctr.pipeline.release.record import read
from ctr.serving.client import ServingError
from ctr.serving.management import ServerManagement
from ctr.serving.version_folders import version_of

_LAST = 5


def runs_of(layout: Layout) -> dict[int, str]:
    """Version -> the run that pushed it; nothing where there is no metadata."""
    with contextlib.suppress(CtrError):
        return {version: runs[-1] for version, runs in History(layout).pushed().items()}
    return {}


def status(versions: Versions, layout: Layout, servers: Sequence[ServerManagement] = ()) -> dict[str, Any]:
    """The JSON document of ``release status``.

    Raises:
      ConfigError: if the file with the labels cannot be read.
      CtrError: if the record cannot.
    """
    file = versions.file()
    labels = file.labels.by_name() if file.labels else {}
    there = {number for name in os.listdir(versions.base) if (number := version_of(name)) is not None}
    runs, answers = runs_of(layout), {server.target: _answer(server, versions.model) for server in servers}
    return {
        "model": versions.model,
        "folder": versions.base,
        "models_config": versions.config_path if os.path.exists(versions.config_path) else None,
        "labels": labels,
        "versions": [
            {
                **_version(versions, number),
                "labels": [label for label, named in labels.items() if named == number],
                "run_id": runs.get(number),
                "servers": {target: states.get(str(number)) for target, states in answers.items()},
            }
            for number in sorted({*there, *labels.values()}, reverse=True)
        ],
        "servers": answers,
        "changes": [change.model_dump(mode="json") for change in read(versions.base)[-_LAST:]],
    }


def _version(versions: Versions, number: int) -> dict[str, Any]:
    try:
        blessing = read_blessing(versions.folder(number))
    except NotBlessed as error:
        return {"version": number, "blessed": False, "why_not": str(error), "auc": None}
    auc = None if blessing.auc is None else blessing.auc.model_dump(mode="json")
    return {"version": number, "blessed": blessing.verdict.blessed, "why_not": None, "auc": auc}


def _answer(server: ServerManagement, model: str) -> dict[str, str]:
    try:
        return {str(version): state for version, state in server.states(model).items()}
    except ServingError as error:
        return {"error": str(error)}
