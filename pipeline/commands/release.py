"""``release``: which version is stable, which one is tried, and back."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ctr.components.files import absolute, is_address
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.commands.command_line import (
    AT_LEAST_ONE,
    OK,
    add_command,
    add_plugin_option,
    numbers,
    print_json,
    terminal_of,
)
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import show

if TYPE_CHECKING:
    from rich.console import Group

    from ctr.pipeline.release.change import Versions
    from ctr.pipeline.release.labels import Labels
    from ctr.pipeline.release.record import Change
    from ctr.pipeline.release.shadow_record import Shadow, ShadowBounds
    from ctr.serving.impressions import Impression
    from ctr.serving.management import ServerManagement

_LEAST: Final = 3
_TIME: Final = numbers(float, lambda number: 0 < number < 1e6, "no time to wait; choose more than 0 seconds")
_LIMIT: Final = numbers(float, math.isfinite, "no number; give one, or none for no bound")
"""Columns of versions that are never left out, beside those of servers."""
ACTIONS: Final = ("status", "canary", "promote", "rollback")


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "release",
        _release,
        "say which pushed version is stable and which is the canary, and move these labels",
        """\
'canary' compares VERSION with the stable one on recorded requests, prints what it found, and puts the label on it.
'promote' makes the canary stable, or the first VERSION of all. 'rollback' takes the canary back or, where none is
out, the version that was stable before; it asks nothing. Labels stand in models.config beside the versions, which
servers follow, and each change in release.jsonl. docs/release.md has the rest.

examples:
  %(prog)s status --output output --server 127.0.0.1:8500
  %(prog)s canary 1795809903 --output output --server 127.0.0.1:8500 --reason 'new week'
  %(prog)s promote --output output --server 127.0.0.1:8500
  %(prog)s rollback --output output --server 127.0.0.1:8500 --reason 'clicks fell'
""",
        answers=True,
    )
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("version", metavar="VERSION", nargs="?", type=AT_LEAST_ONE, help="the name of its folder")
    parser.add_argument("--output", metavar="DIR", default="output", help="of the runs; default: %(default)s")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="a running server to ask and to tell; may be repeated",
    )
    parser.add_argument("--wait-seconds", metavar="N", type=_TIME, default=120.0, help="that a version may load")
    parser.add_argument("--reason", metavar="TEXT", default="", help="for the record")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument(
        "--load-only",
        action="store_true",
        help="of a canary: have it loaded under the labels in force, for servers that follow the file alone",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and compare, and change nothing")
    parser.add_argument("--config-file", metavar="FILE", default="", help="models.config; default: beside the versions")
    parser.add_argument(
        "--base-path", metavar="DIR", default="", help="of the versions as servers see it, for a new file"
    )
    shadow = parser.add_argument_group("comparison of a canary")
    shadow.add_argument(
        "--requests", metavar="DIR", help="a server's request log; default: the newest run's eval split"
    )
    shadow.add_argument("--count", metavar="N", type=AT_LEAST_ONE, default=1000, help="requests; default: %(default)s")
    shadow.add_argument(
        "--min-tau", metavar="X", type=_bound, help="agreement of order; 'none' for no bound, as of all"
    )
    shadow.add_argument("--min-same-first", metavar="X", type=_bound, help="share with the same first candidate")
    shadow.add_argument("--max-difference", metavar="X", type=_bound, help="mean difference of probabilities")
    shadow.add_argument("--max-psi", metavar="X", type=_bound, help="population stability index of probabilities")
    shadow.add_argument("--max-latency-ratio", metavar="X", type=_bound, help="of the median latencies")
    parser.add_argument("--pipeline-name", metavar="NAME", default="ctr", help="of the runs; default: %(default)s")
    add_plugin_option(parser, "features of impressions")
    tls = parser.add_argument_group("servers behind TLS")
    tls.add_argument("--tls-ca", metavar="FILE", help="PEM; turns TLS on, and trusts these authorities")
    tls.add_argument("--tls-certificate", metavar="FILE", help="PEM, for a server that asks for one")
    tls.add_argument("--tls-key", metavar="FILE", help="PEM, of that certificate")


def _bound(text: str) -> float | str:
    return text if text == "none" else _LIMIT(text)


def _release(options: argparse.Namespace) -> int:
    versions = _versions(options)
    if options.version is not None and options.action in ("status", "rollback"):
        raise ConfigError(f"release {options.action}: takes no VERSION (got {options.version})")
    if options.load_only and (options.action != "canary" or options.json or options.dry_run or options.server):
        raise ConfigError("--load-only: goes with canary, without --server, --dry-run and --json")
    if options.version is None and options.action == "canary":
        raise ConfigError("release canary: name the VERSION that is to be tried; 'release status' lists them")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server) for server in _servers(options)]
        if options.action == "status":
            return _status(options, versions, servers)
        from ctr.pipeline.release.change import changing

        stack.enter_context(changing(versions))
        return _change(options, versions, servers)


def _versions(options: argparse.Namespace) -> Versions:
    if is_address(options.output):
        raise ConfigError(
            f"--output {options.output}: labels are kept in a folder of this machine, and this is an address; mount it"
        )
    from ctr.pipeline.commands.serving import served_model
    from ctr.pipeline.release.change import Versions

    model = options.model or served_model(options.output)
    base = Layout(absolute(options.output)).model_base(model)
    if not os.path.isdir(base):
        raise CtrError(f"{base}: no such folder; 'run' pushes blessed models there")
    return Versions(base, model, absolute(options.config_file), options.base_path)


def _servers(options: argparse.Namespace) -> Iterator[ServerManagement]:
    if not options.server:
        return
    from ctr.serving.management import ServerManagement

    for target in options.server:
        try:
            yield ServerManagement(
                target,
                root_certificates=options.tls_ca,
                certificate=options.tls_certificate,
                private_key=options.tls_key,
            )
        except OSError as error:
            raise ConfigError(f"TLS: {error.filename}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError("TLS: --tls-certificate and --tls-key go together, and with --tls-ca") from error


# --- changes -------------------------------------------------------------------------------------------------------


def _change(options: argparse.Namespace, versions: Versions, servers: Sequence[ServerManagement]) -> int:
    from ctr.pipeline.release import change

    file = versions.file()
    before, shadow, run_id = file.labels, None, None
    if options.action == "rollback":
        # In haste: what is asked for here is in memory, on the servers and the disk.
        after = change.rolled_back(versions, before)
        blessing = change.blessing_if_any(versions, after.stable)
    else:
        if options.action == "canary":
            after, blessing = change.canary(versions, before, options.version)
            if options.load_only:
                file.write(file.with_labels(before, also_loaded=[options.version]))
                terminal_of(options).note(
                    f"{versions.config_path}: version {options.version} is to be loaded, no label moved"
                )
                return OK
            shadow = _compared(options, versions, before, options.version)
        else:
            after, blessing = change.promoted(versions, before, options.version)
        from ctr.pipeline.release.status import runs_of

        run_id = runs_of(Layout(absolute(options.output))).get(after.canary)
    made = change.described(options.action, before, after, options.reason, blessing, run_id, shadow)
    if shadow is not None and (missed := list(_bounds(options).missed(shadow))):
        raise CtrError("no label was moved:\n" + "\n".join(missed))
    if not options.dry_run and (options.action == "rollback" or _agreed(options, made)):
        change.move(versions, file, after, made, servers, options.wait_seconds)
        _told(options, versions, servers)
    elif not options.dry_run:
        raise CtrError("no label was moved")
    if options.json:
        print_json(answer(made, moved=not options.dry_run))
    else:
        print(f"{'Not moved, as this is a dry run: ' if options.dry_run else ''}{_words(made)}")
    return OK


def _agreed(options: argparse.Namespace, made: Change) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise CtrError(f"not asked, as there is no terminal: give --yes to move labels ({_words(made)})")
    print(f"{_words(made)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _words(made: Change) -> str:
    moved = [
        f"{label} {made.before.get(label, '-')} -> {made.after.get(label, '-')}"
        for label in dict.fromkeys((*made.before, *made.after))
        if made.before.get(label) != made.after.get(label)
    ]
    return f"{made.action}: {', '.join(moved)}"


def _told(options: argparse.Namespace, versions: Versions, servers: Sequence[ServerManagement]) -> None:
    follow = f"servers that follow {versions.config_path} have it at their next look"
    told = f"told {', '.join(server.target for server in servers)}; other " if servers else ""
    terminal_of(options).note(told + follow)


def answer(made: Change, moved: bool) -> dict[str, Any]:
    """The JSON document of a change."""
    return {"moved": moved, **made.model_dump(mode="json")}


# --- the comparison ------------------------------------------------------------------------------------------------


def _bounds(options: argparse.Namespace) -> ShadowBounds:
    from pydantic import ValidationError

    from ctr.models.validation import problems
    from ctr.pipeline.release.shadow_record import ShadowBounds

    given = {name: value for name in ShadowBounds.model_fields if (value := getattr(options, name)) is not None}
    try:
        return ShadowBounds.model_validate({name: None if value == "none" else value for name, value in given.items()})
    except ValidationError as error:
        raise ConfigError("\n".join(problems(error, ShadowBounds))) from error


def _compared(options: argparse.Namespace, versions: Versions, before: Labels | None, version: int) -> Shadow | None:
    _bounds(options)
    if before is None:
        return None
    from ctr.models.registration import load_plugins

    load_plugins(options.plugin)
    if not os.path.isdir(versions.folder(before.stable)):
        raise CtrError(
            f"{versions.folder(before.stable)}: the stable version is gone, so nothing can be compared with it"
        )
    terminal = terminal_of(options)
    with terminal.loading("TensorFlow"):
        from ctr.pipeline.release.shadow import compare, declare_features_of

        folders = (versions.folder(before.stable), versions.folder(version))
        declare_features_of(folders)
        impressions, source = _impressions(options)
    numbers = (before.stable, version)
    with terminal.waiting(f"Asking both versions {len(impressions):,} requests"):
        shadow = compare(folders, numbers, impressions, source)
    if not options.json:
        bounds = _bounds(options)
        show(lambda width: _comparison(shadow, bounds, width))
    return shadow


def _impressions(options: argparse.Namespace) -> tuple[list[Impression], str]:
    if options.requests:
        from ctr.serving.request_log import read_impressions

        folder = absolute(options.requests)
        found = read_impressions(folder, options.count)
        if not found:
            raise CtrError(f"{folder}: no request in it; 'serve --request-log' writes some when a server is asked")
        return found, f"the request log {folder}"
    from ctr.pipeline.output.eval_impressions import eval_impressions

    return eval_impressions(
        absolute(options.output), options.pipeline_name, options.count
    ), "the newest run's eval split"


def _comparison(shadow: Shadow, bounds: ShadowBounds, width: int) -> Group:
    from ctr.components.tables import Table, as_number, laid_out

    def row(words: str, value: float | None, bound: float | None = None, sign: str = "") -> tuple[str, str, str]:
        return words, as_number(value), f"{sign} {bound:.4f}" if bound is not None else ""

    rows = [
        row("order: Kendall's tau", shadow.kendall_tau, bounds.min_tau, ">="),
        row("order: same first candidate", shadow.same_first, bounds.min_same_first, ">="),
        row("order: of the ten first, in both", shadow.same_top10),
        row("probabilities: mean difference", shadow.mean_difference, bounds.max_difference, "<="),
        row("probabilities: stability index (PSI)", shadow.psi, bounds.max_psi, "<="),
        row("probabilities: largest distance (KS)", shadow.ks),
        row("logits: correlation", shadow.correlation),
        row("latency: median by the stable one's", shadow.latency_ratio, bounds.max_latency_ratio, "<="),
    ]
    latency = [
        f"{name} p50 {found.p50:.2f} ms, p95 {found.p95:.2f} ms"
        for name, found in (("stable", shadow.stable_latency), ("canary", shadow.canary_latency))
    ]
    notes = [
        f"{shadow.requests:,} requests of {shadow.source}, {shadow.candidates:,} candidates.",
        f"One request, in this process, in turn: {'; '.join(latency)}.",
    ]
    title = f"Canary {shadow.canary} beside stable {shadow.stable}"
    return laid_out([Table(title, ("", "found", "bound"), rows, notes)], width)


# --- status --------------------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace, versions: Versions, servers: Sequence[ServerManagement]) -> int:
    from ctr.pipeline.release.status import status

    found = status(versions, Layout(absolute(options.output)), servers)
    if options.json:
        print_json(found)
    else:
        show(lambda width: _listed(found, width))
    return OK


def _listed(found: Mapping[str, Any], width: int) -> Group:
    from ctr.components.scoring.evaluation import Value
    from ctr.components.scoring.reading import interval
    from ctr.components.tables import Table, fitting, laid_out

    targets = [*found["servers"]]
    rows = [
        (
            str(each["version"]),
            ", ".join(each["labels"]) or "-",
            "yes" if each["blessed"] else "NO",
            *(each["servers"][target] or "-" for target in targets),
            interval(Value.model_validate(each["auc"]) if each["auc"] else None),
            each["run_id"] or "-",
        )
        for each in found["versions"]
    ]
    notes = [f"- {each['why_not']}" for each in found["versions"] if each["why_not"]]
    notes += [f"- {states['error']}" for states in found["servers"].values() if "error" in states]
    if found["models_config"] is None:
        notes.append("No label yet: servers take the newest version. 'release promote VERSION' makes the first stable.")
    title = f"Versions of {found['model']} in {found['folder']}"
    header = ("version", "labels", "blessed", *(f"on {target}" for target in targets), "AUC", "run")
    tables = [fitting(Table(title, header, rows, notes), width, _LEAST + len(targets))]
    if found["changes"]:
        lines = [
            f"{each['time']} {each['by']} {each['action']}: "
            + ", ".join(f"{label} {version}" for label, version in each["after"].items())
            + (f" ({each['reason']})" if each["reason"] else "")
            for each in found["changes"]
        ]
        tables.append(Table("Changes, the newest last", (), [], lines))
    return laid_out(tables, width)
