from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree
from html import unescape
from html.parser import HTMLParser

import pytest
from report_sample import AFTERWARDS, HOSTILE, MISSED, REFUSED, evaluation, make_report

from ctr.components.run_report.charts import Line, Scale, line_chart, strip
from ctr.components.run_report.page import render_page
from ctr.components.run_report.render import render
from ctr.components.run_report.report import Afterwards, Lineage, Report
from ctr.components.scoring.evaluation import Value
from ctr.components.step_profile import StepProfile
from ctr.components.tuning import SearchTrial, Tuning

_EMPTY = {"meta", "br", "path", "rect"}


class Page(HTMLParser):
    """What is in a page, by element; fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def words(text: str) -> str:
    """What is read, without marks."""
    body = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


FIRST = make_report(evaluation=evaluation(blessed=False, slices=False), epochs=(), drift=(), quarantined_rows=())
FOLLOWED = make_report(
    epochs=[epoch.model_copy(update={"auc_within": (0.8, 0.8125)}) for epoch in make_report().epochs],
    profile=StepProfile(
        steps=20, batch_size=4096, device="NVIDIA H200", input_wait=0.5, forward=2, backward=4.5, update=3
    ),
    tuning=Tuning(
        algorithm="random",
        trials=[
            SearchTrial(values={"model.hidden_units": [64, 32], "training.learning_rate": 0.5}, auc=None),
            SearchTrial(values={"model.hidden_units": [8], "training.learning_rate": 0.01}, auc=0.81),
        ],
    ),
)
PAGES = {
    "followed": (FOLLOWED, AFTERWARDS),
    "blessed": (make_report(), AFTERWARDS),
    "refused": (make_report(**REFUSED), AFTERWARDS),
    "first, in the step itself": (FIRST, Afterwards()),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_needs_nothing_else(name: str) -> None:
    text = render_page(*PAGES[name])
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {(attributes["href"] or "").removeprefix("#") for attributes in page.of("a")}
    assert targets <= set(ids)
    named = {
        i
        for _, a in page.elements
        for key in ("aria-labelledby", "aria-describedby")
        if key in a
        for i in (a[key] or "").split()
    }
    assert named <= set(ids)
    assert len(page.of("h1")) == 1
    assert len(page.of("table")) == len(page.of("caption")) > 3
    assert all(attributes.get("scope") for attributes in page.of("th"))
    for attributes in page.of("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes.get("role") == "img"
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        xml.etree.ElementTree.fromstring(drawn)  # noqa: S314 (ours)
    # Nothing is fetched, and nothing could be.
    assert not any({"src", "action", "onclick", "style"} & set(attributes) for _, attributes in page.elements)
    assert not page.of("link")
    assert "://" not in text.replace(HOSTILE, "")
    assert len(text.encode()) < 300_000


def test_its_policy_allows_its_own_style_and_script_alone() -> None:
    text = render_page(make_report(), AFTERWARDS)
    (policy,) = (unescape(m["content"] or "") for m in Page(text).of("meta") if "http-equiv" in m)
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_what_strangers_wrote_is_shown_and_not_run() -> None:
    hostile = {"pushed_to": HOSTILE, "files": (HOSTILE,), "config": make_report().config | {"preset": HOSTILE}}
    text = render_page(make_report(**hostile), Afterwards(lineage=Lineage(run_id=HOSTILE, packages={HOSTILE: HOSTILE})))
    assert HOSTILE not in text
    assert words(text).count(HOSTILE) > 5
    assert len(Page(text).of("script")) == 1
    assert "49" not in re.findall(r"<code>(?:(?!</code>).)*alert.*?</code>", text)


def test_the_verdict_comes_first_with_the_reason_and_every_bound() -> None:
    text = words(render_page(make_report(**REFUSED), AFTERWARDS))
    assert text.index("Not blessed nothing pushed") < text.index("2 of 6 bounds missed. Look first:") < 600
    for missed in MISSED:
        assert missed.words in text
    assert "✓" not in text
    assert text.count("Missed") == 2 * 2
    assert "AUC against latest blessed model ≥ −0.0050 −0.0200 −0.0240 to −0.0164 95%, one-sided" in text
    assert "Blessed version 1732500000 pushed" in words(render_page(make_report(), AFTERWARDS))


def test_numbers_stand_with_their_intervals() -> None:
    text = words(render_page(make_report(), AFTERWARDS))
    for shown in (
        "All positives 0.8912 AUC, 0.8883 to 0.8938",
        "Positives new to the user 0.8427 AUC, 0.8361 to 0.8486",
        "latest blessed model 0.8871 +0.0041 +0.0029 to +0.0052",
        "AUC 0.8912 0.8883 to 0.8938 0.9000",
        "0.6 0.8 1 false positive rate",
        "1-4 0.8912 0.8846 to 0.8971 +0.0041 +0.0015 to +0.0065 136 3,008",
        "Rows read 73,899 Kept 73,800 Quarantined 99",
        "UserBehavior.csv:812 -7 1,2,3,pv,-7",
        "Trainer 29.5 1,700",
        "Transform from the cache –",
        "history_length eval train of the same data largest distance of the cumulative distributions 0.0213 0.2000",
        "hour train train approved last share of events in other hours – – not compared",
        "tfx 1.16.0",
        "training from 0.5900 to 0.3567",
        "39.8 s in all",
    ):
        assert shown in text, shown


def test_what_is_not_known_is_left_out() -> None:
    text = render_page(FIRST, Afterwards())
    for absent in ('id="steps"', 'id="training"', 'id="slices-x"', "sha256:", "Drift", "Packages"):
        assert absent not in text
    assert 'href="#steps"' not in text
    assert "No row of it is kept here." in text


def test_a_run_with_nothing_measured_has_a_page() -> None:
    found = evaluation(slices=False)
    nothing = Value(value=None)
    empty = tuple(
        each.model_copy(
            update={
                "metrics": {scorer: dict.fromkeys(of, nothing) for scorer, of in each.metrics.items()},
                "differences": {scorer: dict.fromkeys(of, nothing) for scorer, of in each.differences.items()},
            }
        )
        for each in found.slices
    )
    report: Report = make_report(evaluation=found.model_copy(update={"slices": empty, "curves": {}}))
    text = render_page(report, AFTERWARDS)
    assert "nan" not in words(text).replace("tenan", "")
    assert "All positives – AUC" in words(text)
    assert "roc-t" not in text


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.81, 0.899), (-0.0013, 0.0012), (1, 7), (0.4999, 0.5001), (0, 3e9)]
)
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    ticks = Scale(low, high).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(f"{tick:g}") <= 7 for tick in ticks)


def test_a_scale_holds_its_values_and_one_value_alone() -> None:
    scale = Scale.around([0.5, None, 0.7, float("nan")], 0.4)
    assert scale.low < 0.4 < 0.7 < scale.high
    assert Scale.around([0.5]).low < 0.5 < Scale.around([0.5]).high
    assert Scale.around([]) == (0, 1)


def test_points_are_where_their_values_are() -> None:
    drawn = line_chart("x", "t", "d", [Line("model", [(0, 0), (1, 1)])], ("x", Scale(0, 1)), ("y", Scale(0, 1)))
    (path,) = re.findall(r'class="line model" d="M([^"]*)"', drawn)
    (left, bottom), (right, top) = (tuple(map(float, point.split())) for point in path.split("L"))
    assert left < right
    assert top < bottom
    inside = strip(Scale(0, 10), 5, 4, 6, "model", [5])
    assert 'd="M400 10H600"' in inside
    assert 'd="M500 10h0"' in inside
    assert 'd="M500 0V20"' in inside
    beyond = strip(Scale(0, 10), 12, 11, 13, "model")
    assert "beyond" in beyond
    assert "interval" not in beyond


def test_a_training_that_was_followed_shows_its_step_and_the_auc_within_its_epochs() -> None:
    shown = words(render_page(FOLLOWED, AFTERWARDS))

    assert "A training step, 4,096 impressions on NVIDIA H200, medians of 20" in shown
    assert "input wait 0.50 5% forward 2.00 20% backward 4.50 45% update 3.00 30%" in shown
    # The first epoch's parts end after a third and two thirds of it.
    assert "0.3333 0.8000 0.6667 0.8125 1 0.8300 1.333 0.8000" in shown
    assert "AUC by epoch validation from 0.8000 to 0.8717" in shown
    assert "trial model.hidden_units training.learning_rate AUC 1 [64, 32] 0.5 failed 2 [8] 0.01 0.8100" in shown
    text = " ".join(render(FOLLOWED).split())
    assert "Of 2 trials (random) the best had model.hidden_units [8], training.learning_rate 0.01." in text
    plain = words(render_page(*PAGES["blessed"]))
    assert "A training step" not in plain
    assert "0.3333" not in plain
