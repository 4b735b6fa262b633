"""``run``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ctr.components.files import absolute
from ctr.components.trainer.cluster import CHALLENGERS, SEARCHED, SHARDED
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.commands.command_line import (
    EXIT_CODES,
    NOT_BLESSED,
    OK,
    add_command,
    add_config_options,
    check_output,
    configuration,
    print_json,
    terminal_of,
)
from ctr.pipeline.commands.report import afterwards, page_path, write_page
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import Terminal, show
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.serving.version_folders import newest_version

if TYPE_CHECKING:
    from ctr.pipeline.runners.local import RunResult

PROFILED_STEPS: Final = 20
"""Of ``--profile``, where the configuration asks for no number."""


def add(commands: Any) -> None:
    """Adds the command of this module."""
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
  %(prog)s --data log.csv --preset demo --set evaluation.bounds.auc.min=0.7 --output output/strict

{EXIT_CODES}  With 'also_train' the exit code is that of the first model.
""",
        answers=True,
    )
    add_config_options(parser)
    says = f"trace {PROFILED_STEPS} training steps for TensorBoard and report what their parts take"
    parser.add_argument("--profile", action="store_true", help=f"{says}: training.profile_steps={PROFILED_STEPS}")


def _run(options: argparse.Namespace) -> int:
    config = configuration(options)
    if options.profile and not config.training.profile_steps:
        config = config.with_overrides({"training.profile_steps": PROFILED_STEPS})
    return train(config, terminal_of(options), as_json=options.json)


def train(config: PipelineConfig, terminal: Terminal, as_json: bool = False) -> int:
    """Trains the configured model, then its challengers; the first one's verdict is the exit code."""
    for asked, alone in (
        (config.also_train, CHALLENGERS),
        (config.tuner.space, SEARCHED),
        (config.training.shard_tables, SHARDED),
    ):
        if asked:
            alone.require()
    check_paths(config)
    results = [_train_one(config.with_overrides({"also_train": ()}), terminal, as_json)]
    results += [_train_one(challenger(config, model), terminal, as_json) for model in config.also_train]
    if as_json:
        print_json(answer(results))
    return OK if results[0].report.blessed else NOT_BLESSED


def challenger(config: PipelineConfig, model: str) -> PipelineConfig:
    """The run of a model of ``also_train``: it takes the served model's place only if its AUC is at least as high.

    That is of the value itself, beside the bounds that there are: the better of two models that all of these let
    through is wanted, not one that is surely better.
    """
    better = f"evaluation.bounds.auc@{config.ingest.judged_set}"
    changes = {f"{better}.max_drop": 0.0, f"{better}.confidence": None}
    return config.with_overrides({"also_train": (), "model.name": model, **changes})


def answer(results: Sequence[RunResult]) -> dict[str, Any]:
    """The JSON document: the first run is the configured model's, those of ``also_train`` follow."""
    return {
        "runs": [
            {
                "run_id": result.run_id,
                "model": result.report.config["model"]["name"],
                "blessed": result.report.blessed,
                "pushed_version": result.report.pushed_version,
                "pushed_to": result.report.pushed_to,
                "pushed_earlier": result.pushed_earlier,
                "seconds": {name: usage.seconds for name, usage in result.usage.items()},
                "usage": {name: usage.model_dump(mode="json") for name, usage in result.usage.items()},
                "cached": sorted(result.cached),
                "log": result.log,
                "page": page_path(Layout(result.report.config["output"]), result.run_id),
                "report": result.report.model_dump(mode="json"),
            }
            for result in results
        ]
    }


def check_paths(config: PipelineConfig) -> None:
    """Says within a second what is wrong with the output, and with the data as far as their first rows tell."""
    check_output(config.output)
    if not config.data:
        raise ConfigError("data: give a behaviour log with --data PATH, or make one with 'generate'")
    from ctr.components.examples.vocabulary import vocabularies
    from ctr.components.impression_gen.look import look_at

    try:
        catalogue = look_at(absolute(config.data), config.ingest, config.span)
        if catalogue is not None:
            vocabularies(catalogue, config.transform)
    except OSError as error:
        raise CtrError(error) from error


def _train_one(config: PipelineConfig, terminal: Terminal, as_json: bool) -> RunResult:
    from ctr.components.run_report.render import layout
    from ctr.pipeline.output.history import History
    from ctr.pipeline.runners.local import LocalRunner

    terminal.note(f"{config.model.name.upper()}: {config.data} -> {config.output}")
    result = LocalRunner(terminal).run(config)
    output = Layout(absolute(config.output))
    run = History(output).run(result.run_id)
    if not as_json:
        terminal.note("")
        show(lambda width: layout(result.report, width, afterwards(run)))
        terminal.note("")
    newest = newest_version(output.model_base(config.served_model_name))
    if newest is not None and result.report.pushed_version is not None and newest != result.report.pushed_version:
        terminal.note(f"The newest version, which a server takes, is another model's: {newest}.")
    terminal.note(f"The log of this run: {result.log}")
    page = write_page(output, run)
    if not as_json:
        print(f"The whole report: {page}", flush=True)
    return result
