"""What a step's process imports before its first line of work: CPU time relative to ``import tensorflow``.

A fresh process for each node of the DAG imports what ``step`` does, compiles the DAG, and imports the node's executor
and driver and all of this project that they load; a process that imports TensorFlow alone stands beside it in each
round. Printed: the median of the CPU times (user and system) and of the ratios in the same round, and which of the
packages below were loaded. Exit code 1 if a step loads one that it has no need of: TensorFlow Model Analysis, Google's
clients, and of a light step Beam.

    .venv/bin/python -m benchmarks.imports --rounds 3
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys

TENSORFLOW = "import tensorflow"
NODES = (
    "LatestBlessedModel",
    "SchemaGen",
    "LastApproval",
    "AnomalyGate",
    "Baselines",
    "SkewCheck",
    "Pusher",
    "RunReport",
    "ExampleValidator",
    "Trainer",
    "ImpressionGen",
    "StatisticsGen",
    "ImpressionTransform",
    "Evaluator",
)
HEAVY = {"TFMA": "tensorflow_model_analysis", "Google's clients": "google.cloud.bigquery", "Beam": "apache_beam"}


def load(node: str) -> None:
    """Imports what the process of a step does."""
    if node == TENSORFLOW:
        importlib.import_module("tensorflow")
        return
    from ctr.pipeline.commands import container  # noqa: F401
    from ctr.pipeline.process.imports import left_out
    from ctr.pipeline.runners.kubeflow.step import WITHOUT_BEAM
    from ctr.pipeline.settings.pipeline_config import load_preset

    config = load_preset("kubeflow")
    with left_out(config.to_json(), beam=node in WITHOUT_BEAM):
        import tensorflow  # noqa: F401
        from tfx.orchestration.local import runner_utils
        from tfx.orchestration.portable.launcher import Launcher  # noqa: F401

        from ctr.pipeline.dag import compile_dag
    from ctr.pipeline.output import connection, executions, runs  # noqa: F401
    from ctr.pipeline.step_code import project_sources

    deployment = runner_utils.extract_local_deployment_config(compile_dag(config).ir)
    for find in (runner_utils.extract_executor_spec, runner_utils.extract_custom_driver_spec):
        found = find(deployment, node)
        if found is not None:
            path = getattr(found, "python_executor_spec", found).class_path
            importlib.import_module(path.rpartition(".")[0])
            for module in project_sources().files([path]):
                importlib.import_module(module)


def measure(node: str) -> tuple[float, list[str]]:
    """CPU seconds of a fresh process, and which of :data:`HEAVY` it loaded."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks.imports", "--load", node]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    return seconds, loaded


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", nargs="+", default=NODES, choices=NODES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load)
        times = os.times()
        print(json.dumps([times.user + times.system, [name for name in HEAVY if HEAVY[name] in sys.modules]]))
        return
    from ctr.pipeline.runners.kubeflow.step import WITHOUT_BEAM

    rows = (TENSORFLOW, *options.nodes)
    rounds = [{node: measure(node) for node in rows} for _ in range(options.rounds)]
    print("| step | CPU, s | relative to `import tensorflow` | loads |\n|---|---|---|---|")
    for node in rows:
        seconds = statistics.median(each[node][0] for each in rounds)
        ratio = statistics.median(each[node][0] / each[TENSORFLOW][0] for each in rounds)
        print(f"| {node} | {seconds:.1f} | {ratio:.2f} | {', '.join(rounds[0][node][1]) or 'none of these'} |")
    allowed = {node: set() if node in WITHOUT_BEAM else {"Beam"} for node in rows}
    wrong = [f"{node} loads {', '.join(more)}" for node in rows if (more := {*rounds[0][node][1]} - allowed[node])]
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
