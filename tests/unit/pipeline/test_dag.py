"""What of the configuration reaches which node: it decides what a changed setting re-runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

from ctr.models.errors import ConfigError
from ctr.pipeline.output.history import CODE
from ctr.pipeline.output.layout import EVALUATOR, IMPRESSIONS, PUSHER, REPORT, TRAINER
from ctr.pipeline.settings.pipeline_config import load_preset
from ctr.pipeline.step_code import CODE_KEY

pytestmark = pytest.mark.slow

INGEST = "ImpressionGen"
DATA_STEPS = {"StatisticsGen", "SchemaGen", "ExampleValidator", "LastApproval", "AnomalyGate", "LatestBlessedModel"}
BEAM_STEPS = {INGEST, "StatisticsGen", "ImpressionTransform", "Evaluator"}
TRAINED = {"Trainer", "Pusher"}
"""The card of a pushed model lists the settings of its training."""
BUILT = TRAINED | {"SkewCheck"}
"""It builds the model anew."""
ALL = DATA_STEPS | BUILT | {INGEST, "ImpressionTransform", "Baselines", "Evaluator", "RunReport"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("log") / "log.csv"
    file.write_text("1,2,3,pv,1511544070\n")
    return file


def _ir(log: Path, **overrides: Any) -> Any:
    from ctr.pipeline.dag import compile_dag

    names = {name.replace("__", "."): value for name, value in overrides.items()}
    config = load_preset("demo").with_overrides({"data": str(log), "output": str(log.parent / "output"), **names})
    return compile_dag(config, "one").ir


def _keys(ir: Any) -> dict[str, Any]:
    """What TFX hashes into a node's cache key, apart from its inputs."""
    executors = {
        name: spec.SerializeToString(deterministic=True) for name, spec in _deployment(ir).executor_specs.items()
    }
    return {
        node.pipeline_node.node_info.id: (
            node.pipeline_node.parameters.SerializeToString(deterministic=True),
            executors.get(node.pipeline_node.node_info.id),
        )
        for node in ir.nodes
    }


def _deployment(ir: Any) -> Any:
    from tfx.proto.orchestration import pipeline_pb2

    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    ir.deployment_config.Unpack(deployment)
    return deployment


def _changed(log: Path, **overrides: Any) -> set[str]:
    before, after = _keys(_ir(log)), _keys(_ir(log, **overrides))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_nodes(log: Path) -> None:
    assert set(_keys(_ir(log))) == ALL
    # By these names a run is read afterwards, without TFX.
    assert {IMPRESSIONS[0], REPORT[0], PUSHER, TRAINER, EVALUATOR} <= ALL
    assert CODE == CODE_KEY
    assert set(_keys(_ir(log, evaluation__compare_with_blessed=False))) == ALL - {"LatestBlessedModel"}


def test_a_search_is_one_more_node_before_training(log: Path) -> None:
    from ctr.pipeline.dag import compile_dag

    space = {"model.embedding_dim": [4, 8]}
    config = load_preset("demo").with_overrides({"data": str(log), "tuner.space": space})
    dag = compile_dag(config, "one")
    nodes = {node.id: node for node in dag.nodes}
    assert nodes.keys() == ALL | {"Tuner"}
    assert nodes["Tuner"].kind == "trainer"
    assert "Baselines" in nodes["Tuner"].upstream
    # Those that have to know what was found.
    found = {
        node.pipeline_node.node_info.id
        for node in dag.ir.nodes
        if "hyperparameters" in node.pipeline_node.inputs.inputs
    }
    assert found == BUILT
    before, after = _keys(_ir(log, tuner__space=space)), _keys(_ir(log, tuner__space=space, tuner__trials=3))
    assert {name for name in before if before[name] != after[name]} == {"Tuner", "RunReport"}
    # Off, it changes nothing that a cached result was kept under.
    assert _changed(log, tuner__trials=3) == {"RunReport"}


def test_only_light_steps_leave_beam_out(log: Path) -> None:
    from ctr.pipeline.dag import compile_dag
    from ctr.pipeline.runners.kubeflow.step import WITHOUT_BEAM

    nodes = compile_dag(load_preset("demo").with_overrides({"data": str(log)})).nodes
    assert {node.id for node in nodes if node.kind == "light"} == WITHOUT_BEAM | {"ExampleValidator"}


@pytest.mark.parametrize(
    ("overrides", "nodes"),
    [
        ({"training__epochs": 9}, TRAINED),
        ({"training__seed": 9}, TRAINED),
        ({"model__name": "dnn"}, BUILT),
        ({"sampler__name": "in_batch"}, TRAINED),
        ({"training__calibration": "none"}, TRAINED),
        ({"statistics__sample_rate": 0.5}, {"StatisticsGen"}),
        ({"statistics__drift__hour__stop": 0.5}, {"AnomalyGate"}),
        ({"statistics__min_events": 5}, {"AnomalyGate"}),
        ({"transform__min_item_count": 9}, {"ImpressionTransform"}),
        ({"ingest__eval_share": 0.3}, {INGEST}),
        ({"ingest__history_length": 30}, {INGEST, "SchemaGen"} | BUILT),
        # The schema has the window from the examples.
        ({"ingest__window_end": "2017-12-02T23:59:59"}, {INGEST}),
        ({"evaluation__bounds__auc__min": 0.9}, {"Evaluator"}),
        # Baselines looks whether there is anything to check a bound on.
        ({"evaluation__bounds__gauc__min": 0.6}, {"Baselines", "Evaluator"}),
        ({"evaluation__slices": ["candidate_category_id"]}, {"Baselines", "Evaluator"}),
        ({"evaluation__baseline_training_impressions": 500}, {"Baselines"}),
        ({"served_model_name": "other"}, {"Pusher"}),
        ({"skew__request_log": "/requests/ctr"}, {"SkewCheck"}),
        ({"beam_pipeline_args": ["--direct_num_workers=2"]}, BEAM_STEPS),
        ({"preset": "other"}, set()),
    ],
)
def test_a_setting_reaches_only_the_nodes_that_depend_on_it(
    log: Path, overrides: dict[str, Any], nodes: set[str]
) -> None:
    # The report holds the whole configuration.
    assert _changed(log, **overrides) == nodes | {"RunReport"}


_PORTABLE = ["--runner=PortableRunner", "--job_endpoint=beam-job-server:8099", "--experiments=a", "--experiments=b"]
_PROCESSES = ["--direct_running_mode", "multi_processing", "--direct_num_workers=2"]


@pytest.mark.parametrize(
    ("arguments", "added"), [(_PORTABLE, []), (_PROCESSES, ["--beam_plugin=ctr.pipeline.process.end_with_run"])]
)
def test_beams_arguments_reach_its_steps_as_they_stand(log: Path, arguments: list[str], added: list[str]) -> None:
    from tfx.proto.orchestration.executable_spec_pb2 import BeamExecutableSpec

    found = {}
    for name, packed in _deployment(_ir(log, beam_pipeline_args=arguments)).executor_specs.items():
        spec = BeamExecutableSpec()
        if packed.Unpack(spec):
            found[name] = [argument.value.string_value for argument in spec.beam_pipeline_args_placeholders]

    # Processes on this machine are told to end with the run.
    assert found == {step: [*arguments, *added] for step in BEAM_STEPS}


def test_nothing_uses_the_data_before_the_gate(log: Path) -> None:
    upstream = {n.pipeline_node.node_info.id: set(n.pipeline_node.upstream_nodes) for n in _ir(log).nodes}

    def above(name: str) -> set[str]:
        return upstream[name].union(*(above(n) for n in upstream[name]))

    for name in ("ImpressionTransform", "Trainer", "Baselines", "Evaluator", "Pusher", "RunReport"):
        assert "AnomalyGate" in above(name)
    # Nor is anything trained before it is known that the bounds can be checked.
    assert "Baselines" in above("Trainer")


def test_nothing_is_pushed_before_the_check_of_skew(log: Path) -> None:
    (pusher,) = (n.pipeline_node for n in _ir(log).nodes if n.pipeline_node.node_info.id == "Pusher")
    assert "SkewCheck" in pusher.upstream_nodes


def test_outputs_lie_under_the_output_folder(log: Path) -> None:
    ir = _ir(log)
    output = str(log.parent / "output")
    root = ir.runtime_spec.pipeline_root.field_value.string_value
    assert root == f"{output}/artifacts"
    pusher = next(n for n in ir.nodes if n.pipeline_node.node_info.id == "Pusher").pipeline_node
    assert f"{output}/serving/ctr" in pusher.parameters.parameters["base_directory"].field_value.string_value


def test_missing_data_is_refused(log: Path) -> None:
    with pytest.raises(ValueError, match="missing"):
        _ir(log, data=str(log.parent / "missing.csv"))


def test_what_a_runner_knows_of_the_nodes(log: Path) -> None:
    from ctr.pipeline.dag import PUSHES, READS_DATA, REPORTS, compile_dag

    nodes = compile_dag(load_preset("demo").with_overrides({"data": str(log)})).nodes
    kinds = {node.id: node.kind for node in nodes}
    assert {name for name, kind in kinds.items() if kind == "trainer"} == {"Trainer"}
    assert {name for name, kind in kinds.items() if kind == "beam"} == BEAM_STEPS
    assert kinds.keys() >= {READS_DATA, PUSHES, REPORTS}
    upstream = {node.id: node.upstream for node in nodes}
    # Each stands after those that it waits for, the reader first and the report last.
    assert (nodes[0].id, nodes[-1].id, PUSHES in upstream[REPORTS]) == (READS_DATA, REPORTS, True)
    for place, node in enumerate(nodes):
        assert set(node.upstream) <= {before.id for before in nodes[:place]}


def test_before_training_are_the_same_nodes_without_the_others(log: Path) -> None:
    from ctr.pipeline.dag import compile_dag

    config = load_preset("demo").with_overrides({"data": str(log), "output": str(log.parent / "output")})
    early = compile_dag(config, "one", before_training=True)
    whole = _keys(_ir(log))
    after = {"LatestBlessedModel", "Trainer", "Evaluator", "SkewCheck", "Pusher", "RunReport"}
    assert {node.id for node in early.nodes} == ALL - after
    assert {name: key for name, key in whole.items() if name in _keys(early.ir)} == _keys(early.ir)


def test_data_is_looked_for_where_it_is_read(log: Path) -> None:
    from ctr.pipeline.dag import compile_dag

    gone = load_preset("demo").with_overrides({"data": f"{log}.gone", "output": str(log.parent / "output")})
    for only in (None, "ImpressionGen"):
        with pytest.raises(ConfigError, match="does not exist"):
            compile_dag(gone, "one", only=only)
    with pytest.raises(ConfigError, match="does not exist"):
        compile_dag(gone, "one", before_training=True)
    assert {node.id for node in compile_dag(gone, "one", only="SchemaGen").nodes} == ALL
    assert compile_dag(gone.with_overrides({"data": ""})).config.data == "/{YYYY}-{MM}-{DD}"
    with pytest.raises(ConfigError, match="node Trainr: there is none; there are ImpressionGen, "):
        compile_dag(gone, "one", only="Trainr")


def test_the_run_id_is_in_its_place_where_there_is_a_run(log: Path) -> None:
    from ctr.pipeline.dag import compile_dag

    config = load_preset("demo").with_overrides({"data": str(log), "output": str(log.parent / "output")})
    for run_id in ("one", ""):
        spec = compile_dag(config, run_id).ir.runtime_spec.pipeline_run_id
        assert spec.field_value.string_value == run_id
        assert spec.HasField("runtime_parameter") == (not run_id)


def test_the_picture_has_the_steps_and_what_they_wait_for(log: Path) -> None:
    """An arrow stands for each step that another one waits for, unless a longer way says so already."""
    from ctr.pipeline.dag import compile_dag

    picture = runpy.run_path(str(ROOT / "docs/pictures/draw.py"))
    config = load_preset("demo").with_overrides({"data": str(log), "output": str(log.parent / "output")})
    before = {node.id: set(node.upstream) for node in compile_dag(config, "one").nodes}

    def all_before(name: str) -> set[str]:
        return before[name].union(*map(all_before, before[name]))

    wanted = {(up, name) for name in before for up in before[name] - set().union(*map(all_before, before[name]))}
    assert set(picture["STEPS"]) == set(before)
    (table,) = re.findall(r"^\| step .*?\n\n", (ROOT / "docs/steps.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert {name for line in table.strip().splitlines()[2:] for name in line.split(" | ")[0][2:].split(", ")} == set(
        before
    )
    assert {(start, end) for start, end, _ in picture["ARROWS"] if start in before and end in before} == wanted
