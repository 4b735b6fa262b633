from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp import dsl
from kfp.pipeline_spec import pipeline_spec_pb2
from report_sample import MISSED, REFUSED, evaluation, make_report

from ctr.components.run_report.kubeflow import executor_output, metrics, roc
from ctr.components.run_report.report import Report
from ctr.pipeline.commands import cli
from ctr.pipeline.commands.container import _write_report


def test_the_metadata_is_what_kubeflows_own_classes_write() -> None:
    report = make_report()
    ours, theirs = roc(report), dsl.ClassificationMetrics()
    curve = report.evaluation.curves["contemporaneous"].roc["model"]
    thresholds = [1 - rate for rate in curve.false_positive_rate]
    theirs.log_roc_curve(list(curve.false_positive_rate), list(curve.true_positive_rate), thresholds)
    assert ours == theirs.metadata
    shown = dsl.Metrics()
    for name, value in metrics(report).items():
        shown.log_metric(name, value)
    assert shown.metadata["AUC, contemporaneous negatives"] == 0.8912
    assert shown.metadata["AUC, contemporaneous negatives (low)"] == 0.8883
    assert shown.metadata["AUC, contemporaneous negatives, positive new to the user"] == 0.8427
    assert shown.metadata["AUC less logistic regression, match features's, contemporaneous negatives"] == 0.0242
    assert len(shown.metadata) < 60


def test_kubeflow_reads_it() -> None:
    text = json.dumps(executor_output(make_report()))
    output = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    assert set(output.artifacts) == {"metrics", "roc"}
    [of] = output.artifacts["roc"].artifacts
    assert len(json_format.MessageToDict(of.metadata)["confidenceMetrics"]) == 41


def test_a_run_without_curves_has_none() -> None:
    assert roc(make_report(evaluation=evaluation(curves={}))) == {}


@pytest.mark.parametrize("report", [make_report(), make_report(**REFUSED)], ids=["blessed", "refused"])
def test_the_last_step_writes_each_file(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ctr.pipeline.dag import Outcome

    files = {name: tmp_path / name / "data" for name in ("report", "page", "blessed", "reason", "output")}
    options = [f"--{name}-file={file}" for name, file in files.items() if name != "output"]
    whole = json.dumps({"outputs": {"outputFile": str(files["output"])}})
    parsed = cli._parser(["step"]).parse_args(
        ["step", "--node=RunReport", "--run-id=1", "--config={}", f"--executor-input={whole}", *options]
    )
    _write_report(Outcome(report, False), parsed)
    texts = {name: file.read_text() for name, file in files.items()}
    assert texts["report"].startswith(f"# din, preset sample: {'BLESSED' if report.blessed else 'NOT BLESSED'}")
    assert texts["page"].startswith("<!DOCTYPE html>")
    assert texts["blessed"] == str(report.blessed).lower()
    assert ("nothing pushed: " + "; ".join(bound.words for bound in MISSED) == texts["reason"]) != report.blessed
    assert json.loads(texts["output"]) == executor_output(report)
    assert "din by negative set" in capsys.readouterr().out
