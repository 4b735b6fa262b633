"""What the StatisticsGen step runs."""

from __future__ import annotations

import copy
import os

from tfx import types
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.settings import SETTINGS_KEY, StatisticsConfig


class Executor(tfx_executor.Executor):
    """TFX's executor on some shards of each split.

    TFX would read and decode all impressions and then drop most of them. A shard holds the users whose hash is in one
    range, so some shards are a sample of the users, and the same one each time.
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step."""
        keep_beam_here()
        rate = StatisticsConfig.model_validate_json(exec_properties[SETTINGS_KEY]).sample_rate
        if rate == 1.0:
            super().Do(input_dict, output_dict, exec_properties)
            return
        examples = artifact_utils.get_single_instance(input_dict[keys.EXAMPLES])
        folder = os.path.join(artifact_utils.get_single_uri(output_dict[keys.STATISTICS]), ".sample")
        sample = sample_shards(examples, rate, folder)
        super().Do({**input_dict, keys.EXAMPLES: [sample]}, output_dict, exec_properties)
        fileio.rmtree(folder)


def sample_shards(examples: types.Artifact, rate: float, folder: str) -> types.Artifact:
    """Copies the first shards of each split, at least one.

    Args:
      examples: impressions.
      rate: share of the shards.
      folder: to copy to.

    Returns:
      an artifact like ``examples`` of what was copied.
    """
    sample = copy.deepcopy(examples)
    sample.uri = folder
    for split in artifact_utils.decode_split_names(examples.split_names):
        source, target = (artifact_utils.get_split_uri([each], split) for each in (examples, sample))
        fileio.makedirs(target)
        shards = sorted(fileio.listdir(source))
        for name in shards[: max(1, round(rate * len(shards)))]:
            fileio.copy(os.path.join(source, name), os.path.join(target, name))
    return sample
