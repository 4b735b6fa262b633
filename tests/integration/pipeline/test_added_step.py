"""docs/steps.md, done as it says: a file and a line in a copy of the tree, and runs of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig

RUNS = """
import sys
from pathlib import Path
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from ctr.pipeline import dag
from ctr.pipeline.settings.pipeline_config import load_preset
from ctr.pipeline.step_code import _sources_with

def run():
    config = load_preset("demo").with_overrides({"data": sys.argv[1], "output": sys.argv[2]})
    nodes = dag._data_part(config, data_must_exist=True).nodes
    steps = [node for node in nodes if node.id in ("ImpressionGen", "PopularItems")]
    LocalDagRunner().run(dag._pipeline(config, steps))
    for name in ("ImpressionGen/examples", "PopularItems/items"):
        print(*sorted(folder.name for folder in Path(sys.argv[2], "artifacts", name).iterdir()))

run()
run()
with Path("ctr/components/popular_items/component.py").open("a") as file:
    file.write("# edited\\n")
_sources_with.cache_clear()
run()
"""


@pytest.mark.slow
def test_a_step_is_a_file_and_a_line(tmp_path: Path) -> None:
    tree, log, output = (tmp_path / name for name in ("tree", "log.csv", "output"))
    shutil.copytree(ROOT / "ctr", tree / "ctr", ignore=shutil.ignore_patterns("__pycache__"))
    component, line = (block.text for block in blocks(ROOT / "docs/steps.md") if block.language == "python")
    (tree / "ctr/components/popular_items").mkdir()
    (tree / "ctr/components/popular_items/component.py").write_text(component)
    imported, node = line.strip().split("\n\n")
    dag = (tree / "ctr/pipeline/dag.py").read_text()
    dag, found = re.subn(r"(nodes=\[[^]]*baselines)]", lambda match: f"{match[1]}, {node}]", dag)
    assert found == 1
    (tree / "ctr/pipeline/dag.py").write_text(dag.replace("from ctr.", f"{imported}\nfrom ctr.", 1))
    generate(GeneratorConfig(users=60), log)

    done = subprocess.run([sys.executable, "-c", RUNS, log, output], cwd=tree, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-3000:]
    # The numbers of the executions that wrote something: the second run wrote nothing, the third the new step alone.
    first, second, third = zip(*[iter(done.stdout.splitlines())] * 2, strict=True)
    assert first == second
    assert third[0] == first[0]
    assert third[1].split() == [*first[1].split(), third[1].split()[-1]] != first[1].split()
    ids = (output / "artifacts/PopularItems/items" / first[1] / "items.txt").read_text().split()
    assert len(ids) == len(set(ids)) == 100
