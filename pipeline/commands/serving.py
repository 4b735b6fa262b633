"""``serve``."""

from __future__ import annotations

import argparse
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctr.components.files import absolute
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.commands.command_line import OK, add_command, check_output, numbers, terminal_of
from ctr.pipeline.output.layout import Layout

if TYPE_CHECKING:
    from ctr.serving.limits import RequestLogSettings
    from ctr.serving.models_config import ModelConfig
    from ctr.serving.tls import ServerTls


SECONDS: Final = numbers(float, lambda number: 0 <= number < 1e6, "no time to wait; choose 0 or more seconds")
_PORT: Final = numbers(int, lambda number: 0 <= number <= 65535, "no port; choose 0 to 65535")
_SHARE: Final = numbers(float, lambda number: 0 < number <= 1, "no share; choose above 0 and at most 1")
_MEGABYTES: Final = numbers(float, lambda number: 0 < number < 1e9, "no size; choose above 0 megabytes")


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
    add_address(parser, "address to listen on", "0 for any free one; ")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving")
    parser.add_argument("--wait", action="store_true", help="start before a version is pushed; needs --model")
    parser.add_argument(
        "--model-config-file", metavar="FILE", help="TF Serving's models.config: several models, versions and labels"
    )

    parser.add_argument(
        "--model-config-file-poll-seconds",
        metavar="N",
        type=SECONDS,
        default=0.0,
        help="read that file again every N seconds; default: never",
    )
    parser.add_argument(
        "--rest-port", type=_PORT, metavar="PORT", help="answer HTTP, too: REST and /metrics; 0 for any free one"
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="PEM; turns TLS on, with --tls-key")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM, without a password")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="PEM; lets in these authorities' clients alone")
    parser.add_argument("--request-log", metavar="DIR", help="keep some answered requests there, without a user")
    parser.add_argument(
        "--request-log-rate", metavar="X", type=_SHARE, default=0.01, help="share that is kept; default: %(default)s"
    )
    parser.add_argument(
        "--request-log-max-mb", metavar="N", type=_MEGABYTES, default=1000.0, help="the oldest go; default: %(default)g"
    )
    parser.add_argument("--access-log", action="store_true", help="a line for each answer: id, version, status, ms")
    parser.add_argument(
        "--processes", type=int, metavar="N", default=1, help="that answer on one port; default: %(default)s"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", default=16, help="rows that run together; 1: none; default: %(default)s"
    )
    parser.add_argument(
        "--batch-microseconds",
        type=int,
        metavar="N",
        default=0,
        help="that fewer rows wait for more; default: %(default)s, they gather while others run",
    )


def add_address(parser: argparse.ArgumentParser, host: str, port: str = "") -> None:
    """Adds ``--host`` and ``--port``."""
    parser.add_argument("--host", default="127.0.0.1", help=f"{host}; default: %(default)s")
    parser.add_argument("--port", type=_PORT, default=8500, help=f"{port}default: %(default)s")


def _serve(options: argparse.Namespace) -> int:
    from ctr.serving.limits import Batching
    from ctr.serving.processes import Plan, Processes, serve_until_ended

    models = _models(options)
    tls = _server_tls(options)
    _check_free(options.host, options.port, "--port")
    if options.rest_port is not None:
        _check_free(options.host, options.rest_port, "--rest-port")
    if options.processes < 1:
        raise ConfigError(f"--processes: must be 1 or more, got {options.processes}")
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    level = logging.WARNING if options.quiet else logging.INFO
    logging.getLogger("ctr.serving").setLevel(level)
    reached = {"host": options.host, "port": options.port}
    access = {"tls": tls, "log": options.access_log, "request_log": _request_log(options)}
    followed = options.model_config_file, options.model_config_file_poll_seconds
    try:
        batching = Batching(size=options.batch_size, microseconds=options.batch_microseconds)
        if options.processes > 1:
            work = {"batching": batching, "access": access}
            plan = Plan(
                models,
                may_reload=bool(options.model_config_file),
                rest_port=options.rest_port,
                options=work,
                log_level=level,
                **reached,
            )
            serve_until_ended(Processes(plan, options.processes), *followed)
            return OK
        with terminal_of(options).loading("TensorFlow"):
            from ctr.serving.server import Access, ModelServer, serve_forever

        alone = {**reached, "access": Access(rest_port=options.rest_port, **access), "batching": batching}
        if options.model_config_file:
            serve_forever(ModelServer.of_models(models, **alone), *followed)
        else:
            serve_forever(ModelServer(models[0].base_path, models[0].name, **alone))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise CtrError(error) from error
    return OK


def _request_log(options: argparse.Namespace) -> RequestLogSettings | None:
    from ctr.serving.limits import RequestLogSettings

    if not options.request_log:
        return None
    check_output(options.request_log, "--request-log")
    return RequestLogSettings(Path(absolute(options.request_log)), options.request_log_rate, options.request_log_max_mb)


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


def _check_free(host: str, port: int, option: str) -> None:
    """That a server can listen there; port 0 stands for any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise CtrError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another {option}, or 0 for any"
        ) from error


def served_model(output: str) -> str:
    """The only model that a run has pushed.

    Raises:
      CtrError: if there is none, or several.
    """
    folder = Layout(absolute(output)).serving
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    if not names:
        raise CtrError(f"{folder}: no pushed model; run the pipeline with this --output first")
    if len(names) > 1:
        raise CtrError(f"{folder}: several models ({', '.join(names)}); choose one with --model")
    return names[0]
