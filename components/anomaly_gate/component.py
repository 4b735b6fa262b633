"""The step that stops a run whose data do not match the schema; ExampleValidator alone only takes note."""

import os
from typing import Final

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics

from ctr.components.anomaly_gate.findings import stop_on_anomalies
from ctr.components.artifacts import DataApproval

ANOMALIES_FILE: Final = "SchemaDiff.pb"
STATISTICS_FILE: Final = "FeatureStats.pb"
"""Of a split, as ExampleValidator and StatisticsGen write it."""


@component
def AnomalyGate(
    anomalies: InputArtifact[ExampleAnomalies],
    statistics: InputArtifact[ExampleStatistics],
    approval: OutputArtifact[DataApproval],
) -> None:
    """Fails, and so stops everything downstream, if a split is empty or ExampleValidator found anything in it.

    Steps that use the data wait for it: ``transform.add_upstream_node(gate)``.

    Args:
      anomalies: of ExampleValidator.
      statistics: of StatisticsGen, those that were validated.
      approval: gets ``APPROVED``.

    Raises:
      AnomaliesFoundError: if a split has an anomaly or is empty.
    """
    found, examples = {}, {}
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(artifact_utils.get_split_uri([anomalies], split), ANOMALIES_FILE)
        with fileio.open(path, "rb") as file:
            found[split] = anomalies_pb2.Anomalies.FromString(file.read())
        path = os.path.join(artifact_utils.get_split_uri([statistics], split), STATISTICS_FILE)
        with fileio.open(path, "rb") as file:
            datasets = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read()).datasets
        examples[split] = sum(dataset.num_examples for dataset in datasets)
    stop_on_anomalies(found, examples)
    fileio.makedirs(approval.uri)
    with fileio.open(os.path.join(approval.uri, "APPROVED"), "w") as file:
        file.write("\n".join(found) + "\n")
