"""Draws the pictures of the pages, for light and for dark screens.

Without arguments: the architecture. With the folder of a RunReport: the picture of its report, too.

    .venv/bin/python docs/pictures/draw.py output/demo/artifacts/RunReport/report/12
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

COLOURS = {
    "light": {
        "text": "#1f2328", "dim": "#59636e", "line": "#59636e", "ground": "#ffffff", "band": "#f6f8fa",
        "edge": "#d1d9e0", "step": "#ddf4ff", "frame": "#0969da", "thing": "#fff8c5", "rim": "#9a6700",
        "good": "#1a7f37",
    },
    "dark": {
        "text": "#f0f6fc", "dim": "#9198a1", "line": "#9198a1", "ground": "#0d1117", "band": "#151b23",
        "edge": "#3d444d", "step": "#0c2d6b", "frame": "#4493f8", "thing": "#3b2300", "rim": "#d29922",
        "good": "#3fb950",
    },
}  # fmt: skip
COLUMNS = (20, 212, 404, 596, 788)
WIDTH, HEIGHT = 164, 50


class Box(NamedTuple):
    """A step, or a thing outside of the DAG: its corner, and a line about it."""

    x: int
    y: int
    about: str


STEPS = {
    "ImpressionGen": Box(COLUMNS[0], 146, "log to impressions"),
    "StatisticsGen": Box(COLUMNS[1], 110, "of each split"),
    "SchemaGen": Box(COLUMNS[1], 182, "types and ranges"),
    "ExampleValidator": Box(COLUMNS[2], 182, "finds anomalies"),
    "LastApproval": Box(COLUMNS[2], 110, "of the data before"),
    "AnomalyGate": Box(COLUMNS[3], 146, "stops at these, at drift"),
    "ImpressionTransform": Box(COLUMNS[4], 146, "vocabularies of train"),
    "Trainer": Box(COLUMNS[3], 290, "one of nine models"),
    "LatestBlessedModel": Box(COLUMNS[2], 290, "to compare with"),
    "Evaluator": Box(COLUMNS[1], 290, "AUCs and bounds"),
    "Pusher": Box(COLUMNS[0], 290, "only if blessed"),
    "SkewCheck": Box(COLUMNS[2], 364, "asks it in every way"),
    "Baselines": Box(COLUMNS[4], 290, "what it has to beat"),
    "RunReport": Box(COLUMNS[1], 364, "one page a run"),
}
THINGS = {
    "Behaviour log": Box(COLUMNS[0], 26, "user, item, …, time"),
    "Versions": Box(COLUMNS[0], 480, "SavedModels"),
    "Server": Box(COLUMNS[2], 480, "ctr serve, TF Serving"),
    "Client": Box(COLUMNS[4], 480, "history, candidates"),
}
BANDS = {"data": (92, 156), "training and verdict": (264, 166), "serving, gRPC": (454, 100)}

# From, to, and the points between, in the order in which they are drawn.
ARROWS = (
    ("ImpressionGen", "StatisticsGen", [(184, 163), (198, 163), (198, 135), (212, 135)]),
    ("ImpressionGen", "SchemaGen", [(184, 179), (198, 179), (198, 207), (212, 207)]),
    ("StatisticsGen", "ExampleValidator", [(376, 147), (390, 147), (390, 199), (404, 199)]),
    ("StatisticsGen", "LastApproval", [(376, 127), (404, 127)]),
    ("SchemaGen", "ExampleValidator", [(376, 215), (404, 215)]),
    ("ExampleValidator", "AnomalyGate", [(568, 207), (582, 207), (582, 179), (596, 179)]),
    ("LastApproval", "AnomalyGate", [(568, 135), (582, 135), (582, 163), (596, 163)]),
    ("AnomalyGate", "ImpressionTransform", [(760, 171), (788, 171)]),
    ("ImpressionTransform", "Baselines", [(870, 196), (870, 290)]),
    ("Baselines", "Trainer", [(788, 315), (760, 315)]),
    ("Trainer", "LatestBlessedModel", [(596, 315), (568, 315)]),
    ("LatestBlessedModel", "Evaluator", [(404, 315), (376, 315)]),
    ("Evaluator", "Pusher", [(212, 315), (184, 315)]),
    ("Trainer", "SkewCheck", [(640, 340), (640, 352), (520, 352), (520, 364)]),
    ("SkewCheck", "Pusher", [(452, 364), (452, 352), (140, 352), (140, 340)]),
    ("Pusher", "RunReport", [(110, 340), (110, 389), (212, 389)]),
    ("Behaviour log", "ImpressionGen", [(102, 76), (102, 146)]),
    ("Pusher", "Versions", [(74, 340), (74, 480)]),
    ("Versions", "Server", [(184, 505), (404, 505)]),
    ("Client", "Server", [(788, 497), (568, 497)]),
    ("Server", "Client", [(568, 513), (788, 513)]),
)
WORDS = {
    (205, 46): "Each step's inputs, outputs and code are in ML Metadata: what has not changed is not repeated.",
    (205, 66): "The same steps run on this machine and as those of Kubeflow, and compile for Vertex AI.",
    (678, 488): "an impression",
    (678, 531): "probabilities",
    (294, 496): "the highest number",
}


def architecture(scheme: str) -> str:
    """The steps of the DAG, and what is around them, as SVG."""
    colour = COLOURS[scheme]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 972 568" font-family="system-ui, sans-serif" '
        'role="img" aria-label="From a behaviour log through the steps of the pipeline to a server">',
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{colour["line"]}"/></marker></defs>',
        f'<rect width="972" height="568" rx="6" fill="{colour["ground"]}"/>',
    ]
    for name, (y, height) in BANDS.items():
        parts.append(
            f'<rect x="8" y="{y}" width="956" height="{height}" rx="8" '
            f'fill="{colour["band"]}" stroke="{colour["edge"]}"/>'
        )
        parts.append(_text(952, y + height - 8, name, colour["dim"], 13, "end"))
    for _, _, points in ARROWS:
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour["line"]}" stroke-width="1.6" '
            'marker-end="url(#tip)"/>'
        )
    for boxes, fill, stroke in ((STEPS, "step", "frame"), (THINGS, "thing", "rim")):
        for name, box in boxes.items():
            parts.append(
                f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEIGHT}" rx="7" '
                f'fill="{colour[fill]}" stroke="{colour[stroke]}"/>'
            )
            middle, size = box.x + WIDTH // 2, 13 if len(name) > 17 else 15
            parts.append(_text(middle, box.y + 22, name, colour["text"], size, "middle", ' font-weight="600"'))
            parts.append(_text(middle, box.y + 40, box.about, colour["dim"], 13, "middle"))
    for (x, y), words in WORDS.items():
        parts.append(_text(x, y, words, colour["dim"], 14 if x == 205 else 13, "start" if x == 205 else "middle"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: int, y: int, words: str, fill: str, size: int, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{more}>{escape(words)}</text>'


def excerpt(folder: Path) -> str:
    """The report in a folder as the terminal has it, down to the gate; without what was pushed, and the run's data."""
    from ctr.components.run_report.render import render
    from ctr.components.run_report.report import read_report

    lines = render(read_report(str(folder)), width=80).splitlines()
    end = next(
        at for at, line in enumerate(lines) if line.startswith(("  Pushed to", "  An earlier run pushed", "Run"))
    )
    return "\n".join(lines[:end]).rstrip() + "\n"


def text_picture(text: str, scheme: str) -> str:
    """Lines of a terminal as SVG; the first is a verdict."""
    colour = COLOURS[scheme]
    lines = text.splitlines()
    # Of a monospaced font at 14 pixels, on whatever machine.
    width, height = 32 + max(map(len, lines)) * 8.43, 28 + len(lines) * 19
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" '
        f'aria-label="{escape(lines[0])}" font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace">',
        f'<rect width="{width:.0f}" height="{height}" rx="6" fill="{colour["band"]}" stroke="{colour["edge"]}"/>',
    ]
    for number, line in enumerate(lines):
        title = line and not line.startswith(" ")
        fill = colour["good"] if not number else colour["frame"] if title else colour["text"]
        weight = ' font-weight="600"' if title else ""
        parts.append(_text(16, 30 + number * 19, line, fill, 14, more=f' xml:space="preserve"{weight}'))
    return "\n".join([*parts, "</svg>", ""])


def pictures() -> dict[str, str]:
    """What each file of this folder that is drawn has to hold."""
    text = (HERE / "report.txt").read_text(encoding="utf-8")
    drawn = {f"architecture-{scheme}.svg": architecture(scheme) for scheme in COLOURS}
    return drawn | {f"report-{scheme}.svg": text_picture(text, scheme) for scheme in COLOURS}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        (HERE / "report.txt").write_text(excerpt(Path(sys.argv[1])), encoding="utf-8")
    for name, picture in pictures().items():
        (HERE / name).write_text(picture, encoding="utf-8")
