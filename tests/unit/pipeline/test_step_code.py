"""What of the code is in which step's cache key: it decides what an edit re-runs."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

from ctr.pipeline.settings.pipeline_config import load_preset
from ctr.pipeline.step_code import CODE_KEY, Sources, loaded_names

ROOT = Path(__file__).parents[3]
RESOLVERS = {"LastApproval", "LatestBlessedModel"}
TRAINED = {"Trainer", "Evaluator", "SkewCheck", "Pusher", "RunReport"}
INGESTED = {
    *("ImpressionGen", "SchemaGen", "StatisticsGen", "ExampleValidator", "AnomalyGate", "ImpressionTransform"),
    *("Baselines", *TRAINED),
}


def package(folder: Path, **files: str) -> Sources:
    for name, text in files.items():
        file = folder / "shop" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for parent in (file.parent, folder / "shop"):
            (parent / "__init__.py").touch()
    return Sources({"shop": folder / "shop"})


@pytest.mark.parametrize(
    "text",
    [
        "import shop.models.din",
        "import os, shop.models.din as din",
        "from shop.models import din",
        "from shop.models.din import DIN, OTHER",
        "from shop.models.din import *",
        "from . import models\nfrom .models import din",
        "from .models.din import DIN",
        "def build():\n    from shop.models.din import DIN\n    return DIN",
        "try:\n    import shop.models.din\nexcept ImportError:\n    pass",
        "if fast:\n    pass\nelse:\n    import shop.models.din",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import shop.models.din",
    ],
)
def test_every_way_to_import_is_found(text: str, tmp_path: Path) -> None:
    sources = package(tmp_path, step=text, models__din="import shop.layers", layers="", models__unused="")
    assert sources.files(["shop.step"]).keys() == {
        *("shop", "shop.step", "shop.models", "shop.models.din", "shop.layers")
    }


@pytest.mark.parametrize(
    "text",
    [
        "import numpy, os.path",
        "# import shop.models.din",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.models.din import DIN",
    ],
)
def test_what_is_not_loaded_is_not_found(text: str, tmp_path: Path) -> None:
    sources = package(tmp_path, step=text, models__din="")
    assert sources.files(["shop.step.Executor", "numpy.array"]).keys() == {"shop", "shop.step"}


def test_a_circle_ends(tmp_path: Path) -> None:
    sources = package(tmp_path, one="import shop.two", two="import shop.one")
    assert sources.files(["shop.one"]).keys() == {"shop", "shop.one", "shop.two"}


def test_the_digest_is_of_bytes_and_not_of_places(tmp_path: Path) -> None:
    here, there = (package(tmp_path / name, step="import shop.other", other="") for name in "ab")
    assert here.digest(["shop.step"]) == there.digest(["shop.step"])
    (tmp_path / "b" / "shop" / "other.py").write_text("# a comment")
    assert here.digest(["shop.step"]) != there.digest(["shop.step"])


# --- the real steps ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from ctr.pipeline.dag import create_pipeline

    config = load_preset("demo").with_overrides({"data": "/log.csv", "output": str(tmp_path_factory.mktemp("output"))})
    return create_pipeline(config, data_must_exist=False).components


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "ctr", root / "ctr", ignore=shutil.ignore_patterns("__pycache__"))
    return root / "ctr"


@functools.cache
def sources_at(root: Path) -> Sources:
    """Parsed once: the edits below are comments, so what a file imports stays."""
    return Sources({"ctr": root})


def digests(root: Path, nodes: Any) -> dict[str, str]:
    sources = sources_at(root)
    return {
        node.id: sources.digest(loaded_names(node.executor_spec, node.exec_properties))
        for node in nodes
        if CODE_KEY in node.exec_properties
    }


@pytest.fixture(scope="module")
def before(copied: Path, nodes: Any) -> dict[str, str]:
    """Of the copy as it is between tests."""
    return digests(copied, nodes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "plugin", "edited", "steps"),
    [
        (["model.name=decay"], "my_shop.ctr", "decay.py", {"Trainer"}),
        # What --plugin names itself is imported by the Trainer, the check of skew and the report, too.
        ([], "my_shop.brier", "brier.py", {"Trainer", "Evaluator", "SkewCheck", "RunReport"}),
        (
            *([], "my_shop.fields", "fields.py"),
            {"ImpressionGen", "SchemaGen", "ImpressionTransform", "Trainer", "SkewCheck", "RunReport"},
        ),
        # A plugin may be a single module.
        ([], "my_module", "../my_module.py", {"Trainer", "SkewCheck", "RunReport"}),
    ],
)
def test_an_edit_of_a_plugin_reaches_the_steps_that_run_it(
    plugins: Path, tmp_path: Path, settings: list[str], plugin: str, edited: str, steps: set[str]
) -> None:
    from ctr.pipeline.dag import create_pipeline
    from ctr.pipeline.step_code import _sources_with

    (plugins / "my_module.py").touch()
    config = load_preset("demo", settings, [plugin])
    config = config.with_overrides({"data": "/log.csv", "output": str(tmp_path)})

    def of_steps() -> dict[str, str]:
        _sources_with.cache_clear()
        nodes = create_pipeline(config, data_must_exist=False).components
        return {node.id: node.exec_properties[CODE_KEY] for node in nodes if CODE_KEY in node.exec_properties}

    before = of_steps()
    with (plugins / "my_shop" / edited).open("a") as file:
        file.write("# edited\n")
    after = of_steps()

    assert {node for node in before if before[node] != after[node]} == steps


@pytest.mark.slow
def test_every_step_that_runs_has_its_code_in_its_key(nodes: Any, before: dict[str, str]) -> None:
    assert {node.id: node.exec_properties[CODE_KEY] for node in nodes if node.id not in RESOLVERS} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "steps"),
    [
        ("models/din.py", {"Trainer"}),
        ("models/layers/attention.py", {"Trainer"}),
        ("models/samplers/random.py", {"Trainer"}),
        # Other models and samplers than the configured ones.
        ("models/caser.py", set()),
        ("models/samplers/mixed.py", set()),
        ("models/losses.py", {"Trainer"}),
        ("components/trainer/fit.py", {"Trainer"}),
        ("components/trainer/run.py", {"Trainer"}),
        ("components/transform/preprocessing.py", {"ImpressionTransform"}),
        ("components/transform/materialize.py", {"ImpressionTransform"}),
        ("components/impression_gen/negatives.py", {"ImpressionGen"}),
        ("components/statistics/executor.py", {"StatisticsGen"}),
        ("components/schema/impression_schema.py", {"SchemaGen"}),
        ("components/anomaly_gate/findings.py", {"AnomalyGate"}),
        ("components/scoring/judge.py", {"Evaluator"}),
        ("components/scoring/pairs.py", {"Baselines", "Evaluator"}),
        ("components/scoring/scored_shards.py", {"Baselines", "Evaluator"}),
        ("components/anomaly_gate/drift.py", {"AnomalyGate"}),
        ("components/pusher/publish.py", {"Pusher"}),
        ("components/run_report/render.py", {"RunReport"}),
        ("components/baselines/compute.py", {"Baselines"}),
        ("pipeline/commands/cli.py", set()),
        ("pipeline/dag.py", set()),
        ("serving/server.py", {"SkewCheck"}),
        ("components/skew_check/check.py", {"SkewCheck"}),
        ("generator/world.py", set()),
    ],
)
def test_an_edit_reaches_the_steps_that_run_it(
    edited: str, steps: set[str], nodes: Any, copied: Path, before: dict[str, str]
) -> None:
    file = copied / edited
    text = file.read_bytes()
    try:
        file.write_bytes(text + b"\n# edited\n")
        after = digests(copied, nodes)
    finally:
        file.write_bytes(text)
    assert {node for node in before if before[node] != after[node]} == steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "repeated"),
    [("models/din.py", TRAINED), ("components/impression_gen/negatives.py", INGESTED)],
)
def test_what_follows_an_edited_step_is_repeated(
    edited: str, repeated: set[str], nodes: Any, copied: Path, before: dict[str, str]
) -> None:
    text = (copied / edited).read_bytes()
    try:
        (copied / edited).write_bytes(text + b"\n# edited\n")
        changed = {node for node, digest in digests(copied, nodes).items() if digest != before[node]}
    finally:
        (copied / edited).write_bytes(text)
    upstream = {node.id: {above.id for above in node.upstream_nodes} for node in nodes}
    for _ in nodes:
        changed |= {node for node, above in upstream.items() if above & changed}
    assert changed - RESOLVERS == repeated


@pytest.mark.slow
def test_the_digest_is_in_what_tfx_hashes(nodes: Any, tmp_path: Path) -> None:
    from ctr.pipeline.dag import compile_dag

    config = load_preset("demo").with_overrides({"data": "/log.csv", "output": str(tmp_path)})
    compiled = compile_dag(config).ir
    parameters = {n.pipeline_node.node_info.id: n.pipeline_node.parameters.parameters for n in compiled.nodes}
    assert {name: p[CODE_KEY].field_value.string_value for name, p in parameters.items() if CODE_KEY in p} == {
        node.id: node.exec_properties[CODE_KEY] for node in nodes if CODE_KEY in node.exec_properties
    }
