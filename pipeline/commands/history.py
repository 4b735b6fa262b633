"""``runs``, ``compare`` and ``lineage``: what the runs in an output folder found, and of what."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ctr.components.files import absolute, is_address
from ctr.models.errors import ConfigError, CtrError
from ctr.models.section import dotted
from ctr.pipeline.commands.command_line import AT_LEAST_ONE, OK, add_command, print_json
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import show
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from rich.console import Group

    from ctr.components.tables import Table
    from ctr.pipeline.output.history import History, Run

_DIGITS: Final = 12
"""Of a digest on a terminal."""
_LEAST: Final = 3
"""Columns that are never left out; for them an id goes on in the next line."""


def add(commands: Any) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        commands,
        "runs",
        _runs,
        "list the runs in an output folder, the newest last",
        """\
The AUC is that of the model on the negatives that it is judged on, with its interval. Columns that do not fit are
left out, the last ones first; --json has all of them.

examples:
  %(prog)s --output output
  %(prog)s --output output --last 5 --json
""",
        answers=True,
    )
    _add_output(parser)
    parser.add_argument("--last", metavar="N", type=AT_LEAST_ONE, help="the newest N alone")

    parser = add_command(
        commands,
        "compare",
        _compare,
        "say in what two runs differ, and put their metrics side by side",
        """\
A run is named by its id as 'runs' lists it, by the beginning of one that no other has, or by a version that it
pushed.

examples:
  %(prog)s 20261127-2001 20261128-2001 --output output
  %(prog)s 1795809903 1795896303 --output output --json
""",
        answers=True,
    )
    parser.add_argument("a", metavar="A", help="a run or a version")
    parser.add_argument("b", metavar="B", help="another one")
    _add_output(parser)

    parser = add_command(
        commands,
        "lineage",
        _lineage,
        "say where a pushed version comes from: run, data, code, settings, artifacts, packages",
        """\
examples:
  %(prog)s 1795809903 --output output
  %(prog)s 1795809903 --output output --json
""",
        answers=True,
    )
    parser.add_argument("version", metavar="VERSION", type=AT_LEAST_ONE, help="the name of its folder")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", default="output", help="of the runs; default: %(default)s")


def _history(output: str) -> History:
    if is_address(output):
        raise ConfigError(f"--output {output}: runs are read from a folder of this machine, and this is an address")
    layout = Layout(absolute(output))
    if not os.path.isdir(layout.output):
        raise CtrError(f"{layout.output}: no such folder; give the --output of the runs")
    from ctr.pipeline.output.history import History

    return History(layout)


# --- runs ----------------------------------------------------------------------------------------------------------


def _runs(options: argparse.Namespace) -> int:
    history = _history(options.output)
    runs = history.runs(options.last)
    if options.json:
        print_json(answer(runs))
    else:
        show(lambda width: _listed(runs, len(history.run_ids) - len(runs), width))
    return OK


def answer(runs: Sequence[Run]) -> dict[str, Any]:
    """The JSON document of ``runs``."""
    from ctr.pipeline.output.documents import entry

    return {"runs": [entry(run) for run in runs]}


def _listed(runs: Sequence[Run], earlier: int, width: int) -> Group:
    from ctr.components.scoring.reading import interval
    from ctr.components.tables import Table, fitting, laid_out
    from ctr.pipeline.output.documents import auc_of

    header = ("run", "verdict", "AUC", "version", "seconds", "cached", "model", "preset", "started")
    rows = [
        (
            run.run_id,
            run.verdict,
            interval(auc_of(run.judged)),
            f"{run.version or '-'}{' (earlier)' if run.pushed_earlier else ''}",
            f"{run.seconds:.1f}",
            f"{len(run.cached)} of {len(run.steps)}",
            run.model or "-",
            str(run.config.get("preset", "-")),
            f"{run.started:%Y-%m-%d %H:%M}",
        )
        for run in runs
    ]
    notes = [f"Not listed: {earlier} earlier."] if earlier else []
    title = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    return laid_out([fitting(Table(title, header, rows, notes), width, _LEAST)], width)


# --- compare -------------------------------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> int:
    from ctr.pipeline.output.documents import comparison

    history = _history(options.output)
    found = comparison(history.named(options.a), history.named(options.b))
    return _say(options, found, _compared)


def _say(options: argparse.Namespace, found: dict[str, Any], layout: Callable[[Mapping[str, Any], int], Group]) -> int:
    if options.json:
        print_json(found)
    else:
        show(lambda width: layout(found, width))
    return OK


def _compared(found: Mapping[str, Any], width: int) -> Group:
    from ctr.components.tables import Table, laid_out

    runs = [f"{name.upper()}: {_run_words(found[name])}" for name in ("a", "b")]
    titles = {"config": "Settings", "data": "Data", "code": "Code", "packages": "Packages and machine of the training"}
    tables = [Table("Runs", (), [], runs), _measured(found)]
    for key, title in titles.items():
        differences = found[key]
        if differences is None:
            lines = ["Not known of both."]
        else:
            lines = [f"- {name}: {_short(a)} -> {_short(b)}" for name, (a, b) in differences.items()]
        tables.append(Table(f"{title}, A -> B", (), [], lines or ["No difference."]))
    return laid_out(tables, width)


def _run_words(run: Mapping[str, Any]) -> str:
    version = f", version {run['version']}" if run["version"] else ""
    return f"{run['run_id']}, {run['model']}, preset {run['preset']}: {run['verdict']}{version}"


def _measured(found: Mapping[str, Any]) -> Table:
    from ctr.components.scoring.evaluation import Value
    from ctr.components.scoring.reading import interval
    from ctr.components.tables import Table

    rows = []
    for name, both in found["metrics"].items():
        a, b = (Value.model_validate(both[run]) if both[run] else Value(value=None) for run in ("a", "b"))
        known = a.value is not None and b.value is not None
        rows.append((name, interval(a), interval(b), f"{(b.value or 0) - (a.value or 0):+.4f}" if known else "-"))
    if not rows:
        return Table("Metrics", (), [], ["Neither run has an evaluation."])
    of_other = "The runs were measured on different impressions: their numbers cannot be compared."
    of_same = "On the same impressions. B - A is of the two values; whether it is more than chance it does not say."
    return Table("Metrics", ("", "A", "B", "B - A"), rows, [of_same if found["same_impressions"] else of_other])


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and value.isalnum():
        return value[:_DIGITS]
    return "-" if value is None else str(value)


# --- lineage -------------------------------------------------------------------------------------------------------


def _lineage(options: argparse.Namespace) -> int:
    from ctr.pipeline.output.documents import lineage

    run = _history(options.output).of_version(options.version)
    found = lineage(run, options.version, Layout(absolute(options.output)))
    return _say(options, found, _traced)


def _traced(found: Mapping[str, Any], width: int) -> Group:
    from ctr.components.provenance import Provenance
    from ctr.components.tables import Table, laid_out

    provenance = Provenance.model_validate(found["provenance"]) if found["provenance"] else None
    lines = [f"Pushed to {found['pushed_to']}", f"Run: {_run_words(found['run'])}, started {found['run']['started']}"]
    if provenance is None:
        lines.append("With which code and packages it was trained was not written down.")
    else:
        packages = ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
        lines += [f"Trained by ctr-pipeline {provenance.code}", f"on {provenance.host}", f"with {packages}"]
    header = ("step", "execution", "made by", "code", "artifacts")
    rows = [
        (
            name,
            str(step["execution"]),
            str(step["made_by"]),
            (step["code_sha256"] or "-")[:_DIGITS],
            ", ".join(str(artifact["id"]) for artifact in step["artifacts"].values()) or "-",
        )
        for name, step in found["steps"].items()
    ]
    earlier = {step["made_in"] for step in found["steps"].values()} - {found["run"]["run_id"]}
    notes = [f"What another execution made came from the cache, of {', '.join(sorted(earlier))}."] if earlier else []
    return laid_out(
        [
            Table(f"Version {found['version']}", (), [], lines),
            Table("Data", (), [], list(_data_lines(found["data"]))),
            Table("Steps, by their numbers in ML Metadata", header, rows, notes),
            Table("Settings that are not the defaults", (), [], list(_changes(found["config"]))),
        ],
        width,
    )


def _data_lines(data: Mapping[str, Any] | None) -> Iterator[str]:
    if data is None:
        yield "What was read is not known any more: the artifact was removed, or written by an older version."
        return
    span = f", span {data['span']}" if data["span"] else ""
    yield f"{data['path']}{span}"
    yield str(data["digest"])
    if len(data["files"]) > 1:
        yield from (f"- {file['name']}: {file['sha256'] or file['checksum'] or '-'}" for file in data["files"])


def _changes(config: Mapping[str, Any]) -> Iterator[str]:
    try:
        changes = PipelineConfig.model_validate(config).model_dump(mode="json", exclude_defaults=True)
    except ValueError:
        # Of another version of this project, or with a plugin that is not here.
        changes = dict(config)
    yield from (f"- {name}: {value}" for name, value in dotted(changes)) if changes else ("None.",)
