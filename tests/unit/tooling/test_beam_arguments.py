"""Beam's arguments as docs/beam.md gives them: Beam knows each, finds no fault, and they fit the manifests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from ctr.pipeline.commands.cli import _parser
from ctr.pipeline.settings.pipeline_config import load_preset

ROOT = Path(__file__).parents[3]
COMMAND = re.compile(r"^(?:\.venv/bin/)?ctr (.*beam_pipeline_args.*)$", re.MULTILINE)


def documented() -> dict[str, tuple[str, ...]]:
    """Arguments by a name for where they run."""
    found = []
    for command in COMMAND.findall((ROOT / "docs/beam.md").read_text()):
        options = _parser().parse_args(shlex.split(command))
        found.append(load_preset(options.preset, options.set).beam_pipeline_args)
    several, flink, dataflow, one_machine = found
    return {"several processes": several, "Flink": flink, "Dataflow": dataflow, "one machine": one_machine}


DOCUMENTED = documented()
each_place = pytest.mark.parametrize("place", DOCUMENTED)


def values(place: str) -> dict[str, str]:
    pairs = (argument.removeprefix("--").partition("=") for argument in DOCUMENTED[place])
    return {name: value for name, _, value in pairs}


def unknown(arguments: tuple[str, ...]) -> list[str]:
    """What none of Beam's classes of options takes. Beam itself would log it, drop it and go on."""
    # Beam's parser also takes the beginning of a name; whether that means one option can change with a version.
    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser.parse_known_args(list(arguments))[1]


@each_place
def test_beam_knows_every_argument(place: str) -> None:
    assert unknown(DOCUMENTED[place]) == []
    assert len(values(place)) == len(DOCUMENTED[place])
    for argument in DOCUMENTED[place]:
        name, equals, value = argument.partition("=")
        assert unknown((f"{name[:-1]}{equals}{value}",)), "a misspelt one would not be found"


@each_place
def test_beam_finds_no_fault(place: str) -> None:
    locations = [value for name, value in values(place).items() if name in ("temp_location", "staging_location")]
    assert [location for location in locations if not location.startswith("gs://")] == []
    # With it Beam does not ask Google for the buckets' settings.
    options = PipelineOptions([*DOCUMENTED[place], "--dry_run=True"])
    runner: Any = type(values(place).get("runner", "DirectRunner"), (), {})()

    assert PipelineOptionsValidator(options, runner).validate() == []


def test_beams_validator_sees_a_fault() -> None:
    runner: Any = type("DataflowRunner", (), {})()
    arguments = [argument for argument in DOCUMENTED["Dataflow"] if not argument.startswith("--project")]

    errors = PipelineOptionsValidator(PipelineOptions([*arguments, "--dry_run=True"]), runner).validate()

    assert any("project" in error for error in errors)


@pytest.mark.parametrize("place", ["Flink", "Dataflow", "one machine"])
def test_tfx_does_not_pack_itself_for_the_workers(place: str) -> None:
    assert values(place)["sdk_container_image"].rpartition("/")[2] == "ctr-worker:0.1.0"


def test_flinks_arguments_fit_the_manifests() -> None:
    documents = [
        document
        for file in sorted((ROOT / "kubernetes/flink").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    named = {(document["kind"], document.get("metadata", {}).get("name")): document for document in documents}
    pods = named["Deployment", "flink-taskmanager"]["spec"]
    (workers,) = [c for c in pods["template"]["spec"]["containers"] if c["name"] == "beam-workers"]
    slots = yaml.safe_load(named["ConfigMap", "flink-config"]["data"]["flink-conf.yaml"])[
        "taskmanager.numberOfTaskSlots"
    ]
    services = {
        f"{name}:{port['port']}": port["name"]
        for (kind, name), document in named.items()
        if kind == "Service"
        for port in document["spec"]["ports"]
    }
    arguments = values("Flink")

    assert services[arguments["job_endpoint"]] == "job"
    assert services[arguments["artifact_endpoint"]] == "artifact"
    assert arguments["environment_config"] == f"127.0.0.1:{workers['ports'][0]['containerPort']}"
    assert arguments["sdk_container_image"] == workers["image"]
    assert int(arguments["parallelism"]) == pods["replicas"] * slots
    assert int(arguments["sdk_worker_parallelism"]) == slots


def test_prism_is_of_the_version_of_beam() -> None:
    (documented,) = re.findall(r"cmd/prism@v(\S+)", (ROOT / "docs/beam.md").read_text())

    assert f"apache-beam=={documented} " in (ROOT / "requirements/tfx-1.16.lock").read_text()
