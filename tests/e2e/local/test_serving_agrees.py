"""What was trained is what is served: the same ids, the same scores, from the pushed version alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_files import rows_of, write_blocks
from ports import free_port
from trained_run import Trained, restored_model

from ctr.components.skew import SKEW_FILE, SkewFindings
from ctr.models import impression as names
from ctr.pipeline.commands import cli
from ctr.serving.client import RankingClient
from ctr.serving.impressions import Impression
from ctr.serving.server import ModelServer

pytestmark = pytest.mark.slow

COUNT = 64


def _key(example: Any) -> tuple[int, ...]:
    features = example.features.feature
    return tuple(
        value
        for name in (names.USER_ID, names.TIMESTAMP, names.CANDIDATE_ITEM_ID)
        for value in features[name].int64_list.value
    )


def _examples(folder: Path) -> dict[tuple[int, ...], Any]:
    import tensorflow as tf

    records = tf.data.TFRecordDataset(sorted(map(str, folder.glob("*.gz"))), compression_type="GZIP")
    parsed = (tf.train.Example.FromString(record) for record in records.as_numpy_iterator())
    return {_key(example): example for example in parsed}


@pytest.fixture(scope="module")
def pairs(trained: Trained) -> list[tuple[Any, Any]]:
    """The same eval impressions, raw and transformed."""
    raw = _examples(trained.artifact("ImpressionGen", "examples") / "Split-eval")
    rows = rows_of(trained.artifact("ImpressionTransform", "transformed_examples") / "Split-eval")
    transformed = {(*row[names.USER_ID], *row[names.TIMESTAMP], *row[names.CANDIDATE_ITEM_ID]): row for row in rows}
    assert raw.keys() == transformed.keys()
    return [(raw[key], transformed[key]) for key in sorted(raw)[:: len(raw) // COUNT]][:COUNT]


@pytest.fixture(scope="module")
def raw(pairs: list[tuple[Any, Any]]) -> Any:
    import tensorflow as tf

    return tf.constant([raw.SerializeToString() for raw, _ in pairs])


@pytest.fixture(scope="module")
def served(trained: Trained) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(trained.version_dir))


@pytest.fixture(scope="module")
def training_batch(
    trained: Trained, pairs: list[tuple[Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Any]:
    from ctr.components.trainer.input_pipeline import read_batches

    file = write_blocks(tmp_path_factory.mktemp("transformed") / "data", [transformed for _, transformed in pairs])
    [batch] = read_batches([file], batch_size=COUNT, history_length=trained.config.ingest.history_length)
    return batch


def test_training_and_serving_see_the_same_ids(
    raw: Any, served: Any, training_batch: tuple[dict[str, Any], Any]
) -> None:
    trained_on, labels = training_batch
    computed = served.signatures["transform_features"](examples=raw)
    # The user's id goes to the sampler, not to the model.
    assert set(computed) == set(trained_on) - {names.USER_ID}
    for name in computed:
        values = trained_on[name]
        np.testing.assert_array_equal(computed[name].numpy(), values.numpy(), err_msg=name)
    # The comparison would mean little if every id were unknown.
    assert len(np.unique(trained_on[names.CANDIDATE_CATEGORY_INDEX])) > 10
    assert labels.numpy().sum() == COUNT


def test_training_and_serving_give_the_same_scores(
    trained: Trained, raw: Any, served: Any, training_batch: tuple[dict[str, Any], Any]
) -> None:
    model = restored_model(trained)
    inputs, _ = training_batch
    expected = model(inputs, training=False).logits.numpy()
    scored = served.signatures["serving_default"](examples=raw)["logit"].numpy()
    np.testing.assert_allclose(scored, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.fixture(scope="module")
def impressions(pairs: list[tuple[Any, Any]]) -> list[Impression]:
    return [
        Impression.from_features({n: f.int64_list.value for n, f in raw.features.feature.items()}) for raw, _ in pairs
    ]


def test_every_way_to_ask_gives_the_same_scores(
    trained: Trained, raw: Any, served: Any, impressions: list[Impression], tmp_path: Path
) -> None:
    import tensorflow as tf

    from ctr.serving.requests import rank_request

    expected = {n: v.numpy() for n, v in served.signatures["serving_default"](examples=raw).items()}
    request = rank_request(impressions, "ctr")
    tensors = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
    ranked = served.signatures["rank"](**tensors)
    for output in ("probability", "logit"):
        np.testing.assert_allclose(ranked[output].numpy(), expected[output], atol=1e-5)

    # Other tests push to the shared folder.
    shutil.copytree(trained.version_dir, tmp_path / trained.version_dir.name)
    with ModelServer(tmp_path, "ctr") as server, RankingClient(f"127.0.0.1:{server.port}", "ctr") as client:
        server.wait_until_ready(60)
        for index, impression in enumerate(impressions[:8]):
            ranking = client.rank(impression)
            assert ranking.model_version == trained.result.report.pushed_version
            for candidate in ranking.candidates:
                place = index, candidate.position
                assert candidate.logit == pytest.approx(expected["logit"][place], abs=1e-5)
                assert candidate.probability == pytest.approx(expected["probability"][place], abs=1e-5)


def test_the_check_of_skew_passed_the_version_and_passes_no_tampered_one(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctr.components.examples.shards import list_shards, split_folder
    from ctr.components.skew_check import check as engine
    from ctr.components.skew_check.settings import SkewCheckSettings

    written = (trained.artifact("SkewCheck", "report") / SKEW_FILE).read_text()
    found = SkewFindings.model_validate_json(written)
    assert found.model_to_signature is not None
    assert max(found.model_to_signature, found.signature_to_server) <= found.tolerance == 1e-5
    assert (found.impressions, found.candidates) == (engine.IMPRESSIONS, 2 * engine.IMPRESSIONS)

    config = trained.config
    settings = SkewCheckSettings(
        plugins=(), model=config.model, history_length=config.ingest.history_length, precision="float32", seed=1
    )
    raw, transformed, graph = (
        str(trained.artifact(*of))
        for of in (
            ("ImpressionGen", "examples"),
            ("ImpressionTransform", "transformed_examples"),
            ("ImpressionTransform", "transform_graph"),
        )
    )

    def checked(model_folder: Path) -> SkewFindings:
        return engine.check(
            settings,
            raw_files=list_shards(split_folder(raw, "eval")),
            transformed_files=list_shards(split_folder(transformed, "eval")),
            transform_uri=graph,
            model_folder=str(model_folder),
        )

    tampered = tmp_path / "tampered"
    shutil.copytree(trained.version_dir, tampered)
    (vocabulary,) = (tampered / "assets").glob("item*")
    vocabulary.write_text("".join(f"{line}\n" for line in reversed(vocabulary.read_text().split())))
    with pytest.raises(
        engine.SkewError, match=r"user \d+ at \d+, .* negatives: \w+_item_index \d+ is \d+ after Transform"
    ):
        checked(tampered)

    restore = engine.with_exported_weights

    def slightly_otherwise(model: Any, folder: str) -> bool:
        done = restore(model, folder)
        model.logit.weights[-1].assign_add([0.01])
        return done

    monkeypatch.setattr(engine, "with_exported_weights", slightly_otherwise)
    with pytest.raises(engine.SkewError, match=r"candidate \d+ \(item \d+\): its logit is .* by the model, on what"):
        checked(trained.version_dir)


_FRESH = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
records = [r for r in tf.data.TFRecordDataset(sys.argv[2])]
print(json.dumps(served.signatures["serving_default"](examples=tf.stack(records))["logit"].numpy().tolist()))
"""


def test_the_version_stands_alone(trained: Trained, raw: Any, served: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    expected = served.signatures["serving_default"](examples=raw)["logit"].numpy()
    records = tmp_path / "examples"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for example in raw.numpy():
            writer.write(example)
    alone = tmp_path / "alone" / trained.version_dir.name
    shutil.copytree(trained.version_dir, alone)
    away = trained.output.with_name("away")
    trained.output.rename(away)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _FRESH, str(alone), str(records)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    finally:
        away.rename(trained.output)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-6)


@pytest.fixture(scope="module")
def port(trained: Trained) -> Iterator[int]:
    """A ``serve`` command in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "ctr", "serve", "--output", str(trained.output), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ}) as process:
        try:
            yield port
        finally:
            process.terminate()
            assert process.wait(300) == 0


def _predict(*arguments: str, deadline: float = 300) -> int:
    end = time.monotonic() + deadline
    while (code := cli.main(["predict", *arguments])) and time.monotonic() < end:
        time.sleep(1)
    return code


def test_serve_and_predict_rank_an_eval_impression(
    trained: Trained, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict("--output", str(trained.output), "--port", str(port)) == 0
    lines = capsys.readouterr().out.splitlines()
    latest = max(int(path.name) for path in trained.serving.iterdir())
    assert lines[0].startswith(f"ctr version {latest}, history of ")
    rows = [line.split() for line in lines[2:]]
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == 1 + len(names.NEGATIVE_SETS)
    probabilities = [float(row[3]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum("chosen" in line for line in lines) == 1


def test_predict_explains_an_eval_impression(trained: Trained, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert _predict("--output", str(trained.output), "--port", str(port), "--explain", "--json") == 0
    ranking = json.loads(capsys.readouterr().out)
    explanation, best = ranking["explanation"], ranking["candidates"][0]
    assert (explanation["item_id"], explanation["position"]) == (best["item_id"], best["position"])
    # Alone or in company, and beside longer or shorter histories, a candidate has one score.
    assert explanation["logit"] == pytest.approx(best["logit"], abs=1e-4)
    weights = [event["weight"] for event in explanation["events"]]
    assert len(weights) == ranking["history_length"] > 1
    assert max(map(abs, weights)) > 1e-3


def test_predict_reads_an_impression_file(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "impression.json"
    event = {"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}
    candidates = [{"item_id": 7, "category_id": 3}, {"item_id": 9, "category_id": 4}]
    file.write_text(json.dumps({"history": [event], "candidates": candidates}))
    assert _predict("--impression", str(file), "--port", str(port)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines[2:]} == {"7", "9"}
    assert _predict("--impression", str(file), "--port", str(port), "--json", "--quiet") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    document = json.loads(shown.out)
    assert [str(candidate["item_id"]) for candidate in document["candidates"]] == [
        line.split()[1] for line in lines[2:]
    ]
    assert lines[0] == f"ctr version {document['model_version']}, history of {document['history_length']} events"
    assert document["chosen_item_id"] is None
    file.write_text(file.read_text().replace('"item_id": 7', '"item_id": "P7"'))
    assert _predict("--impression", str(file), "--port", str(port), "--json", "--dataset", "retailrocket") == 0
    asked = [candidate["item_id"] for candidate in json.loads(capsys.readouterr().out)["candidates"]]
    assert sorted(asked, key=str) == [9, "P7"]


def test_predict_says_when_the_model_is_not_there(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "impression.json"
    file.write_text(json.dumps({"history": [], "candidates": [{"item_id": 7, "category_id": 3}]}))
    assert cli.main(["predict", "--impression", str(file), "--port", str(port), "--model", "other"]) == 1
    assert "other" in capsys.readouterr().err
