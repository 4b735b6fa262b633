"""What the ExampleValidator step runs."""

from __future__ import annotations

import os

import tensorflow_data_validation as tfdv
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.keys import ANOMALIES_FILE, STATISTICS_FILE


class Executor(base_executor.BaseExecutor):
    """TensorFlow Data Validation's anomalies of each split. (TFX's executor loads TensorFlow Model Analysis.)"""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step."""
        statistics = artifact_utils.get_single_instance(input_dict[keys.STATISTICS])
        anomalies = artifact_utils.get_single_instance(output_dict[keys.ANOMALIES])
        anomalies.split_names = statistics.split_names
        anomalies.span = statistics.span
        schema_uri = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(input_dict[keys.SCHEMA]))
        schema = io_utils.SchemaReader().read(schema_uri)
        for split in artifact_utils.decode_split_names(statistics.split_names):
            found = tfdv.load_stats_binary(
                os.path.join(artifact_utils.get_split_uri([statistics], split), STATISTICS_FILE)
            )
            folder = artifact_utils.get_split_uri([anomalies], split)
            fileio.makedirs(folder)
            with fileio.open(os.path.join(folder, ANOMALIES_FILE), "wb") as file:
                file.write(tfdv.validate_statistics(found, schema).SerializeToString())
