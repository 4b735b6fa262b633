"""Executor of the anomaly gate."""

from __future__ import annotations

import os
from typing import Any, Final

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.anomaly_gate.findings import stop_on_anomalies

ANOMALIES_KEY: Final = "anomalies"
STATISTICS_KEY: Final = "statistics"
APPROVAL_KEY: Final = "approval"


class Executor(base_executor.BaseExecutor):
    """Reads anomalies and size of every split; fails if there is an anomaly or nothing at all."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Leaves ``APPROVED`` in the output artifact.

        Raises:
          AnomaliesFoundError: if a split has an anomaly or is empty.
        """
        artifact = artifact_utils.get_single_instance(input_dict[ANOMALIES_KEY])
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        anomalies, examples = {}, {}
        for split in artifact_utils.decode_split_names(artifact.split_names):
            path = os.path.join(artifact_utils.get_split_uri([artifact], split), DEFAULT_FILE_NAME)
            with fileio.open(path, "rb") as file:
                anomalies[split] = anomalies_pb2.Anomalies.FromString(file.read())
            datasets = stats_artifact_utils.load_statistics(statistics, split).proto().datasets
            examples[split] = sum(dataset.num_examples for dataset in datasets)
        stop_on_anomalies(anomalies, examples)
        uri = artifact_utils.get_single_uri(output_dict[APPROVAL_KEY])
        fileio.makedirs(uri)
        with fileio.open(os.path.join(uri, "APPROVED"), "w") as file:
            file.write("\n".join(anomalies) + "\n")
