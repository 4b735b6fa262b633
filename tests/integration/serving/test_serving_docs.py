"""docs/serving.md does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctr.serving.client import RankingClient
from ctr.serving.impressions import load_impression
from ctr.serving.server import ModelServer

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


def test_the_json_is_an_impression_that_gets_an_answer(shared_client: RankingClient, tmp_path: Path) -> None:
    (tmp_path / "impression.json").write_text(block("json"), encoding="utf-8")
    ranking = shared_client.rank(load_impression(tmp_path / "impression.json"))
    assert [candidate.item_id for candidate in ranking.candidates] == [3830808, 2576651]


@pytest.mark.slow
def test_the_python_without_our_client_gets_an_answer(shared_server: ModelServer, tmp_path: Path) -> None:
    code = block("python").replace(":8500", f":{shared_server.port}")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[0.7310586 0.5      ]]", done.stderr
