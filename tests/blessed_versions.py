"""Versions as the Pusher leaves them, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from card_facts import make_evaluation, value

from ctr.components.blessing import BLESSING_FILE, Blessing, sha256


def bless(folder: Path, **changes: Any) -> Path:
    """Puts a blessing beside the files of a version."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                files[str(path.relative_to(folder))] = sha256(file)
    blessing = Blessing(
        served_model_name="ctr",
        judged_set="contemporaneous",
        auc=value(0.8912),
        verdict=make_evaluation().verdict,
        artifacts={"model": 4},
        execution="7",
        data_digest="sha256:0",
        files=files,
    )
    (folder / BLESSING_FILE).write_text(blessing.model_copy(update=changes).model_dump_json())
    return folder


def version(base: Path, number: int, **changes: Any) -> Path:
    """A version without a model that could be loaded."""
    (base / str(number) / "variables").mkdir(parents=True)
    (base / str(number) / "saved_model.pb").write_bytes(b"graph")
    (base / str(number) / "variables" / "variables.data-00000-of-00001").write_bytes(b"weights")
    return bless(base / str(number), **changes)
