"""A schedule whose data path has a date: a run a night from one package, each on the days that end with its log's."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from ctr.components.dataset import PUBLIC_LOG
from ctr.components.drift import DRIFT_FILE, DriftReport
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig
from ctr.pipeline.commands import cli
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import NodeRun, node_runs
from ctr.pipeline.runners.kubeflow.package import PackageWriter
from ctr.pipeline.settings.pipeline_config import load_preset

pytestmark = pytest.mark.slow

SETTINGS = ("metadata.kind=sqlite", "beam_pipeline_args=[]", "ingest.user_partitions=1", "statistics.sample_rate=1")
STEPS = ("impression-gen", "statistics-gen", "schema-gen", "example-validator", "last-approval", "anomaly-gate")
NINE_DAYS = dt.timedelta(days=9)


def times_of(schema: str) -> tuple[dt.datetime, dt.datetime]:
    """First and last second that a schema admits, in Shanghai."""
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx.utils import io_utils

    parsed = io_utils.parse_pbtxt_file(f"{schema}/schema.pbtxt", schema_pb2.Schema())
    (times,) = (feature.int_domain for feature in parsed.feature if feature.name == "timestamp")
    first, last = (dt.datetime.fromtimestamp(second, PUBLIC_LOG.zone) for second in (times.min, times.max))
    return first, last


@pytest.fixture
def night(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, NodeRun]]:
    """Runs steps under a run id, those up to the gate, with what ``schedule`` sends and further parameters."""
    output = tmp_path / "output"
    package = tmp_path / "ctr.yaml"
    package.write_text(PackageWriter().run(load_preset("kubeflow", [*SETTINGS, f"output={output}"])))
    data = f"data={tmp_path}/{{YYYY}}-{{MM}}-{{DD}}.csv"
    options = ["--package", str(package), "--param", data, "--cron", "0 30 3 * * *"]
    assert cli.main(["schedule", *options, "--dry-run"]) == 0
    scheduled = json.loads(capsys.readouterr().out)[-1]["body"]["runtime_config"]["parameters"]
    executors = next(yaml.safe_load_all(package.read_text()))["deploymentSpec"]["executors"]

    def run(run_id: str, steps: Sequence[str] = STEPS, **parameters: str) -> dict[str, NodeRun]:
        values = scheduled | parameters | {"run_id": run_id}
        for step in steps:
            arguments = executors[f"exec-{step}"]["container"]["args"]
            filled = [re.sub(r"\{\{.*\['(\w+)'\]\}\}", lambda name: str(values[name[1]]), each) for each in arguments]
            assert cli.main(filled) == 0, step
        return {node.node: node for node in node_runs(Layout(str(output)).metadata_db, "ctr", run_id)}

    return run


def write_log(folder: Path, first: dt.date, users: int, without: str = "") -> None:
    """Of nine days, named after the last one, without a kind of event."""
    file = folder / f"{first + NINE_DAYS - dt.timedelta(days=1)}.csv"
    generate(GeneratorConfig(users=users, start=first), file)
    if without:
        rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join(row for row in rows if f",{without}," not in row))


def test_nights_of_different_years_need_no_edit(
    night: Callable[..., dict[str, NodeRun]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts = [dt.date(2017, 11, 25), dt.date(2024, 5, 1)]
    runs = []
    for first in firsts:
        write_log(tmp_path, first, users=100)
        runs.append(night(f"of {first}"))
    for first, nodes in zip(firsts, runs, strict=True):
        assert {node.state for node in nodes.values()} == {"COMPLETE"}
        begin = dt.datetime.combine(first, dt.time(), PUBLIC_LOG.zone)
        assert times_of(nodes["SchemaGen"].outputs["schema"]) == (begin, begin + NINE_DAYS - dt.timedelta(seconds=1))

    once_more = night("once more", ("impression-gen", "schema-gen"), span="2017-12-03")
    assert times_of(once_more["SchemaGen"].outputs["schema"]) == times_of(runs[0]["SchemaGen"].outputs["schema"])

    # The second is held against the first, which had nothing before it.
    reports = [
        DriftReport.model_validate_json((Path(nodes["AnomalyGate"].outputs["approval"]) / DRIFT_FILE).read_text())
        for nodes in runs
    ]
    assert [report.compared_with for report in reports] == [None, runs[0]["AnomalyGate"].outputs["approval"]]
    assert {each.kind for each in reports[1].comparisons} == {"drift", "skew"}
    assert not any(report.of_state("stopped") for report in reports)
    # A night without a kind of event is stopped, and the next one compared with what was approved before it.
    write_log(tmp_path, dt.date(2024, 5, 2), users=100, without="cart")
    capsys.readouterr()
    with pytest.raises(AssertionError, match="anomaly-gate"):
        night("without carts")
    assert "statistics.drift.behavior.stop is 0.7. cart is 0.00% of the events; it was 5." in capsys.readouterr().err
    write_log(tmp_path, dt.date(2024, 5, 3), users=100)
    approval = night("after it")["AnomalyGate"].outputs["approval"]
    report = DriftReport.model_validate_json((Path(approval) / DRIFT_FILE).read_text())
    assert report.compared_with == runs[1]["AnomalyGate"].outputs["approval"]
