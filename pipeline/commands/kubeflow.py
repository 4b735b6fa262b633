"""``python -m pipeline compile | submit | schedule``, and ``step`` and ``verdict``, which the compiled steps call."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from pipeline.commands.command_line import (
    EXIT_CODES,
    FAILED,
    NOT_BLESSED,
    OK,
    CommandError,
    add_command,
    add_config_options,
    configuration,
    terminal_of,
)
from pipeline.commands.completion import offer
from pipeline.process.terminal import Terminal
from pipeline.runners.kubeflow import api as kubeflow_api
from pipeline.runners.kubeflow import package as kubeflow_runner
from pipeline.runners.kubeflow.package import CONFIG_OPTION, VERDICT
from pipeline.runners.kubeflow.parameters import PARAMETERS, defaults, with_parameters
from pipeline.settings.pipeline_config import ConfigError, PipelineConfig

_PIPELINE_ID: Final = "(the pipeline's id)"
_VERSION_ID: Final = "(the version's id)"
_EXPERIMENT_ID: Final = "(the experiment's id)"
_PARAMETER_NAMES: Final = (*(parameter.name for parameter in PARAMETERS), "min_auc", "max_auc", "max_auc_drop")


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
      text: both YAML documents.
      config: what it was compiled from.
      tasks: names of its steps, the last one included.
    """

    text: str
    config: PipelineConfig
    tasks: tuple[str, ...]

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
        """Reads what ``compile`` wrote.

        Args:
          text: both documents.
          where: they come from, for the message.

        Raises:
          ConfigError: if it is something else.
        """
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


# --- compile -----------------------------------------------------------------------------------------------


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
        raise CommandError(f"--file {file}: {error.strerror}") from error
    terminal.note(f"{file}: {len(package.encode()):,} bytes")
    return OK


def _check_file(file: str) -> None:
    """That a file may be written, before what it gets is made."""
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise CommandError(f"--file {file}: there is no folder {folder}")
    if os.path.isdir(file):
        raise CommandError(f"--file {file}: is a folder")
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise CommandError(f"--file {file}: cannot be written by this user")


def _compiled(config: PipelineConfig, target: str, terminal: Terminal) -> str:
    if config.also_train:
        terminal.note(
            f"also_train ({', '.join(config.also_train)}) is left out: a compiled pipeline trains one model a run; "
            "submit it once more with --param model=NAME"
        )
        config = config.with_overrides({"also_train": ()})
    kubeflow_runner.check(config)
    with terminal.waiting("Compiling the pipeline, with TensorFlow and TFX"):
        return kubeflow_runner.compile_kfp(config) if target == "kfp" else kubeflow_runner.compile_vertex(config)


# --- submit, schedule --------------------------------------------------------------------------------------


def _submit(options: argparse.Namespace) -> int:
    terminal = terminal_of(options)
    package, parameters, api = _prepared(options, terminal)
    config = package.config
    name = options.name or f"{config.pipeline_name} {parameters['model']} {dt.datetime.now():%Y-%m-%d %H:%M:%S}"
    body = {"runtime_config": {"parameters": parameters}}
    if api is None:
        return _show_plan(options, package, "runs", name, body)
    try:
        pipeline, experiment = _upload(api, options, package)
        run = api.start(name, experiment, pipeline, parameters, _service_account(options, config))
    except kubeflow_api.ApiError as error:
        raise CommandError(error) from error
    terminal.note(f"run {run}: {name}\n{api.run_page(run)}")
    if not options.wait:
        print(run)
        return OK
    return _wait(api, run, package.tasks, options)


def _wait(api: kubeflow_api.Api, run: str, tasks: tuple[str, ...], options: argparse.Namespace) -> int:
    try:
        state, steps = kubeflow_api.follow(
            api,
            run,
            tasks,
            lambda line: None if options.quiet else print(line, flush=True),
            poll_seconds=options.poll_seconds,
            timeout=options.wait_seconds,
        )
    except kubeflow_api.ApiError as error:
        raise CommandError(error) from error
    failed = [name for name, step in steps.items() if step in ("FAILED", "ERROR")]
    if state == "SUCCEEDED":
        print("BLESSED; the report of step run-report says which version it is.")
        return OK
    if failed == [VERDICT]:
        print("NOT BLESSED: nothing was pushed. The report of step run-report says which bound was missed.")
        return NOT_BLESSED
    which = f"; failed: {', '.join(failed)}" if failed else ""
    print(f"error: the run ended as {state.lower()}{which}\n{api.run_page(run)}", file=sys.stderr)
    return FAILED


def _schedule(options: argparse.Namespace) -> int:
    fields = options.cron.split()
    if len(fields) != 6:
        raise ConfigError(
            f"--cron {options.cron!r}: {len(fields)} fields; give six, seconds first, e.g. '0 30 3 * * *' for 3:30"
        )
    terminal = terminal_of(options)
    package, parameters, api = _prepared(options, terminal)
    config = package.config
    name = options.name or config.pipeline_name
    body = {
        "runtime_config": {"parameters": parameters},
        "trigger": {"cron_schedule": {"cron": options.cron}},
        "mode": "ENABLE",
        "max_concurrency": 1,
        "no_catchup": True,
    }
    if api is None:
        return _show_plan(options, package, "recurringruns", name, body)
    try:
        pipeline, experiment = _upload(api, options, package)
        made = api.schedule(
            name,
            options.cron,
            experiment,
            pipeline,
            parameters,
            _service_account(options, config),
            replace=options.replace,
        )
    except kubeflow_api.ApiError as error:
        raise CommandError(error) from error
    terminal.note(f"recurring run {made}: {name}, {options.cron}")
    print(made)
    return OK


def _server(options: argparse.Namespace) -> kubeflow_api.Server:
    given = {name: getattr(options, name) for name in ("host", "namespace", "token", "token_file", "ca_file")}
    try:
        return kubeflow_api.Server.from_environment(options.timeout, **given)
    except kubeflow_api.ApiError as error:
        raise ConfigError(str(error)) from error


def _prepared(
    options: argparse.Namespace, terminal: Terminal
) -> tuple[Package, dict[str, Any], kubeflow_api.Api | None]:
    """The package, the run's parameters, and the server, None for a dry run.

    All that can be checked is, the server included, before the pipeline is compiled, which takes a while.
    """
    given = _given(options)
    package = Package.read(options.package) if options.package else None
    config = package.config if package else configuration(options)
    of_run = with_parameters(config, given)
    if not of_run.data:
        raise ConfigError("data: name the log of this run with --param data=PATH, as the steps see it")
    if package is None:
        kubeflow_runner.check(config)
    api = None if options.dry_run else _connected(_server(options), terminal)
    if package is None:
        package = Package.parse(_compiled(config, "kfp", terminal), "this configuration")
    return package, defaults(of_run), api


def _given(options: argparse.Namespace) -> dict[str, str]:
    given: dict[str, str] = {}
    for assignment in options.param:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--param {assignment!r}: expected NAME=VALUE, e.g. epochs=2")
        given[name] = value
    return given


def _connected(server: kubeflow_api.Server, terminal: Terminal) -> kubeflow_api.Api:
    try:
        with terminal.waiting(f"Asking {server.host}"):
            return kubeflow_api.Api(server)
    except kubeflow_api.ApiError as error:
        raise CommandError(error) from error


def _upload(api: kubeflow_api.Api, options: argparse.Namespace, package: Package) -> tuple[tuple[str, str], str]:
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, _file_name(package))
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(package.text)
        pipeline = api.upload(file, package.config.pipeline_name, _version(options))
    return pipeline, api.experiment(_experiment(options, package))


def _file_name(package: Package) -> str:
    return f"{package.config.pipeline_name}.yaml"


def _version(options: argparse.Namespace) -> str:
    return options.version or f"{dt.datetime.now():%Y%m%d-%H%M%S}"


def _experiment(options: argparse.Namespace, package: Package) -> str:
    return options.experiment or package.config.pipeline_name


def _service_account(options: argparse.Namespace, config: PipelineConfig) -> str:
    return options.service_account or config.kubeflow.service_account


def _show_plan(options: argparse.Namespace, package: Package, collection: str, name: str, body: dict[str, Any]) -> int:
    """Prints the requests that change something, with names where only the server knows the ids."""
    pipeline = package.config.pipeline_name
    namespace = options.namespace or os.environ.get(kubeflow_api.NAMESPACE_ENV, "")
    in_namespace = {"namespace": namespace} if namespace else {}
    uploads = "/apis/v2beta1/pipelines"
    body = {
        "display_name": name,
        "experiment_id": _EXPERIMENT_ID,
        "pipeline_version_reference": {"pipeline_id": _PIPELINE_ID, "pipeline_version_id": _VERSION_ID},
        **body,
    }
    if account := _service_account(options, package.config):
        body["service_account"] = account
    first = urlencode({"name": pipeline, **in_namespace})
    further = urlencode({"name": _version(options), "pipelineid": _PIPELINE_ID})
    plan = [
        {
            "request": f"POST {uploads}/upload?{first}",
            "if": f"there is no pipeline {pipeline}",
            "file": f"{_file_name(package)}, {len(package.text.encode()):,} bytes",
        },
        {
            "request": f"POST {uploads}/upload_version?{further}",
            "if": f"there is a pipeline {pipeline}",
            "file": f"{_file_name(package)}, {len(package.text.encode()):,} bytes",
        },
        {
            "request": "POST /apis/v2beta1/experiments",
            "if": "there is no such experiment",
            "body": {"display_name": _experiment(options, package), "namespace": namespace},
        },
        {"request": f"POST /apis/v2beta1/{collection}", "body": body},
    ]
    print(json.dumps(plan, indent=2))
    return OK


# --- step, verdict -----------------------------------------------------------------------------------------


def _step(options: argparse.Namespace) -> int:
    # Kubeflow keeps and shows what a step writes.
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s: %(message)s", level=logging.INFO)
    import absl.logging

    absl.logging.set_verbosity(absl.logging.INFO)
    config = with_parameters(PipelineConfig.from_json(options.config), _given(options))

    from pipeline.runners.kubeflow.step import StepFailed, run_step, write_report

    try:
        result = run_step(config, options.node, options.run_id)
    except StepFailed as error:
        raise CommandError(error) from error
    print(f"{options.node}: {'taken from the cache' if result.cached else 'done'}", file=sys.stderr)
    if options.report_file:
        write_report(result, options.report_file, options.blessed_file, options.reason_file)
    return OK


def _verdict(options: argparse.Namespace) -> int:
    blessed = options.blessed.lower() == "true"
    print(f"{'BLESSED' if blessed else 'NOT BLESSED'}: {options.reason}")
    return OK if blessed else NOT_BLESSED


# --- the parsers -------------------------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Adds the commands of this module.

    Args:
      commands: of the parser, as ``add_subparsers`` returned them.
    """
    _add_compile(commands)
    _add_submit(commands)
    _add_schedule(commands)
    _add_step(commands)
    _add_verdict(commands)


def _add_compile(commands: Any) -> None:
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


def _add_submit(commands: Any) -> None:
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


def _add_schedule(commands: Any) -> None:
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


def _add_param(parser: argparse.ArgumentParser) -> None:
    param = parser.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"a parameter of the run; may be repeated: {', '.join(_PARAMETER_NAMES)}, and the other bounds there are",
    )
    offer(param, (f"{name}=" for name in _PARAMETER_NAMES))


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser, preset="kubeflow")
    parser.add_argument("--package", metavar="FILE", help="of 'compile'; default: compile now, from the options above")
    _add_param(parser)
    parser.add_argument("--experiment", metavar="NAME", help="made where there is none; default: the pipeline's name")
    parser.add_argument("--version", metavar="NAME", help="of the uploaded pipeline; default: the time")
    parser.add_argument("--service-account", metavar="NAME", help="default: kubeflow.service_account")
    parser.add_argument("--host", metavar="URL", help=f"default: {kubeflow_api.HOST_ENV}")
    parser.add_argument("--namespace", metavar="NAME", help=f"of a profile; default: {kubeflow_api.NAMESPACE_ENV}")
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"seen by others in the list of processes; default: {kubeflow_api.TOKEN_ENV}",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"read for each request, e.g. a service account's; default: {kubeflow_api.TOKEN_FILE_ENV}",
    )
    parser.add_argument("--ca-file", metavar="FILE", help=f"of the authority; default: {kubeflow_api.CA_FILE_ENV}")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="for a request; default: %(default)g")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")


def _add_step(commands: Any) -> None:
    parser = add_command(
        commands,
        "step",
        _step,
        "run one node of the DAG, as a step of the compiled pipeline does",
        """\
Steps that share a run id make a run; they meet in ML Metadata and in the output folder of the configuration.

example:
  %(prog)s --node ImpressionGen --run-id 1 --param data=/mnt/log \\
      --config '{"evaluation":{"bounds":{"auc":{"min":0.8}}}}'
""",
        listed=False,
    )
    parser.add_argument("--node", metavar="ID", required=True)
    parser.add_argument("--run-id", metavar="ID", required=True)
    parser.add_argument(CONFIG_OPTION, metavar="JSON", required=True, help="what the pipeline was compiled from")
    _add_param(parser)
    report = parser.add_argument_group("of the RunReport node")
    report.add_argument("--report-file", metavar="FILE", help="gets the report, in Markdown")
    report.add_argument("--blessed-file", metavar="FILE", help="gets true or false")
    report.add_argument("--reason-file", metavar="FILE", help="gets what was pushed, or why nothing was")


def _add_verdict(commands: Any) -> None:
    parser = add_command(
        commands,
        VERDICT,
        _verdict,
        "the last step of the compiled pipeline: fail if the model was not blessed",
        f"""\
example:
  %(prog)s --blessed false --reason "nothing pushed: AUC is 0.61; the lower bound is 0.8"

{EXIT_CODES}""",
        listed=False,
    )
    parser.add_argument("--blessed", metavar="BOOL", required=True, choices=("true", "false", "True", "False"))
    parser.add_argument("--reason", metavar="TEXT", default="")
