"""``sweep``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from ctr.components.files import absolute
from ctr.components.trainer.cluster import SWEPT
from ctr.models.registry import ACTIVATIONS, MODELS
from ctr.models.samplers.registry import SAMPLERS
from ctr.pipeline.commands.command_line import (
    FAILED,
    OK,
    add_command,
    add_config_options,
    configuration,
    numbers,
    print_json,
    terminal_of,
)
from ctr.pipeline.commands.run import check_paths
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import show
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.pipeline.sweep.trials import Trial, grid

if TYPE_CHECKING:
    from ctr.pipeline.sweep.render import SweepReport

_SHARE: Final = numbers(float, lambda number: 0 <= number <= 1, "no share; choose 0 to 1, with commas between several")
_MATCH_FEATURES = {"both": (True, False), "with": (True,), "without": (False,)}


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "sweep",
        _sweep,
        "train many models on one ingested and transformed data set, and compare them",
        f"""\
Writes DIR/sweep/table.md, trials.csv and plot.png. What has been measured before with the same settings on
the same data by the same code is not trained again, so a sweep that was stopped goes on where it was.

examples:
  %(prog)s --data log.csv --preset sample --models all --activations dice,prelu --seeds 3
  %(prog)s --data log.csv --preset sample --models dnn,din --match-features with
  %(prog)s --data log.csv --preset samplers --models din --samplers all --alphas 0,0.5,1 --losses all

models, and the history as a candidate sees it:
{MODELS.described()}

samplers, and their negatives:
{SAMPLERS.described()}

activations of a pre-activation s:
{ACTIVATIONS.described()}
""",
        answers=True,
    )
    add_config_options(parser)
    one, configured = "comma-separated, or all", "default: the configured one"

    def names(option: str, says: str, default: str | None = None, metavar: str = "NAMES") -> None:
        parser.add_argument(option, type=_names, metavar=metavar, default=default, help=says)

    names("--models", f"{one}: {', '.join(MODELS)}; default: all", "all")
    names("--activations", f"{one}: {', '.join(ACTIVATIONS)}; {configured} alone")
    parser.add_argument("--match-features", choices=_MATCH_FEATURES, default="both", help="default: %(default)s")
    names("--samplers", f"{one}: {', '.join(SAMPLERS)}; {configured} alone")
    names("--stored", f"of the random sampler: kinds of stored negatives; {configured}", metavar="KINDS")
    parser.add_argument(
        "--alphas", type=_shares, metavar="SHARES", help=f"of the mixed sampler, e.g. 0,0.5,1; {configured}"
    )
    names("--losses", f"{one}; {configured} alone")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="trainings of each, from training.seed; default: %(default)s"
    )


def _names(text: str) -> list[str]:
    return text.split(",")


def _shares(text: str) -> list[float]:
    return [_SHARE(part) for part in text.split(",")]


def _sweep(options: argparse.Namespace) -> int:
    swept = {"model.name": options.models, "model.activation": options.activations, "sampler.name": options.samplers}
    config = configuration(options, {name: names for name, names in swept.items() if names})
    terminal = terminal_of(options)
    SWEPT.require()
    check_paths(config)

    from ctr.pipeline.sweep.render import layout
    from ctr.pipeline.sweep.run import sweep

    report = sweep(config, chosen_trials(options, config), terminal)
    files = Layout(absolute(config.output))
    if options.json:
        print_json(answer(report, files))
    else:
        show(lambda width: layout(report, width))
    terminal.note(f"The whole table, CSV and plot: {files.sweep}")
    return FAILED if report.failures else OK


def chosen_trials(options: argparse.Namespace, config: PipelineConfig) -> list[Trial]:
    """The trials that the options ask for."""
    return grid(
        config,
        models=options.models,
        activations=options.activations or [config.model.activation],
        match_features=_MATCH_FEATURES[options.match_features],
        seeds=options.seeds,
        samplers=options.samplers,
        stored=options.stored,
        alphas=options.alphas,
        losses=options.losses,
    )


def answer(report: SweepReport, layout: Layout) -> dict[str, Any]:
    """The JSON document."""
    return {"folder": layout.sweep, **report.model_dump(mode="json")}
