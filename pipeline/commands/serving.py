"""``serve`` and ``predict``."""

from __future__ import annotations

import argparse
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctr.components.files import absolute
from ctr.models.errors import ConfigError, CtrError
from ctr.models.registration import load_plugins
from ctr.pipeline.commands.command_line import (
    OK,
    add_command,
    add_plugin_option,
    check_output,
    print_json,
    program,
    terminal_of,
)
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import width as terminal_width

if TYPE_CHECKING:
    from ctr.serving.client import RankingClient
    from ctr.serving.impressions import Ranking
    from ctr.serving.models_config import ModelConfig
    from ctr.serving.tls import ServerTls


def add(commands: Any) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        commands,
        "serve",
        _serve,
        "answer TF Serving's gRPC requests from the newest pushed version, until interrupted",
        """\
A version pushed while the server runs is loaded and takes over without a restart.

examples:
  %(prog)s --output output --port 8500
  %(prog)s --output output --model ctr --wait
  %(prog)s --model-config-file models.config
""",
    )
    parser.add_argument("--output", metavar="DIR", default="output", help="of the run; default: %(default)s")
    _add_address(parser, "address to listen on", "0 for any free one; ")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving")
    parser.add_argument("--wait", action="store_true", help="start before a version is pushed; needs --model")
    parser.add_argument(
        "--model-config-file", metavar="FILE", help="TF Serving's models.config: several models, versions and labels"
    )

    parser.add_argument(
        "--model-config-file-poll-seconds",
        metavar="N",
        type=_seconds,
        default=0.0,
        help="read that file again every N seconds; default: never",
    )
    parser.add_argument(
        "--rest-port", type=_port, metavar="PORT", help="answer HTTP, too: REST and /metrics; 0 for any free one"
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="PEM; turns TLS on, with --tls-key")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM, without a password")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="PEM; lets in these authorities' clients alone")
    parser.add_argument("--request-log", metavar="DIR", help="keep some answered requests there, without a user")
    parser.add_argument(
        "--request-log-rate", metavar="X", type=_share, default=0.01, help="share that is kept; default: %(default)s"
    )
    parser.add_argument(
        "--request-log-max-mb", metavar="N", type=_megabytes, default=1000.0, help="the oldest go; default: %(default)g"
    )
    parser.add_argument("--access-log", action="store_true", help="a line for each answer: id, version, status, ms")

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
        answers=True,
    )
    add_plugin_option(parser, "features of impressions")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--impression", metavar="FILE", help="JSON: history (oldest first) and candidates")
    source.add_argument("--output", metavar="DIR", help="take an impression of the eval split of the run in DIR")
    _add_address(parser, "of the server")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving, or ctr")
    parser.add_argument("--label", metavar="LABEL", default="", help="of the version that is asked, e.g. canary")
    parser.add_argument("--tls-ca", metavar="FILE", help="PEM; turns TLS on, and trusts these authorities")
    parser.add_argument("--tls-certificate", metavar="FILE", help="PEM, for a server that asks for one")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM, of that certificate")
    parser.add_argument(
        "--pipeline-name", metavar="NAME", default="ctr", help="of the run in DIR; default: %(default)s"
    )


def _add_address(parser: argparse.ArgumentParser, host: str, port: str = "") -> None:
    parser.add_argument("--host", default="127.0.0.1", help=f"{host}; default: %(default)s")
    parser.add_argument("--port", type=_port, default=8500, help=f"{port}default: %(default)s")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait; choose 0 or more seconds")
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; choose above 0 and at most 1")
    return share


def _megabytes(text: str) -> float:
    size = float(text)
    if not 0 < size < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no size; choose above 0 megabytes")
    return size


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; choose 0 to 65535")
    return port


def _serve(options: argparse.Namespace) -> int:
    models = _models(options)
    tls = _server_tls(options)
    _check_free(options.host, options.port)
    if options.rest_port is not None:
        _check_free(options.host, options.rest_port)
    if options.request_log:
        check_output(options.request_log, "--request-log")
    with terminal_of(options).loading("TensorFlow"):
        from ctr.serving.request_log import RequestLogSettings
        from ctr.serving.server import Access, ModelServer, serve_forever

    folder = Path(absolute(options.request_log)) if options.request_log else None
    bounds = (options.request_log_rate, options.request_log_max_mb)
    request_log = RequestLogSettings(folder, *bounds) if folder else None
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("ctr.serving").setLevel(logging.WARNING if options.quiet else logging.INFO)
    access = Access(rest_port=options.rest_port, tls=tls, log=options.access_log, request_log=request_log)
    reached = {"host": options.host, "port": options.port, "access": access}
    try:
        if options.model_config_file:
            server = ModelServer.of_models(models, **reached)
            serve_forever(server, options.model_config_file, options.model_config_file_poll_seconds)
        else:
            serve_forever(ModelServer(models[0].base_path, models[0].name, **reached))
    except OSError as error:
        raise CtrError(error) from error
    return OK


def _server_tls(options: argparse.Namespace) -> ServerTls | None:
    from ctr.serving.tls import ServerTls

    certificate, key, client_ca = (
        Path(file) if file else None for file in (options.tls_certificate, options.tls_key, options.tls_client_ca)
    )
    if certificate and key:
        return ServerTls(certificate, key, client_ca)
    if certificate or key or client_ca:
        raise ConfigError("TLS: --tls-certificate and --tls-key go together; --tls-client-ca needs both")
    return None


def _models(options: argparse.Namespace) -> tuple[ModelConfig, ...]:
    from ctr.serving.models_config import ModelConfig, read_models_config

    if options.model_config_file:
        if options.model or options.wait:
            raise ConfigError("--model-config-file: names the models itself, and waits; leave out --model and --wait")
        return read_models_config(options.model_config_file)
    if options.wait and not options.model:
        raise ConfigError("--wait: name the model that is to come with --model, e.g. --model ctr")
    model = options.model or served_model(options.output)
    base = Layout(absolute(options.output)).model_base(model)
    if not os.path.isdir(base) and not options.wait:
        raise CtrError(f"{base}: no such folder; 'run' pushes blessed models there, and --wait lets the server wait")
    return (ModelConfig(model, Path(base)),)


def _check_free(host: str, port: int) -> None:
    """That a server can listen there; port 0 stands for any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise CtrError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from error


def served_model(output: str) -> str:
    """The only model in the output folder of a run.

    Raises:
      CtrError: if there is none, or there are several.
    """
    folder = Layout(absolute(output)).serving
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    if not names:
        raise CtrError(f"{folder}: no pushed model; run the pipeline with this --output first")
    if len(names) > 1:
        raise CtrError(f"{folder}: several models ({', '.join(names)}); choose one with --model")
    return names[0]


def _predict(options: argparse.Namespace) -> int:
    from ctr.serving.impressions import load_impression

    load_plugins(options.plugin)
    chosen = None
    impression = load_impression(options.impression) if options.impression else None
    model = options.model or (served_model(options.output) if options.output else "ctr")
    _check_reachable(options.host, options.port)
    if impression is None:
        with terminal_of(options).loading("TensorFlow"):
            from ctr.pipeline.output.eval_impressions import eval_impression

            impression, chosen = eval_impression(absolute(options.output), options.pipeline_name)
    with _client(options, model) as client:
        ranking = client.rank(impression)
    if options.json:
        print_json(answer(ranking, len(impression.history), chosen))
    else:
        print(ranking_table(ranking, len(impression.history), chosen, terminal_width()))
    return OK


def _client(options: argparse.Namespace, model: str) -> RankingClient:
    from ctr.serving.client import RankingClient

    try:
        return RankingClient(
            f"{options.host}:{options.port}",
            model,
            root_certificates=options.tls_ca,
            certificate=options.tls_certificate,
            private_key=options.tls_key,
            version_label=options.label,
        )
    except OSError as error:
        raise ConfigError(f"TLS: {error.filename}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError("TLS: --tls-certificate and --tls-key go together, and with --tls-ca") from error


def _check_reachable(host: str, port: int) -> None:
    """That something listens there; what it is shows the first request."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise CtrError(
            f"no server reachable at {host}:{port}: {error.strerror or error}; '{program()} serve' starts one"
        ) from error


def answer(ranking: Ranking, history_length: int, chosen_item: int | None) -> dict[str, Any]:
    """The JSON document of ``predict``; the arguments are those of :func:`ranking_table`."""
    document = ranking.model_dump(mode="json")
    candidates = document.pop("candidates")
    return {**document, "history_length": history_length, "chosen_item_id": chosen_item, "candidates": candidates}


def ranking_table(ranking: Ranking, history_length: int, chosen_item: int | None = None, width: int = 80) -> str:
    """A ranked answer as text.

    Args:
      ranking: the answer of the server.
      history_length: events of the request's history.
      chosen_item: the item that the user really chose, where that is known.
      width: characters in a line.
    """
    from ctr.components.tables import Table, as_text, laid_out

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
