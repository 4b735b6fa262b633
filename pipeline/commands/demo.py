"""``demo``."""

from __future__ import annotations

import argparse
import os
from typing import Any, Final

from ctr.components.files import absolute
from ctr.models.errors import CtrError
from ctr.pipeline.commands.command_line import OK, add_command, check_output, program, terminal_of
from ctr.pipeline.commands.generate import add_log_options, generate_log
from ctr.pipeline.commands.predict import ranking_table
from ctr.pipeline.commands.run import train
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import width
from ctr.pipeline.settings.pipeline_config import load_preset

_PATIENCE_SECONDS: Final = 300.0
"""For the server to load, and for its answer: on a busy machine both take many times what they take alone."""


def add(commands: Any) -> None:
    """Adds the command of this module."""
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
    add_log_options(parser)
    parser.add_argument("--output", metavar="DIR", default="output/demo", help="default: %(default)s")


def _demo(options: argparse.Namespace) -> int:
    terminal = terminal_of(options)
    check_output(options.output)
    log = os.path.join(options.output, "log", f"{options.users}-users-seed-{options.seed}.csv")
    # The same log again would be a new file to the cache, and the whole pipeline would run again.
    if not os.path.exists(log):
        generate_log(log, terminal, users=options.users, seed=options.seed)
    config = load_preset("demo").with_overrides({"data": log, "output": absolute(options.output)})
    code = train(config, terminal)
    if code != OK:
        return code
    from ctr.pipeline.output.eval_impressions import eval_impression
    from ctr.serving.client import RankingClient
    from ctr.serving.server import ModelServer

    name = config.served_model_name
    try:
        impression, chosen = eval_impression(config.output, config.pipeline_name)
        with ModelServer(Layout(config.output).model_base(name), name) as server:
            server.wait_until_ready(_PATIENCE_SECONDS)
            with RankingClient(f"127.0.0.1:{server.port}", name, _PATIENCE_SECONDS) as client:
                ranking = client.rank(impression)
    except (CtrError, OSError) as error:
        raise CtrError(f"the model was trained and pushed, but not served: {error}") from error
    print("One impression of the eval split, answered over gRPC:\n")
    print(ranking_table(ranking, len(impression.history), chosen, width()))
    terminal.note(f"\nTo serve it again: {program()} serve --output {options.output}")
    return OK
