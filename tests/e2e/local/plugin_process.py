"""A run in a process that knows of the plugins what the command line says; run by the tests.

Prints the scores of one impression as the model in memory gives them; ``reload`` instead: what was exported gives for
it, with an event at another hour, and what it says to an hour that there is not.
"""

from __future__ import annotations

import json
import sys
from typing import Any

IMPRESSION = {
    "history_item_id": [12, 15, 7],
    "history_category_id": [3, 4, 3],
    "history_behavior": [1, 2, 1],
    "history_age": [7200, 3600, 60],
    "history_hour": [3, 4, 5],
    "candidate_item_id": [7, 9, 12],
    "candidate_category_id": [3, 5, 3],
    "candidate_magnitude": [0, 0, 1],
}


def run(arguments: list[str]) -> list[float]:
    import tensorflow as tf

    from ctr.components.trainer import export
    from ctr.components.trainer import run as training
    from ctr.pipeline.commands.cli import main
    from ctr.pipeline.output.eval_impressions import eval_impression
    from ctr.serving.impressions import Impression
    from ctr.serving.requests import rank_request

    scores: list[float] = []
    write = export.export

    def write_and_score(model: Any, transform: Any, history_length: int, folder: str, *catalogue: str) -> None:
        write(model, transform, history_length, folder, *catalogue)
        request = rank_request([Impression.from_features(IMPRESSION)], "ctr").inputs
        values = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.items()}
        served = export.ServedRanker(model, transform, history_length)
        scores.extend(served.rank(values)["logit"].numpy()[0].tolist())

    vars(training)["export"] = write_and_score
    assert not any(name.startswith("my_shop") for name in sys.modules)
    assert main(arguments) == 0
    # What predict asks with.
    impression, _ = eval_impression(arguments[arguments.index("--output") + 1], "ctr")
    assert impression.features().keys() == IMPRESSION.keys()
    return scores


def reload(folder: str) -> list[Any]:
    import tensorflow as tf

    rank = tf.saved_model.load(folder).signatures["rank"]

    def answer(hour: int) -> Any:
        values = {**IMPRESSION, "history_hour": [3, 4, hour]}
        try:
            return rank(**{name: tf.constant([value], tf.int64) for name, value in values.items()})["logit"].numpy()[0]
        except tf.errors.InvalidArgumentError as error:
            return str(error)

    answers = [answer(5).tolist(), answer(17).tolist(), answer(24)]
    assert not any(name.partition(".")[0] in ("ctr", "my_shop") for name in sys.modules)
    return answers


if __name__ == "__main__":
    print(json.dumps(reload(sys.argv[2]) if sys.argv[1] == "reload" else run(sys.argv[1:])))
