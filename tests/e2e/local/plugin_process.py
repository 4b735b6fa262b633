"""The Trainer step in a process that knows of the plugins what the step's parameters say; run by the tests.

Prints the scores of one impression as the model in memory gives them; ``reload`` instead: as what was exported does.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest import mock


def impression() -> dict[str, Any]:
    import tensorflow as tf

    values = {
        "history_item_id": [[12, 15, 7]],
        "history_category_id": [[3, 4, 3]],
        "history_behavior": [[1, 2, 1]],
        "history_age": [[7200, 3600, 60]],
        "candidate_item_id": [[7, 9, 12]],
        "candidate_category_id": [[3, 5, 3]],
    }
    return {name: tf.constant(value, tf.int64) for name, value in values.items()}


def train(step: dict[str, Any]) -> list[float]:
    from tfx import types
    from tfx.types import standard_artifacts

    from components.artifacts import ImpressionCatalogue
    from components.trainer import export, run
    from components.trainer.component import Executor

    def artifact(kind: type[types.Artifact], name: str) -> list[types.Artifact]:
        made = kind()
        made.uri = step["artifacts"][name]
        return [made]

    examples, raw = (artifact(standard_artifacts.Examples, name) for name in ("transformed_examples", "examples"))
    for each in (*examples, *raw):
        each.split_names = json.dumps(["train", "validation", "eval"])
    inputs = {
        "examples": examples,
        "raw_examples": raw,
        "transform_graph": artifact(standard_artifacts.TransformGraph, "transform_graph"),
        "catalogue": artifact(ImpressionCatalogue, "catalogue"),
    }
    outputs = {
        "model": artifact(standard_artifacts.Model, "model"),
        "model_run": artifact(standard_artifacts.ModelRun, "model_run"),
    }
    scores: list[float] = []
    write = export.export

    def write_and_score(model: Any, transform: Any, history_length: int, folder: str) -> None:
        write(model, transform, history_length, folder)
        served = export.ServedRanker(model, transform, history_length)
        scores.extend(served.rank(impression())["logit"].numpy()[0].tolist())

    assert not any(name.startswith("my_shop") for name in sys.modules)
    context = Executor.Context(tmp_dir=step["folder"], unique_id="1")
    with mock.patch.object(run, "export", write_and_score):
        Executor(context).Do(inputs, outputs, step["exec_properties"])
    assert {"my_shop.decay", "my_shop.subset"} <= sys.modules.keys()
    return scores


def reload(folder: str) -> list[float]:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    answer = loaded.signatures["rank"](**impression())
    assert not any(name.partition(".")[0] in ("models", "components", "my_shop") for name in sys.modules)
    scores: list[float] = answer["logit"].numpy()[0].tolist()
    return scores


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    print(json.dumps(reload(asked["reload"]) if "reload" in asked else train(asked)))
