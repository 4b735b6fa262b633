"""What the StatisticsGen step runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

import apache_beam as beam
import pyarrow as pa
import tensorflow_data_validation as tfdv
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.impressions import records
from ctr.components.examples.shards import list_shards
from ctr.components.settings import SETTINGS_KEY, StatisticsConfig

_IMPRESSIONS_OF_A_BATCH: Final = 4096


class Executor(base_beam_executor.BaseBeamExecutor):
    """TensorFlow Data Validation's statistics of some shards of each split.

    A shard holds the users whose hash is in one range, so some shards are a sample of the users, and the same one each
    time; the others are not read. (TFX's executor has no such sample, and loads TensorFlow Model Analysis.)
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step."""
        keep_beam_here()
        rate = StatisticsConfig.model_validate_json(exec_properties[SETTINGS_KEY]).sample_rate
        examples = artifact_utils.get_single_instance(input_dict[keys.EXAMPLES])
        statistics = artifact_utils.get_single_instance(output_dict[keys.STATISTICS])
        statistics.split_names = examples.split_names
        statistics.span = examples.span
        with self._make_beam_pipeline() as pipeline:
            for split in artifact_utils.decode_split_names(examples.split_names):
                shards = sample(list_shards(artifact_utils.get_split_uri([examples], split)), rate)
                path = os.path.join(artifact_utils.get_split_uri([statistics], split), keys.STATISTICS_FILE)
                _ = (
                    pipeline
                    | f"Shards[{split}]" >> beam.Create(shards)
                    | f"Read[{split}]" >> beam.FlatMap(_batches).with_output_types(pa.RecordBatch)
                    | f"GenerateStatistics[{split}]" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
                    | f"Write[{split}]" >> tfdv.WriteStatisticsToBinaryFile(path)
                )


def sample(shards: Sequence[str], rate: float) -> Sequence[str]:
    """The first so many of a split's shards, at least one."""
    return shards[: max(1, round(rate * len(shards)))]


def _batches(shard: str) -> Iterator[pa.RecordBatch]:
    decoder = ExamplesToRecordBatchDecoder()
    for serialized in records([shard]).batch(_IMPRESSIONS_OF_A_BATCH).prefetch(1).as_numpy_iterator():
        yield decoder.DecodeBatch(serialized.tolist())
