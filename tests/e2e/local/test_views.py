"""What docs/views.md and the notebook show, run on a run."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from pages import ROOT, blocks
from trained_run import Trained

CODE = [block.text for block in blocks(ROOT / "docs" / "views.md") if block.language == "python"]
NOTEBOOK = json.loads((ROOT / "docs" / "open-a-run.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def _where_a_reader_is(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which ``output/demo`` is the run."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "demo").symlink_to(trained.output)
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")


def answers(cells: list[str]) -> list[Any]:
    """What a notebook shows under each cell: the value of its last line, where that is an expression."""
    names: dict[str, Any] = {}
    found: list[Any] = []
    for cell in cells:
        *before, last = cell.rstrip().splitlines()
        try:
            shown = compile(last, "cell", "eval")
        except SyntaxError:
            exec(cell, names)  # noqa: S102 (ours)
            found.append(None)
        else:
            exec("\n".join(before), names)  # noqa: S102
            found.append(eval(shown, names))  # noqa: S307
    return found


@pytest.mark.usefixtures("_where_a_reader_is")
def test_the_notebook_opens_a_run(trained: Trained) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        _, everything, new, worst, _, widget = answers(CELLS)
    report = trained.result.report
    assert said.getvalue().startswith(f"{report.model}, preset ")
    whole = report.evaluation.of(report.evaluation.judged_set)
    assert whole is not None
    assert everything.loc[report.model, "auc"] == whole.metrics["model"]["auc"].value
    assert everything.loc[report.name_of("logistic_regression"), "lead low"] is not None
    assert set(new.index) == set(everything.index)
    assert 0 < len(worst) <= 10
    assert (worst["low"] <= worst["value"]).all()
    assert type(widget).__name__ == "SlicingMetricsViewer"
    assert all(not cell.get("outputs") for cell in NOTEBOOK["cells"]), "clear the outputs before a commit"


@pytest.mark.usefixtures("_where_a_reader_is")
@pytest.mark.parametrize("code", CODE, ids=["TFMA", "TFDV"])
def test_a_view_loads_what_a_run_wrote(code: str) -> None:
    answers([code])
