from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from ctr.components.artifacts import BaselineReport, ImpressionCatalogue
from ctr.components.baselines.component import Baselines, BaselinesSettings
from ctr.components.examples.catalogue import Catalogue
from ctr.components.scoring.baselines import FILE_NAME, BaselineResults
from ctr.models.impression import CANDIDATE_FEATURES, HISTORY_FEATURES, INDEX_OF, SPLITS


def write_split(folder: Path, negative_set: bytes) -> None:
    """Ten impressions in two files: the positive is item 1, which the history and the catalogue hold too."""
    folder.mkdir(parents=True)
    for part in range(2):
        path = folder / f"transformed_examples-0000{part}-of-00002.gz"
        with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
            for i in range(5):
                row = {name: [1] for name in HISTORY_FEATURES}
                row |= {name: [1, 100 + i] for name in CANDIDATE_FEATURES}
                row |= {index: [2] if len(row[raw]) == 1 else [2, 1] for raw, index in INDEX_OF.items()}
                example = tf.train.Example()
                example.features.feature["negative_set"].bytes_list.value.append(negative_set)
                for name, values in (row | {"label": [1, 0], "user_id": [1]}).items():
                    example.features.feature[name].int64_list.value.extend(values)
                writer.write(example.SerializeToString())


def test_the_executor_reads_every_file_of_every_split(tmp_path: Path) -> None:
    examples, catalogue, report = standard_artifacts.Examples(), ImpressionCatalogue(), BaselineReport()
    for artifact, name in ((examples, "examples"), (catalogue, "catalogue"), (report, "report")):
        artifact.uri = str(tmp_path / name)
        Path(artifact.uri).mkdir()
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split in SPLITS:
        write_split(tmp_path / "examples" / f"Split-{split}", b"contemporaneous" if split == "eval" else b"mixed")
    one = np.array([1])
    Catalogue(one, one, one, one, one).write(catalogue.uri)

    node = Baselines(
        transformed_examples=types.Channel(type=standard_artifacts.Examples),
        catalogue=types.Channel(type=ImpressionCatalogue),
        settings=BaselinesSettings(training_impressions=100, seed=3).model_dump_json(),
    )
    node.executor_spec.executor_class().Do(
        {"transformed_examples": [examples], "catalogue": [catalogue]}, {"report": [report]}, node.exec_properties
    )

    results = BaselineResults.model_validate_json((tmp_path / "report" / FILE_NAME).read_text())
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


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_split_is_named(tmp_path: Path, split: str) -> None:
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path)
    examples.split_names = artifact_utils.encode_split_names([name for name in SPLITS if name != split])
    node = Baselines(
        transformed_examples=types.Channel(type=standard_artifacts.Examples),
        catalogue=types.Channel(type=ImpressionCatalogue),
        settings=BaselinesSettings(training_impressions=100, seed=3).model_dump_json(),
    )
    with pytest.raises(ValueError, match=split):
        node.executor_spec.executor_class().Do(
            {"transformed_examples": [examples], "catalogue": [ImpressionCatalogue()]},
            {"report": [BaselineReport()]},
            node.exec_properties,
        )
