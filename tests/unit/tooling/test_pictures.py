"""The pictures of the pages are those that their script draws, and README's result is the measured one."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from pages import ROOT
from report_sample import evaluation, make_report

SCRIPT = runpy.run_path(str(ROOT / "docs/pictures/draw.py"))


@pytest.mark.parametrize("name", SCRIPT["pictures"]())
def test_a_picture_is_what_is_drawn(name: str) -> None:
    """``.venv/bin/python docs/pictures/draw.py`` draws them again."""
    file = ROOT / "docs/pictures" / name
    assert file.read_text(encoding="utf-8") == SCRIPT["pictures"]()[name]
    xml.etree.ElementTree.parse(file)  # noqa: S314
    assert f"docs/pictures/{name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_arrow_begins_and_ends_at_its_box() -> None:
    boxes = {**SCRIPT["STEPS"], **SCRIPT["THINGS"]}

    def touches(name: str, x: int, y: int) -> bool:
        box, width, height = boxes[name], SCRIPT["WIDTH"], SCRIPT["HEIGHT"]
        inside = box.x <= x <= box.x + width and box.y <= y <= box.y + height
        return inside and (x in (box.x, box.x + width) or y in (box.y, box.y + height))

    for start, end, points in SCRIPT["ARROWS"]:
        assert touches(start, *points[0]), (start, end)
        assert touches(end, *points[-1]), (start, end)
        assert all(x == u or y == v for (x, y), (u, v) in pairwise(points)), (start, end)


def test_the_report_that_is_shown_has_the_rows_of_a_report(tmp_path: Path) -> None:
    text = (ROOT / "docs/pictures/report.txt").read_text(encoding="utf-8")
    assert text.startswith("din, preset demo: BLESSED, version ")
    report = make_report(evaluation=evaluation(blessed=False), pushed_to="/folder")
    (tmp_path / "report.json").write_text(report.model_dump_json())
    drawn = SCRIPT["excerpt"](tmp_path)
    assert "/folder" not in drawn

    def labels(of: str) -> list[str]:
        # What stands before the first number of a table's row.
        return re.findall(r"^  (\S.*?) {2,}[-+\d]", of, re.MULTILINE)

    assert labels(text) == labels(drawn)
    assert len(labels(text)) > 10


def test_the_result_in_the_readme_is_the_measured_one() -> None:
    measured = (ROOT / "docs/measurements/models.md").read_text(encoding="utf-8").split("## A generated log")[0]
    result = (ROOT / "README.md").read_text(encoding="utf-8").split("## One result")[1].split("## Use it")[0]
    rows = re.findall(r"^\| ([\w ]+?)(?: on match features)? \| (0\.\d{4}(?: ± 0\.\d{4})?) \|", result, re.MULTILINE)
    assert len(rows) == 7
    for name, value in rows:
        wanted = name.lower().removeprefix("item ")
        found = re.search(rf"^\| \*?{wanted}\*? \| (?:yes)? ?\| [^|]* \| [^|]* \| ([^|]*) \|", measured, re.MULTILINE)
        assert found is not None, name
        assert found[1] == value, name
