"""Statistics of a sample are those of some whole shards."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from ctr.components.settings import StatisticsConfig

pytestmark = pytest.mark.slow
SHARDS, SPLIT = 10, "train"


@pytest.mark.parametrize(("rate", "shards"), [(0.3, 3), (0.01, 1), (1.0, SHARDS)])
def test_a_sample_is_of_whole_shards(tmp_path: Path, rate: float, shards: int) -> None:
    from tfx import types
    from tfx.components.statistics_gen import stats_artifact_utils
    from tfx.components.util import examples_utils
    from tfx.dsl.components.base import base_beam_executor
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils, standard_artifacts

    from ctr.components.statistics.component import StatisticsGen

    folder = tmp_path / "examples" / f"Split-{SPLIT}"
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        with tf.io.TFRecordWriter(str(folder / f"data-{shard}.gz"), tf.io.TFRecordOptions("GZIP")) as writer:
            for value in range(10 + shard):
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                writer.write(tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString())
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, statistics.uri = str(tmp_path / "examples"), str(tmp_path / "statistics")
    examples.split_names = artifact_utils.encode_split_names([SPLIT])
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    component = StatisticsGen(types.Channel(standard_artifacts.Examples), StatisticsConfig(sample_rate=rate))

    context = base_beam_executor.BaseBeamExecutor.Context(tmp_dir=str(tmp_path / "tmp"), beam_pipeline_args=[])
    executor = component.executor_spec.executor_class(context)
    executor.Do({"examples": [examples]}, {"statistics": [statistics]}, dict(component.exec_properties))

    (dataset,) = stats_artifact_utils.load_statistics(statistics, SPLIT).proto().datasets
    assert dataset.num_examples == sum(10 + shard for shard in range(shards))
    assert [p.name for p in Path(statistics.uri).iterdir()] == [f"Split-{SPLIT}"]
    assert examples.uri == str(tmp_path / "examples")
    assert len(list(folder.iterdir())) == SHARDS
