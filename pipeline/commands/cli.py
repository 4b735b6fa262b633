"""The command line: ``python -m pipeline run|sweep|serve|predict|generate|show-config|demo``, and Kubeflow's commands.

Only what argument parsing and configuration need is imported here; TensorFlow and TFX come with the command
that uses them.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import absl.logging
import yaml

from generator.generator_config import DIRT_KINDS, FIRST_DAY
from models.registry import ACTIVATIONS, MODELS
from models.samplers.registry import SAMPLERS
from models.validation import problems
from pipeline.commands import answers, completion, kubeflow
from pipeline.commands.command_line import (
    EXIT_CODES,
    FAILED,
    INTERRUPTED,
    NOT_BLESSED,
    OK,
    USAGE,
    CommandError,
    HelpFormatter,
    add_command,
    add_config_options,
    add_json_option,
    check_output,
    configuration,
    print_json,
    program,
    terminal_of,
    version,
)
from pipeline.output.layout import Layout, absolute
from pipeline.process.endings import Interrupted
from pipeline.process.terminal import LOG_FORMAT, Terminal, show
from pipeline.process.terminal import width as terminal_width
from pipeline.settings.pipeline_config import ConfigError, PipelineConfig, load_preset

if TYPE_CHECKING:
    from generator.behavior_log import GeneratorSummary
    from pipeline.runners.local import RunResult
    from serving.impressions import Ranking


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: without the program's name; None takes those of the process.

    Returns:
      The exit code; see ``--help``.
    """
    options = _parser().parse_args(arguments)
    absl.logging.set_verbosity(absl.logging.INFO if options.verbose else absl.logging.WARNING)
    if options.verbose:
        logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    else:
        # Read when TensorFlow's library is loaded; its start-up notes say nothing to a user of the command line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings():
            if not options.verbose:
                # Libraries warn of the Python they run on at each import.
                warnings.simplefilter("ignore", FutureWarning)
            return int(options.command(options))
    except ConfigError as error:
        return _complain("configuration", error, USAGE)
    except CommandError as error:
        return _complain("error", error, FAILED)
    except Interrupted as error:
        return _complain("interrupted", error, error.code)
    except KeyboardInterrupt:
        return _complain("interrupted", "stopped before the end", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone: nothing is left to say, nor to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _complain(kind: str, error: object, code: int) -> int:
    text = str(error)
    print(f"{kind}:\n{textwrap.indent(text, '  ')}" if "\n" in text else f"{kind}: {text}", file=sys.stderr)
    return code


# --- run ---------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    return _train(configuration(options), terminal_of(options), as_json=options.json)


def _train(config: PipelineConfig, terminal: Terminal, as_json: bool = False) -> int:
    """Trains the configured model, then its challengers; the first one's verdict is the exit code."""
    check_output(config.output)
    _check_data(config)
    results = [_train_one(config.with_overrides({"also_train": ()}), terminal, as_json)]
    for challenger in config.also_train:
        # A challenger takes the served model's place only if it is at least as good.
        changes = {"also_train": (), "model.name": challenger, "evaluation.max_auc_drop": 0.0}
        results.append(_train_one(config.with_overrides(changes), terminal, as_json))
    if as_json:
        print_json(answers.of_runs(results))
    return OK if results[0].blessed else NOT_BLESSED


def _train_one(config: PipelineConfig, terminal: Terminal, as_json: bool) -> RunResult:
    from components.run_report.render import layout
    from pipeline.runners.local import RunFailed, run

    terminal.note(f"{config.model.name.upper()}: {config.data} -> {config.output}")
    try:
        result = run(config, terminal)
    except RunFailed as error:
        raise CommandError(error) from error
    if not as_json:
        terminal.note("")
        show(lambda width: layout(result.report, width, result.times, result.pushed_earlier))
        terminal.note("")
    newest = _newest_version(Layout(absolute(config.output)).model_base(config.served_model_name))
    if newest is not None and result.pushed_version is not None and newest != result.pushed_version:
        terminal.note(f"The newest version, which a server takes, is another model's: {newest}.")
    terminal.note(f"The log of this run: {result.log}")
    return result


def _newest_version(folder: str) -> int | None:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return max((int(name) for name in names if name.isdecimal()), default=None)


def _check_data(config: PipelineConfig) -> None:
    """Says within a second what is wrong with the data, as far as their first rows tell."""
    if not config.data:
        raise ConfigError("data: give a behaviour log with --data PATH, or make one with 'generate'")
    from components.examples.vocabulary import vocabularies
    from components.impression_gen.look import look_at
    from components.impression_gen.sources import NoLogError

    try:
        catalogue = look_at(absolute(config.data), config.ingest, config.span)
        if catalogue is not None:
            vocabularies(catalogue, config.transform)
    except NoLogError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, OSError) as error:
        raise CommandError(error) from error


# --- sweep -------------------------------------------------------------------------------------------------


def _sweep(options: argparse.Namespace) -> int:
    config, terminal = configuration(options), terminal_of(options)
    check_output(config.output)
    _check_data(config)

    from pipeline.runners.local import RunFailed
    from pipeline.sweep.render import layout
    from pipeline.sweep.run import sweep
    from pipeline.sweep.trials import grid

    trials = grid(
        config,
        models=options.models.split(","),
        activations=(options.activations or config.model.activation).split(","),
        match_features={"both": (True, False), "with": (True,), "without": (False,)}[options.match_features],
        seeds=options.seeds,
        samplers=options.samplers.split(",") if options.samplers else None,
        stored=options.stored.split(",") if options.stored else None,
        alphas=options.alphas,
        losses=options.losses.split(",") if options.losses else None,
    )
    try:
        report = sweep(config, trials, terminal)
    except (RunFailed, ValueError) as error:
        raise CommandError(error) from error
    files = Layout(absolute(config.output))
    if options.json:
        print_json(answers.of_sweep(report, files))
    else:
        show(lambda width: layout(report, width))
    terminal.note(f"The whole table, CSV and plot: {files.sweep}")
    return FAILED if report.failures else OK


# --- serve, predict ----------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    model = options.model or _served_model(options.output)
    base = Layout(absolute(options.output)).model_base(model)
    if not os.path.isdir(base):
        raise CommandError(f"{base}: no such folder; 'run' pushes blessed models there")
    _check_free(options.host, options.port)
    with terminal_of(options).loading("TensorFlow"):
        from serving.server import serve_forever

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("serving").setLevel(logging.WARNING if options.quiet else logging.INFO)
    try:
        serve_forever(base, model, host=options.host, port=options.port)
    except OSError as error:
        raise CommandError(error) from error
    return OK


def _check_free(host: str, port: int) -> None:
    """That a server can listen there; port 0 stands for any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from error


def _served_model(output: str) -> str:
    folder = Layout(absolute(output)).serving
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    if not names:
        raise CommandError(f"{folder}: no pushed model; run the pipeline with this --output first")
    if len(names) > 1:
        raise CommandError(f"{folder}: several models ({', '.join(names)}); choose one with --model")
    return names[0]


def _predict(options: argparse.Namespace) -> int:
    from pipeline.output.runs import NoSuchRun
    from serving.impressions import ImpressionError, load_impression

    chosen = None
    try:
        impression = load_impression(options.impression) if options.impression else None
        model = options.model or (_served_model(options.output) if options.output else "ctr")
        _check_reachable(options.host, options.port)
        with terminal_of(options).loading("TensorFlow"):
            if impression is None:
                from pipeline.output.eval_impressions import eval_impression

                impression, chosen = eval_impression(absolute(options.output), options.pipeline_name)
            from serving.client import RankingClient, ServingError
    except (ImpressionError, NoSuchRun) as error:
        raise CommandError(error) from error
    try:
        with RankingClient(f"{options.host}:{options.port}", model) as client:
            ranking = client.rank(impression)
    except ServingError as error:
        raise CommandError(error) from error
    if options.json:
        print_json(answers.of_ranking(ranking, len(impression.history), chosen))
    else:
        print(ranking_table(ranking, len(impression.history), chosen, terminal_width()))
    return OK


def _check_reachable(host: str, port: int) -> None:
    """That something listens there; what it is shows the first request."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise CommandError(
            f"no server reachable at {host}:{port}: {error.strerror or error}; '{program()} serve' starts one"
        ) from error


def ranking_table(ranking: Ranking, history_length: int, chosen_item: int | None = None, width: int = 80) -> str:
    """A ranked answer as text.

    Args:
      ranking: the answer of the server.
      history_length: events of the request's history.
      chosen_item: the item that the user really chose, where that is known.
      width: characters in a line.
    """
    from components.tables import Table, as_text, laid_out

    title = f"{ranking.model_name} version {ranking.model_version}, history of {history_length} events"
    header = ("rank", "item", "category", "probability", "logit", "")
    rows = [
        (
            str(rank),
            str(candidate.item_id),
            str(candidate.category_id),
            f"{candidate.probability:.4f}",
            f"{candidate.logit:.3f}",
            "<- chosen" if candidate.item_id == chosen_item else "",
        )
        for rank, candidate in enumerate(ranking.candidates, start=1)
    ]
    return as_text(laid_out([Table(title, header, rows)], width), width).lstrip("\n")


# --- generate, show-config, demo ---------------------------------------------------------------------------


def _generate(options: argparse.Namespace) -> int:
    amounts: dict[str, Any] = {"crlf": options.crlf}
    for assignment in options.dirt:
        kind, equals, amount = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--dirt {assignment!r}: expected KIND=AMOUNT, e.g. duplicate=49")
        try:
            amounts[kind] = yaml.safe_load(amount)
        except yaml.YAMLError as error:
            raise ConfigError(f"--dirt {assignment!r}: the amount is not a number: {error}") from error
    names = ("items", "categories", "start")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    summary = _generate_log(
        options.output, terminal_of(options), users=options.users, seed=options.seed, dirt=amounts, **chosen
    )
    if options.json:
        print_json(answers.of_log(summary))
    return OK


def _generate_log(path: str, terminal: Terminal, **settings: Any) -> GeneratorSummary:
    from pydantic import ValidationError

    from generator.behavior_log import GeneratorConfig, generate

    try:
        config = GeneratorConfig.model_validate(settings)
        os.makedirs(os.path.dirname(absolute(path)), exist_ok=True)
        with terminal.waiting(f"Generating a log of {config.users:,} users"):
            summary = generate(config, Path(path), _ignore if terminal.quiet else None)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(error, GeneratorConfig))) from error
    except (ValueError, OSError) as error:
        raise CommandError(error) from error
    terminal.note(f"{summary.path}: {summary.rows:,} rows of {summary.users:,} users")
    return summary


def _ignore(users: int) -> None:
    """In place of a progress bar."""


def _show_config(options: argparse.Namespace) -> int:
    settings = configuration(options).model_dump(mode="json")
    if options.json:
        print_json(settings)
    else:
        print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
    return OK


def _completion(options: argparse.Namespace) -> int:
    print(completion.script(_parser(), options.shell), end="")
    return OK


_DEMO_PATIENCE_SECONDS = 300.0
"""For the server to load, and for its answer: on a busy machine both take many times what they take alone."""


def _demo(options: argparse.Namespace) -> int:
    terminal = terminal_of(options)
    check_output(options.output)
    log = os.path.join(options.output, "log", f"{options.users}-users-seed-{options.seed}.csv")
    # The same log again would be a new file to the cache, and the whole pipeline would run again.
    if not os.path.exists(log):
        _generate_log(log, terminal, users=options.users, seed=options.seed)
    config = load_preset("demo").with_overrides({"data": log, "output": absolute(options.output)})
    code = _train(config, terminal)
    if code != OK:
        return code
    from pipeline.output.eval_impressions import eval_impression
    from pipeline.output.runs import NoSuchRun
    from serving.client import ImpressionError, RankingClient, ServingError
    from serving.server import ModelServer

    name = config.served_model_name
    try:
        impression, chosen = eval_impression(config.output, config.pipeline_name)
        with ModelServer(Layout(config.output).model_base(name), name) as server:
            server.wait_until_ready(_DEMO_PATIENCE_SECONDS)
            with RankingClient(f"127.0.0.1:{server.port}", name, _DEMO_PATIENCE_SECONDS) as client:
                ranking = client.rank(impression)
    except (ImpressionError, NoSuchRun, ServingError, OSError) as error:
        raise CommandError(f"the model was trained and pushed, but not served: {error}") from error
    print("One impression of the eval split, answered over gRPC:\n")
    print(ranking_table(ranking, len(impression.history), chosen, terminal_width()))
    terminal.note(f"\nTo serve it again: {program()} serve --output {options.output}")
    return OK


# --- clean -------------------------------------------------------------------------------------------------


def _clean(options: argparse.Namespace) -> int:
    from pipeline.output.leftovers import clear_all, readable

    terminal, layout = terminal_of(options), Layout(absolute(options.output))
    if not os.path.isdir(layout.output):
        raise CommandError(f"{layout.output}: no such folder; give the --output of the runs")
    try:
        found = clear_all(layout, dry_run=options.dry_run)
    except OSError as error:
        raise CommandError(error) from error
    for leftover in found.folders:
        print(f"{readable(leftover.size):>10}  {os.path.relpath(leftover.path, layout.output)}  ({leftover.why})")
    for number, why in sorted(found.executions.items()):
        print(f"{'':>10}  execution {number} of ML Metadata, under way no more  ({why})")
    for line in found.left_alone:
        terminal.note(f"left alone: {line}")
    terminal.note(f"{'to be removed' if options.dry_run else 'removed'}: {found}")
    return OK


# --- the parser --------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program(),
        description="Click-through-rate prediction from behaviour logs: train, judge, serve and ask a ranking model.",
        epilog=f"""\
examples:
  %(prog)s generate --users 3000 --output log.csv
  %(prog)s run --data log.csv --preset demo --output output/mine
  %(prog)s sweep --data log.csv --preset demo --output output/mine --models dnn,din --seeds 3
  %(prog)s serve --output output/mine
  %(prog)s predict --output output/mine
  %(prog)s submit --host http://localhost:8080 --data /data --wait

{EXIT_CODES}""",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ctr-pipeline {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_sweep(commands)
    _add_serve(commands)
    _add_predict(commands)
    _add_generate(commands)
    _add_show_config(commands)
    _add_clean(commands)
    _add_demo(commands)
    kubeflow.add_commands(commands)
    _add_completion(commands)
    return parser


def _add_run(commands: Any) -> None:
    parser = add_command(
        commands,
        "run",
        _run,
        "train a model on a behaviour log, judge it, and push it if it is good enough",
        f"""\
Steps whose inputs and settings have not changed since an earlier run with the same --output are not
repeated. Models of 'also_train' follow in runs of their own, as challengers: one is pushed only if it
is at least as good as the blessed model.

examples:
  %(prog)s --data UserBehavior.csv.zip
  %(prog)s --data logs/ --preset sample --set training.epochs=2 --set model.name=dnn
  %(prog)s --data log.csv --preset demo --set evaluation.min_auc=0.7 --output output/strict

{EXIT_CODES}  With 'also_train' the exit code is that of the first model.
""",
    )
    add_config_options(parser)
    add_json_option(parser)


def _add_sweep(commands: Any) -> None:
    parser = add_command(
        commands,
        "sweep",
        _sweep,
        "train many models on one ingested and transformed data set, and compare them",
        """\
Writes DIR/sweep/table.md, trials.csv and plot.png. What has been measured before with the same settings on
the same data by the same code is not trained again, so a sweep that was stopped goes on where it was.

examples:
  %(prog)s --data log.csv --preset sample --models all --activations dice,prelu --seeds 3
  %(prog)s --data log.csv --preset sample --models dnn,din --match-features with
  %(prog)s --data log.csv --preset samplers --models din --samplers all --alphas 0,0.5,1 --losses all
""",
    )
    add_config_options(parser)
    add_json_option(parser)
    parser.add_argument(
        "--models",
        metavar="NAMES",
        default="all",
        help=f"comma-separated, or all: {', '.join(MODELS)}; default: all",
    )
    parser.add_argument(
        "--activations",
        metavar="NAMES",
        help=f"comma-separated, or all: {', '.join(ACTIVATIONS)}; default: the configured one alone",
    )
    parser.add_argument(
        "--match-features", choices=("both", "with", "without"), default="both", help="default: %(default)s"
    )
    parser.add_argument(
        "--samplers",
        metavar="NAMES",
        help=f"comma-separated, or all: {', '.join(SAMPLERS)}; default: the configured one alone",
    )
    parser.add_argument(
        "--stored",
        metavar="KINDS",
        help="of the random sampler: kinds of stored negatives; default: the configured one",
    )
    parser.add_argument(
        "--alphas",
        type=_shares,
        metavar="SHARES",
        help="of the mixed sampler, e.g. 0,0.5,1; default: the configured one",
    )
    parser.add_argument("--losses", metavar="NAMES", help="comma-separated, or all; default: the configured one alone")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="trainings of each, from training.seed; default: %(default)s"
    )


def _add_serve(commands: Any) -> None:
    parser = add_command(
        commands,
        "serve",
        _serve,
        "answer TF Serving's gRPC requests from the newest pushed version, until interrupted",
        """\
A version pushed while the server runs is loaded and takes over without a restart.

example:
  %(prog)s --output output --port 8500
""",
    )
    parser.add_argument("--output", metavar="DIR", default="output", help="of the run; default: %(default)s")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=_port, default=8500, help="0 for any free one; default: %(default)s")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving")


def _add_predict(commands: Any) -> None:
    parser = add_command(
        commands,
        "predict",
        _predict,
        "ask a running server to rank the candidates of one impression",
        """\
An impression file:
  {"history": [{"item_id": 12, "category_id": 3, "behavior": "pv",
                "age_seconds": 3600}],
   "candidates": [{"item_id": 7, "category_id": 3},
                  {"item_id": 9, "category_id": 4}]}

examples:
  %(prog)s --impression impression.json
  %(prog)s --output output
""",
    )
    add_json_option(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--impression", metavar="FILE", help="JSON: history (oldest first) and candidates")
    source.add_argument("--output", metavar="DIR", help="take an impression of the eval split of the run in DIR")
    parser.add_argument("--host", default="127.0.0.1", help="of the server; default: %(default)s")
    parser.add_argument("--port", type=_port, default=8500, help="default: %(default)s")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving, or ctr")
    parser.add_argument(
        "--pipeline-name", metavar="NAME", default="ctr", help="of the run in DIR; default: %(default)s"
    )


def _add_generate(commands: Any) -> None:
    parser = add_command(
        commands,
        "generate",
        _generate,
        "write a behaviour log of the public data's shape, the same bytes for the same seed",
        """\
example:
  %(prog)s --users 3000 --seed 7 --output log.csv.gz
  %(prog)s --users 20000 --categories 300 --output small-shop.csv
  %(prog)s --output dirty.csv --dirt duplicate=49 --dirt unknown_behavior=0.001 --crlf
""",
    )
    parser.add_argument("--users", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--items", type=int, help="catalogue size; default: 4.2 a user, at least 1,500,000")
    parser.add_argument(
        "--categories", type=int, help="default: 9439; with fewer, which category follows which can be learnt from less"
    )
    parser.add_argument("--start", metavar="DAY", help=f"first of the log's nine days; default: {FIRST_DAY}")
    parser.add_argument("--output", metavar="FILE", required=True, help="a .csv or .csv.gz")
    dirt = parser.add_argument(
        "--dirt",
        metavar="KIND=AMOUNT",
        action="append",
        default=[],
        help=f"add bad rows, a whole number of them or a share of the clean rows; kinds: {', '.join(DIRT_KINDS)}",
    )
    completion.offer(dirt, (f"{kind}=" for kind in DIRT_KINDS))
    parser.add_argument("--crlf", action="store_true", help="end lines with CR LF")
    add_json_option(parser)


def _add_show_config(commands: Any) -> None:
    parser = add_command(
        commands,
        "show-config",
        _show_config,
        "print the settings of a run as YAML, defaults and changes resolved",
        """\
example:
  %(prog)s --preset sample --set training.epochs=2
""",
    )
    add_config_options(parser)
    add_json_option(parser)


def _add_demo(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        _demo,
        "generate a log, run preset 'demo' on it, serve the model and rank one impression over gRPC",
        """\
example:
  %(prog)s --users 1000 --output output/small-demo
""",
    )
    parser.add_argument("--users", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--output", metavar="DIR", default="output/demo", help="default: %(default)s")


def _add_clean(commands: Any) -> None:
    parser = add_command(
        commands,
        "clean",
        _clean,
        "remove what runs that were ended left behind in an output folder",
        """\
Outputs of executions that did not succeed, or that ML Metadata does not know, and copies of versions that were
never pushed. Each run removes by itself what runs left that were killed; this removes what is older, too. Nothing
is removed that a living run writes, that an execution which succeeded has made, or that was pushed; nor are logs.

examples:
  %(prog)s --output output/demo --dry-run
  %(prog)s --output output/demo
""",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="of the runs")
    parser.add_argument("--dry-run", action="store_true", help="list it, and remove nothing")


def _add_completion(commands: Any) -> None:
    parser = add_command(
        commands,
        "completion",
        _completion,
        "write what makes a shell complete commands, options and settings with the Tab key",
        """\
examples:
  source <(%(prog)s bash)
  source <(%(prog)s zsh)
""",
    )
    parser.add_argument("shell", choices=completion.SHELLS)


def _shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; choose 0 to 65535")
    return port
