from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_files import write_blocks
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from ctr.components.artifacts import BaselineReport, ImpressionCatalogue
from ctr.components.baselines.component import Baselines, BaselinesSettings
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import list_shards, shard_path
from ctr.components.examples.summary import IngestSummary, summarise
from ctr.components.scoring import rows
from ctr.components.scoring.baselines import FILE_NAME, BaselineResults
from ctr.components.scoring.scored_shards import ScoredShard, list_scored, scored_path
from ctr.components.settings import EvaluationConfig, IngestConfig
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_FEATURES, HISTORY_FEATURES, INDEX_OF, SPLITS

TRAIN_ENDS = 1_000


def write_split(examples: Path, split: str, negative_set: bytes) -> None:
    """Ten impressions in two files: the positive is item 1, which the history and the catalogue hold too."""
    for part in range(2):
        path = Path(shard_path(str(examples), split, part, 2))
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(5):
            row: dict[str, Any] = {name: [1] for name in HISTORY_FEATURES}
            row |= {name: [1, 100 + i] for name in CANDIDATE_FEATURES}
            row |= {index: [2] if len(row[raw]) == 1 else [2, 1] for raw, index in INDEX_OF.items()}
            row |= {"label": [1, 0], "user_id": [1], "timestamp": [TRAIN_ENDS + i], "target_behavior": [4]}
            rows.append(row | {"negative_set": negative_set})
        write_blocks(path, rows)


def settings(*bounds: str, slices: tuple[str, ...] = ()) -> str:
    return BaselinesSettings(
        training_impressions=100,
        seed=3,
        slices=slices,
        bounds=bounds,
        judged_set="contemporaneous",
        zone="Europe/Berlin",
    ).model_dump_json()


def summary() -> IngestSummary:
    return summarise([], {}, (TRAIN_ENDS, TRAIN_ENDS))


def run(folder: Path, given: str) -> Path:
    """Runs the step on ten impressions of each split; gives the folder of its report."""
    examples, catalogue, report = standard_artifacts.Examples(), ImpressionCatalogue(), BaselineReport()
    for artifact, name in ((examples, "examples"), (catalogue, "catalogue"), (report, "report")):
        artifact.uri = str(folder / name)
        Path(artifact.uri).mkdir()
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split in SPLITS:
        write_split(folder / "examples", split, b"contemporaneous" if split == "eval" else b"mixed")
    one = np.array([1])
    Catalogue(one, one, one, one, one).write(catalogue.uri)
    summary().write(catalogue.uri)

    node = Baselines(
        transformed_examples=types.Channel(type=standard_artifacts.Examples),
        catalogue=types.Channel(type=ImpressionCatalogue),
        settings=given,
    )
    node.executor_spec.executor_class().Do(
        {"transformed_examples": [examples], "catalogue": [catalogue]}, {"report": [report]}, node.exec_properties
    )
    return folder / "report"


def test_the_executor_reads_every_file_of_every_split(tmp_path: Path) -> None:
    report = run(tmp_path, settings("auc", "auc/item:seen", slices=("candidate_category_id",)))

    results = BaselineResults.model_validate_json((report / FILE_NAME).read_text())
    assert (results.fitted_impressions, results.seed) == (10, 3)
    (negative_set,) = results.sets
    assert negative_set == "contemporaneous"
    result = results.sets[negative_set]
    assert (result.impressions, result.pairs, result.positives) == (10, 20, 10)
    assert set(result.auc.values()) == {1.0}
    unknown = {(s.split, s.label): (s.item_share, s.category_share) for s in results.unknown}
    assert unknown == {
        (split, label): (share, share) for split in SPLITS for label, share in (("positive", 0.0), ("negative", 1.0))
    }
    # A shard of scores for each of the eval split, and nothing unfinished.
    assert sorted(path.name for path in report.iterdir()) == [FILE_NAME, "scored"]
    raw = list_shards(str(tmp_path / "examples" / "Split-eval"))
    assert list_scored(str(report)) == [scored_path(str(report), path) for path in raw]
    for path in list_scored(str(report)):
        shard = ScoredShard.read(path)
        assert shard.timestamps.tolist() == [TRAIN_ENDS + i for i in range(5)]
        assert {name: set(values.tolist()) for name, values in shard.scored.attributes.items()} == {
            "history_length": {"1-4"},
            "behavior": {"buy"},
            "item": {"seen"},
            "category": {"seen"},
            "catalogue": {"known"},
            # The history's only event is a second before the impression.
            "user": {"known", "cold"},
            "popularity": {"1"},
            "hour": {"01"},
            "candidate_category_id": {"1"},
        }
        assert shard.scored.attributes["user"].tolist() == ["known", *["cold"] * 4]


def test_a_bound_on_impressions_that_are_not_there_is_refused(tmp_path: Path) -> None:
    bounds = ("auc", "auc/item:new", "auc@uniform", "auc@overall/behavior:pv")
    with pytest.raises(DataError) as caught:
        run(tmp_path, settings(*bounds))
    assert str(caught.value).splitlines() == [
        "evaluation.bounds.auc/item:new: none of the 10 impressions of negative set contemporaneous is in slice "
        "item:new; there are item:seen (10)",
        "evaluation.bounds.auc@uniform: the eval split has no impressions of negative set uniform; there are "
        "contemporaneous (10)",
        "evaluation.bounds.auc@overall/behavior:pv: none of the 10 impressions of negative set overall is in slice "
        "behavior:pv; there are behavior:buy (10)",
        "No model is trained, since it could not be blessed. Leave such a bound out, or judge on a log, or a larger "
        "eval_share, that has such impressions",
    ]


def test_a_feature_of_too_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_VALUES", 4)
    with pytest.raises(DataError, match="evaluation.slices: timestamp has 5 values in the eval split; at most 4 can"):
        run(tmp_path, settings("auc", slices=("candidate_item_id", "timestamp")))


def test_what_baselines_are_told_of_the_bounds() -> None:
    evaluation = EvaluationConfig.model_validate(
        {
            "bounds": {"auc": {"min": 0.8}, "auc/user_id:5": {"min": 0.1}, "gauc": {"confidence": 0.9}},
            "slices": ["user_id"],
        }
    )
    given = BaselinesSettings.of(evaluation, IngestConfig())
    # A key without any bound asks for nothing.
    assert (given.bounds, given.slices) == (("auc", "auc/user_id:5"), ("user_id",))


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_split_is_named(tmp_path: Path, split: str) -> None:
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path)
    examples.split_names = artifact_utils.encode_split_names([name for name in SPLITS if name != split])
    node = Baselines(
        transformed_examples=types.Channel(type=standard_artifacts.Examples),
        catalogue=types.Channel(type=ImpressionCatalogue),
        settings=settings(),
    )
    with pytest.raises(ValueError, match=split):
        node.executor_spec.executor_class().Do(
            {"transformed_examples": [examples], "catalogue": [ImpressionCatalogue()]},
            {"report": [BaselineReport()]},
            node.exec_properties,
        )
