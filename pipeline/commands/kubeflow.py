"""``compile``, ``submit`` and ``schedule``."""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.commands.command_line import (
    EXIT_CODES,
    FAILED,
    NOT_BLESSED,
    OK,
    add_command,
    add_config_options,
    add_repeated,
    assigned,
    configuration,
    terminal_of,
)
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import LiveLine, Terminal
from ctr.pipeline.runners.kubeflow import api as kubeflow_api
from ctr.pipeline.runners.kubeflow.following import follow
from ctr.pipeline.runners.kubeflow.package import CONFIG_OPTION, VERDICT, PackageWriter
from ctr.pipeline.runners.kubeflow.parameters import USUAL_NAMES, defaults, with_parameters
from ctr.pipeline.runners.vertex import VertexWriter
from ctr.pipeline.settings.pipeline_config import PipelineConfig

_PIPELINE_ID: Final = "(the pipeline's id)"


def add(commands: Any) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        commands,
        "compile",
        _compile,
        "write the pipeline as a package for Kubeflow Pipelines or Vertex AI",
        """\
The package for Kubeflow Pipelines (2.5.0 and newer) has one step for each node of the DAG.

examples:
  %(prog)s --data /data --set kubeflow.image=registry.example/ctr-pipeline:0.1.0
  %(prog)s --target vertex --data gs://bucket/log.csv --output gs://bucket/ctr --file ctr.yaml
""",
    )
    add_config_options(parser, preset="kubeflow")
    parser.add_argument("--target", choices=("kfp", "vertex"), default="kfp", help="default: %(default)s")
    parser.add_argument("--file", metavar="FILE", help="- for standard output; default: <pipeline_name>-<target>.yaml")

    parser = add_command(
        commands,
        "submit",
        _submit,
        "upload the pipeline to Kubeflow Pipelines, as a new version of it, and start a run",
        f"""\
examples:
  %(prog)s --host http://localhost:8080 --data /data --wait
  %(prog)s --package ctr-kfp.yaml --param data=/data --param epochs=3 --param model=dien
  %(prog)s --package ctr-kfp.yaml --param data=/data --dry-run

{EXIT_CODES}  1, 2 and 3 are those of the run only with --wait.
""",
    )
    _add_run_options(parser)
    parser.add_argument("--name", metavar="NAME", help="of the run; default: pipeline, model and time")
    parser.add_argument("--wait", action="store_true", help="follow the run, and exit with its result")
    parser.add_argument("--poll-seconds", type=float, default=10, metavar="S", help="default: %(default)g")
    parser.add_argument(
        "--wait-seconds", type=float, metavar="S", help="stop following (not the run) after so long; default: never"
    )

    parser = add_command(
        commands,
        "schedule",
        _schedule,
        "upload the pipeline to Kubeflow Pipelines and make a recurring run of that version",
        """\
One run at a time; runs that were missed are not made up for.

examples:
  %(prog)s --cron "0 30 3 * * *" --data "/data/{YYYY}-{MM}-{DD}.csv"
  %(prog)s --cron "0 0 4 * * 1" --package ctr-kfp.yaml --param data=/data --replace
""",
    )
    _add_run_options(parser)
    parser.add_argument(
        "--cron", metavar="FIELDS", required=True, help="second minute hour day month weekday, the server's time zone"
    )
    parser.add_argument("--name", metavar="NAME", help="of the recurring run; default: the pipeline's")
    parser.add_argument("--replace", action="store_true", help="remove an older one of this name")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser, preset="kubeflow")
    parser.add_argument("--package", metavar="FILE", help="of 'compile'; default: compile now, from the options above")
    says = f"a parameter of the run; may be repeated: {', '.join(USUAL_NAMES)}, and the other bounds there are"
    add_repeated(parser, "--param", "NAME=VALUE", says, lambda: (f"{name}=" for name in USUAL_NAMES))
    parser.add_argument("--experiment", metavar="NAME", help="made where there is none; default: the pipeline's name")
    parser.add_argument("--version", metavar="NAME", help="of the uploaded pipeline; default: the time")
    parser.add_argument("--service-account", metavar="NAME", help="default: kubeflow.service_account")
    parser.add_argument("--host", metavar="URL", help=f"default: {kubeflow_api.HOST_ENV}")
    parser.add_argument("--namespace", metavar="NAME", help=f"of a profile; default: {kubeflow_api.NAMESPACE_ENV}")
    parser.add_argument(
        "--token", metavar="TOKEN", help=f"seen by others in the list of processes; default: {kubeflow_api.TOKEN_ENV}"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"read for each request, e.g. a service account's; default: {kubeflow_api.TOKEN_FILE_ENV}",
    )
    parser.add_argument("--ca-file", metavar="FILE", help=f"of the authority; default: {kubeflow_api.CA_FILE_ENV}")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="for a request; default: %(default)g")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")


def _compile(options: argparse.Namespace) -> int:
    config, terminal = configuration(options), terminal_of(options)
    file = options.file or f"{config.pipeline_name}-{options.target}.yaml"
    if file != "-":
        _check_file(file)
    package = _compiled(config, options.target, terminal)
    if file == "-":
        print(package, end="")
        return OK
    try:
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(package)
    except OSError as error:
        raise CtrError(f"--file {file}: {error.strerror}") from error
    terminal.note(f"{file}: {len(package.encode()):,} bytes")
    return OK


def _check_file(file: str) -> None:
    """That a file may be written, before what it gets is made."""
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise CtrError(f"--file {file}: there is no folder {folder}")
    if os.path.isdir(file):
        raise CtrError(f"--file {file}: is a folder")
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise CtrError(f"--file {file}: cannot be written by this user")


def _compiled(config: PipelineConfig, target: str, terminal: Terminal) -> str:
    if config.also_train:
        terminal.note(
            f"also_train ({', '.join(config.also_train)}) is left out: a compiled pipeline trains one model a run; "
            "submit it once more with --param model=NAME"
        )
        config = config.with_overrides({"also_train": ()})
    writer = {"kfp": PackageWriter, "vertex": VertexWriter}[target]()
    writer.check(config)
    with terminal.waiting("Compiling the pipeline, with TensorFlow and TFX"):
        return writer.run(config)


def _submit(options: argparse.Namespace) -> int:
    terminal = terminal_of(options)
    package, parameters, api = _prepared(options, terminal)
    now = f"{dt.datetime.now():%Y-%m-%d %H:%M:%S}"
    name = options.name or f"{package.config.pipeline_name} {parameters['model']} {now}"
    if api is None:
        return _show_plan(options, package, "runs", name, {"runtime_config": {"parameters": parameters}})
    run = api.start(_uploaded(api, options, package, name, parameters))
    terminal.note(f"run {run}: {name}\n{api.run_page(run)}")
    if not options.wait:
        print(run)
        return OK
    return _wait(api, run, package, options)


def _wait(api: kubeflow_api.Api, run: str, package: Package, options: argparse.Namespace) -> int:
    line = LiveLine(io.StringIO() if options.quiet else sys.stdout)
    state, steps = follow(
        api, run, package.tasks, line, poll_seconds=options.poll_seconds, timeout=options.wait_seconds
    )
    failed = [name for name, step in steps.items() if step in kubeflow_api.FAILED_STATES]
    report = "report   artifact 'report' of step run-report"
    logs = f"logs     of each step: {api.run_page(run)}\n         or {api.logs_command(run)}"
    if state == "SUCCEEDED":
        config = package.config
        versions = Layout(config.output).model_base(config.served_model_name)
        print("BLESSED")
        print(f"version  in {versions}; the last line of step {VERDICT} says which, and if an earlier run pushed it")
        print(f"{report}\n{logs}")
        return OK
    if failed == [VERDICT]:
        print(f"NOT BLESSED: nothing was pushed\n{report}: which bound was missed\n{logs}")
        return NOT_BLESSED
    which = f"; failed: {', '.join(failed)}" if failed else ""
    print(f"error: the run ended as {state.lower()}{which}\n{logs}", file=sys.stderr)
    return FAILED


def _schedule(options: argparse.Namespace) -> int:
    fields = options.cron.split()
    if len(fields) != 6:
        raise ConfigError(
            f"--cron {options.cron!r}: {len(fields)} fields; give six, seconds first, e.g. '0 30 3 * * *' for 3:30"
        )
    terminal = terminal_of(options)
    package, parameters, api = _prepared(options, terminal)
    name = options.name or package.config.pipeline_name
    body = {
        "runtime_config": {"parameters": parameters},
        "trigger": {"cron_schedule": {"cron": options.cron}},
        "mode": "ENABLE",
        "max_concurrency": 1,
        "no_catchup": True,
    }
    if api is None:
        return _show_plan(options, package, "recurringruns", name, body)
    made = api.schedule(_uploaded(api, options, package, name, parameters), options.cron, options.replace)
    terminal.note(f"recurring run {made}: {name}, {options.cron}")
    print(made)
    return OK


def _prepared(
    options: argparse.Namespace, terminal: Terminal
) -> tuple[Package, dict[str, Any], kubeflow_api.Api | None]:
    """The package, the run's parameters, and the server, None for a dry run; options get their defaults.

    All that can be checked is, the server included, before the pipeline is compiled, which takes a while.
    """
    given = assigned("--param", options.param, "NAME=VALUE, e.g. epochs=2")
    package = Package.read(options.package) if options.package else None
    config = package.config if package else configuration(options)
    of_run = with_parameters(config, given)
    if not of_run.data:
        raise ConfigError("data: name the log of this run with --param data=PATH, as the steps see it")
    if package is None:
        PackageWriter().check(config)
    api = None if options.dry_run else _connected(options, terminal)
    if package is None:
        package = Package.parse(_compiled(config, "kfp", terminal), "this configuration")
    options.experiment = options.experiment or config.pipeline_name
    options.version = options.version or f"{dt.datetime.now():%Y%m%d-%H%M%S-%f}"
    options.service_account = options.service_account or config.kubeflow.service_account
    return package, defaults(of_run), api


def _connected(options: argparse.Namespace, terminal: Terminal) -> kubeflow_api.Api:
    given = {name: getattr(options, name) for name in ("host", "namespace", "token", "token_file", "ca_file")}
    try:
        server = kubeflow_api.Server.from_environment(options.timeout, **given)
    except kubeflow_api.ApiError as error:
        raise ConfigError(str(error)) from error
    with terminal.waiting(f"Asking {server.host}"):
        return kubeflow_api.Api(server)


def _uploaded(
    api: kubeflow_api.Api, options: argparse.Namespace, package: Package, run: str, parameters: dict[str, Any]
) -> kubeflow_api.Submission:
    name = package.config.pipeline_name
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, f"{name}.yaml")
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(package.text)
        pipeline = api.upload(file, name, options.version)
    experiment = api.experiment(options.experiment)
    return kubeflow_api.Submission(run, experiment, pipeline, parameters, options.service_account)


def _show_plan(options: argparse.Namespace, package: Package, collection: str, name: str, body: dict[str, Any]) -> int:
    """Prints the requests that change something, with names where only the server knows the ids."""
    pipeline = package.config.pipeline_name
    file = f"{pipeline}.yaml, {len(package.text.encode()):,} bytes"
    namespace = options.namespace or os.environ.get(kubeflow_api.NAMESPACE_ENV, "")
    first = urlencode({"name": pipeline, **({"namespace": namespace} if namespace else {})})
    further = urlencode({"name": options.version, "pipelineid": _PIPELINE_ID})
    api = "/apis/v2beta1"
    body = {
        "display_name": name,
        "experiment_id": "(the experiment's id)",
        "pipeline_version_reference": {"pipeline_id": _PIPELINE_ID, "pipeline_version_id": "(the version's id)"},
        **body,
        **({"service_account": options.service_account} if options.service_account else {}),
    }
    plan = [
        {"request": f"POST {api}/pipelines/upload?{first}", "if": f"there is no pipeline {pipeline}", "file": file},
        {
            "request": f"POST {api}/pipelines/upload_version?{further}",
            "if": f"there is a pipeline {pipeline}",
            "file": file,
        },
        {
            "request": f"POST {api}/experiments",
            "if": "there is no such experiment",
            "body": {"display_name": options.experiment, "namespace": namespace},
        },
        {"request": f"POST {api}/{collection}", "body": body},
    ]
    print(json.dumps(plan, indent=2))
    return OK


@dataclass(frozen=True)
class Package:
    """A compiled pipeline."""

    text: str
    """Both YAML documents."""
    config: PipelineConfig
    """What it was compiled from."""
    tasks: tuple[str, ...]
    """Names of its steps, the last one included."""

    @classmethod
    def read(cls, file: str) -> Package:
        """Reads the file that ``compile`` wrote.

        Raises:
          ConfigError: if it is something else.
        """
        try:
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
        except OSError as error:
            raise ConfigError(f"--package {file}: {error.strerror}") from error
        return cls.parse(text, f"--package {file}")

    @classmethod
    def parse(cls, text: str, where: str) -> Package:
        """Reads what ``compile`` wrote; ``where`` it stands is for the message of the error, as for :meth:`read`."""
        try:
            # The parser in C: the one in Python takes a second.
            spec = next(yaml.load_all(text, yaml.CSafeLoader))
            tasks = tuple(spec["root"]["dag"]["tasks"])
            # Each step carries it.
            executors = spec["deploymentSpec"]["executors"].values()
            arguments = next(e["container"]["args"] for e in executors if e["container"]["args"][0] == "step")
            config = next(a for a in arguments if a.startswith(f"{CONFIG_OPTION}="))
        except (yaml.YAMLError, StopIteration, KeyError, TypeError, IndexError) as error:
            raise ConfigError(f"{where}: no package that 'compile' wrote for Kubeflow Pipelines") from error
        return cls(text, PipelineConfig.from_json(config.partition("=")[2]), tasks)
