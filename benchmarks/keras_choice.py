"""Which Keras trains the same under every strategy, and what its first steps cost.

Each combination of API (Keras 3 or tf_keras; ``fit`` or a loop over ``strategy.run``) and strategy (one
device, two mirrored logical CPU devices, two workers on loopback) trains the same small GRU from the same
seed in a process of its own. Printed: the mean loss of the third round of 50 steps, whether it equals the
same API's on one device, the seconds of the first and of the third round, and the first as a ratio to that
of the loop with Keras 3.

    .venv/bin/python -m benchmarks.keras_choice
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

APIS = ("keras3-loop", "keras3-fit", "tf_keras-loop", "tf_keras-fit")
STRATEGIES = ("one", "mirrored", "workers")
STEPS = 50
ROOT = Path(__file__).resolve().parents[1]


def train(api: str, strategy_name: str, step_count: int) -> None:
    """Runs in the child: trains three rounds and prints their losses and seconds as JSON."""
    import numpy as np
    import tensorflow as tf

    if strategy_name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif strategy_name == "workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    rng = np.random.default_rng(0)
    x = rng.integers(1, 1000, (4096, 20))
    y = (x[:, :1] > 500).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(64)
    with strategy.scope():
        tf.keras.utils.set_random_seed(1)
        model = tf.keras.Sequential(
            [tf.keras.layers.Embedding(1000, 16), tf.keras.layers.GRU(16), tf.keras.layers.Dense(1)]
        )
        model(x[:2])
        optimizer = tf.keras.optimizers.Adam(1e-2)
        optimizer.build(model.trainable_variables)
        if api.endswith("fit"):
            model.compile(optimizer, tf.keras.losses.BinaryCrossentropy(from_logits=True))

    def step(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)) / 64.0
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def steps(iterator: Any) -> Any:
        total = tf.constant(0.0)
        for _ in tf.range(step_count):
            replicas = strategy.run(step, next(iterator))
            total += strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None)
        return total / step_count

    iterator = iter(strategy.experimental_distribute_dataset(data)) if api.endswith("loop") else None
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        if iterator is not None:
            loss = float(steps(iterator))
        else:
            loss = float(model.fit(data, steps_per_epoch=step_count, epochs=1, verbose=0).history["loss"][0])
        rounds.append((loss, time.perf_counter() - start))
    print(json.dumps(rounds))


def measure(api: str, strategy: str, step_count: int) -> list[tuple[float, float]] | str:
    """Rounds of (loss, seconds), or the error's last line; all that was said goes to standard error."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if api.startswith("tf_keras"):
        environment["TF_USE_LEGACY_KERAS"] = "1"
    processes = []
    ports = [_free_port(), _free_port()]
    for index in range(2 if strategy == "workers" else 1):
        if strategy == "workers":
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.keras_choice", "--child", api, strategy]
        command += ["--steps", str(step_count)]
        processes.append(
            subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        outputs = [process.communicate(timeout=180) for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        return "no result within 180 s"
    if any(process.returncode for process in processes):
        print(f"{api}, {strategy} failed:", *(err for _, err in outputs), sep="\n", file=sys.stderr)
        return next(err for _, err in outputs if err).strip().splitlines()[-1][:100]
    return [tuple(each) for each in json.loads(outputs[0][0].splitlines()[-1])]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Measures every combination and prints the table.

    Raises:
      SystemExit: if what this project uses, a loop with Keras 3, fails.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apis", nargs="+", choices=APIS, default=APIS, help="the first is the ratios' floor")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a round; default: %(default)s")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        api, strategy = options.child
        train(api, strategy, options.steps)
        return
    failed = []
    print("| API | strategy | loss, third round | equals one device | first round, s | third, s | first, ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    reference: dict[str, float] = {}
    for strategy in options.strategies:
        floor = 0.0
        for api in options.apis:
            rounds = measure(api, strategy, options.steps)
            if isinstance(rounds, str):
                print(f"| {api} | {strategy} | fails: {rounds} | | | | |", flush=True)
                failed += [strategy] if api == APIS[0] else []
                continue
            loss, first, third = rounds[2][0], rounds[0][1], rounds[2][1]
            floor = floor or first
            reference.setdefault(api, loss)
            same = "yes" if abs(loss - reference[api]) < 1e-5 else "no"
            print(
                f"| {api} | {strategy} | {loss:.6f} | {same} | {first:.1f} | {third:.2f} | {first / floor:.1f} |",
                flush=True,
            )
    if failed:
        raise SystemExit(f"error: {APIS[0]} failed with {', '.join(failed)}; what it said stands above")


if __name__ == "__main__":
    main()
