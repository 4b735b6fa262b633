from __future__ import annotations

import os
from pathlib import Path

from card_facts import make_facts, value
from tfx import types
from tfx.types import standard_artifacts

from ctr.components.artifacts import ImpressionCatalogue, pushed_version
from ctr.components.blessing import check_blessed
from ctr.components.pusher.component import Pusher
from ctr.components.pusher.model_card import MODEL_CARD
from ctr.components.pusher.settings import CardSettings
from ctr.components.scoring.evaluation import EVALUATION_FILE

FACTS = make_facts()


def artifact(cls: type[types.Artifact], folder: Path) -> types.Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    result = cls()
    result.uri = str(folder)
    return result


def push(tmp_path: Path, blessed: bool) -> types.Artifact:
    model = artifact(standard_artifacts.Model, tmp_path / "model")
    serving_model = tmp_path / "model" / "Format-Serving"
    serving_model.mkdir(exist_ok=True)
    (serving_model / "saved_model.pb").write_bytes(b"graph")
    blessing = artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    blessing.set_int_custom_property("blessed", int(blessed))
    evaluation = artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
    (tmp_path / "evaluation" / EVALUATION_FILE).write_text(FACTS.evaluation.model_dump_json())
    catalogue = artifact(ImpressionCatalogue, tmp_path / "catalogue")
    FACTS.summary.write(catalogue.uri)
    FACTS.content.write(catalogue.uri)
    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed" / "7")
    node = Pusher(
        model=types.Channel(type=standard_artifacts.Model),
        model_blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
        catalogue=types.Channel(type=ImpressionCatalogue),
        base_directory=str(tmp_path / "serving"),
        settings=CardSettings(training=FACTS.training, zone=FACTS.zone).model_dump_json(),
    )
    node.executor_spec.executor_class().Do(
        {"model": [model], "model_blessing": [blessing], "evaluation": [evaluation], "catalogue": [catalogue]},
        {"pushed_model": [pushed]},
        node.exec_properties,
    )
    return pushed


def test_a_blessed_model_is_published_and_archived(tmp_path: Path) -> None:
    pushed = push(tmp_path, blessed=True)
    version = pushed_version(pushed)
    assert os.listdir(tmp_path / "serving") == [str(version)]
    assert pushed.get_string_custom_property("pushed_destination") == str(tmp_path / "serving" / str(version))
    assert (tmp_path / "serving" / str(version) / "saved_model.pb").read_bytes() == b"graph"
    assert (tmp_path / "pushed" / "7" / "saved_model.pb").read_bytes() == b"graph"
    card = (tmp_path / "serving" / str(version) / MODEL_CARD).read_text()
    assert (tmp_path / "pushed" / "7" / MODEL_CARD).read_text() == card
    assert card.startswith("# serving: DIN\n")
    assert "execution 7, model 0, " in card
    proof = check_blessed(str(tmp_path / "serving" / str(version)), "serving")
    assert (proof.execution, proof.auc, list(proof.files)) == ("7", value(0.8912), ["saved_model.pb"])
    # The Trainer's own output stays as it was.
    assert os.listdir(tmp_path / "model" / "Format-Serving") == ["saved_model.pb"]


def test_a_model_that_is_not_blessed_goes_nowhere(tmp_path: Path) -> None:
    pushed = push(tmp_path, blessed=False)
    assert pushed_version(pushed) is None
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "serving").exists()
    assert os.listdir(tmp_path / "pushed" / "7") == []


def test_a_second_push_gets_a_larger_version(tmp_path: Path) -> None:
    first, second = (pushed_version(push(tmp_path, blessed=True)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert second > first
