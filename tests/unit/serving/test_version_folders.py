from __future__ import annotations

from pathlib import Path

import pytest

from ctr.serving.version_folders import incoming_folder, newest_version, next_version


@pytest.mark.parametrize(
    ("names", "newest", "following"),
    [
        ([], None, 5),
        (["3"], 3, 5),
        (["3", "10", "9"], 10, 11),
        # What is claimed is no version yet, and what only looks like a number never is one.
        (["3", Path(incoming_folder("", 7)).name], 3, 8),
        (["x", "4.0", "-9", "٩", ".8"], None, 9),
    ],
)
def test_the_newest_version_and_the_one_after_all(
    tmp_path: Path, names: list[str], newest: int | None, following: int
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    assert newest_version(str(tmp_path)) == newest
    assert next_version(names, first=5) == following


def test_without_a_folder_there_is_no_version(tmp_path: Path) -> None:
    assert newest_version(str(tmp_path / "none")) is None
