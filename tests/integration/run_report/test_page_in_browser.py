"""The page as a browser shows it: it fits, breaks nothing, asks for nothing, and a person can do without a mouse."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import BROWSER, Page, browser
from report_sample import AFTERWARDS, REFUSED, evaluation, make_report

from ctr.components.run_report.page import render_page
from ctr.components.run_report.report import Afterwards

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian's package is chromium")

AXE = "4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""Of the package in npm's registry, as its lock files have it."""
WIDTHS = (360, 768, 1440)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    first = make_report(evaluation=evaluation(blessed=False, slices=False), epochs=())
    reports = {
        "blessed": (make_report(), AFTERWARDS),
        "refused": (make_report(**REFUSED), AFTERWARDS),
        "first": (first, Afterwards()),
    }
    for name, of in reports.items():
        (folder / f"{name}.html").write_text(render_page(*of), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds what keeps people out."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("no npm here, which fetches axe-core")
    command = ["npm", "pack", f"axe-core@{AXE}", "--silent", "--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch axe-core within a minute")
    if done.returncode:
        pytest.skip(f"npm cannot fetch axe-core: {(done.stderr.splitlines() or ['it says nothing'])[0]}")
    [archive] = folder.iterdir()
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(archive) as packed:
        source = packed.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def everything_open(page: Page) -> None:
    page.value("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["blessed", "refused", "first"])
def test_it_fits_every_screen_and_says_nothing(name: str, theme: str, page: Page, files: dict[str, Path]) -> None:
    page.asked.clear()
    for width in WIDTHS:
        page.show(files[name], width, theme)
        everything_open(page)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.documentElement.clientWidth") == width
    ground = [int(part) for part in page.value("getComputedStyle(document.body).backgroundColor")[4:-1].split(",")]
    assert (sum(ground) < 3 * 64) == (theme == "dark")
    assert set(page.asked) == {files[name].as_uri()}
    assert page.said == []


@pytest.mark.parametrize(
    ("name", "width", "theme"), [("refused", 360, "light"), ("refused", 360, "dark"), ("first", 1440, "light")]
)
def test_nobody_is_kept_out(name: str, width: int, theme: str, page: Page, files: dict[str, Path], axe: str) -> None:
    page.show(files[name], width, theme)
    everything_open(page)
    page.value(f"{axe};0")
    found: Any = page.value(
        "axe.run().then(({violations, passes}) => ({passes: passes.length, "
        "violations: violations.map(each => [each.id, each.nodes.map(node => node.html)])}))"
    )
    assert found["violations"] == []
    assert found["passes"] > 20


def test_a_keyboard_is_enough(page: Page, files: dict[str, Path]) -> None:
    page.show(files["blessed"], 768, "light")

    def focused(of: str) -> str:
        return str(page.value(f"document.activeElement.{of}"))

    page.press("Tab")
    assert focused("textContent") == "Skip to the verdict"
    assert page.value("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    assert focused("id") == "gate"
    page.show(files["blessed"], 768, "light")
    page.press("Tab")
    page.press("Tab")
    assert focused("id") == "theme"
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    themes = []
    for _ in range(3):
        page.press("Enter")
        themes.append((focused("textContent"), page.value("getComputedStyle(document.body).colorScheme")))
    assert themes == [("Theme: light", "light"), ("Theme: dark", "dark"), ("Theme: system", "light dark")]
    assert page.said == []


def test_it_is_read_without_scripts(page: Page, files: dict[str, Path]) -> None:
    page.show(files["blessed"], 768, "light", scripts=False)
    picture = page.call("Accessibility.getFullAXTree")["nodes"]
    names = [node.get("name", {}).get("value", "") for node in picture if not node.get("ignored")]
    assert not any(name.startswith("Theme:") for name in names)
    for wanted in ("Gate", "Slices", "ROC curves", "Reliability diagram"):
        assert wanted in names


def test_a_script_of_somebody_else_does_not_run(page: Page, files: dict[str, Path], tmp_path: Path) -> None:
    text = files["blessed"].read_text(encoding="utf-8")
    hacked = tmp_path / "hacked.html"
    hacked.write_text(text.replace("</main>", "<script>document.title = 'mine'</script></main>"), encoding="utf-8")
    page.show(hacked, 768, "light")
    assert page.value("document.title").startswith("din, preset sample")
    assert any("Content Security Policy" in said for said in page.said)
    page.said.clear()
