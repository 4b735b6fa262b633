"""The step that stops a run whose data do not match the schema, or are not what the data before them were.

ExampleValidator alone only takes note.
"""

import os
from typing import Final
from zoneinfo import ZoneInfo

from ml_metadata.metadata_store.metadata_store import MetadataStore
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import BaseChannel, Channel, artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics
from tfx.utils import io_utils

from ctr.components.anomaly_gate.distributions import DISTRIBUTIONS_FILE, Distributions, distributions_of
from ctr.components.anomaly_gate.drift import compare, stop_on_drift
from ctr.components.anomaly_gate.findings import stop_on_anomalies
from ctr.components.artifacts import DataApproval, ImpressionCatalogue
from ctr.components.drift import DRIFT_FILE
from ctr.components.examples.summary import IngestSummary
from ctr.components.keys import ANOMALIES_FILE, STATISTICS_FILE
from ctr.components.settings import StatisticsConfig

APPROVAL_KEY: Final = "approval"
STATISTICS_KEY: Final = "statistics"


@component
def AnomalyGate(
    anomalies: InputArtifact[ExampleAnomalies],
    statistics: InputArtifact[ExampleStatistics],
    catalogue: InputArtifact[ImpressionCatalogue],
    approval: OutputArtifact[DataApproval],
    settings: Parameter[str],
    zone: Parameter[str],
    last: InputArtifact[DataApproval] = None,
) -> None:
    """Fails, and so stops everything downstream, if a split is empty, ExampleValidator found anything in it, or it has
    drifted.

    Steps that use the data wait for it: ``transform.add_upstream_node(gate)``.

    Args:
      anomalies: of ExampleValidator.
      statistics: of StatisticsGen, those that were validated.
      catalogue: of ImpressionGen, which counted the events.
      approval: gets ``APPROVED``, what was compared, and what the next data are to be compared with.
      settings: JSON of :class:`ctr.components.settings.StatisticsConfig`.
      zone: ``ingest.dataset.time.zone``, which hours of the day are of.
      last: of the data that were approved last, see :class:`LastApprovalStrategy`.

    Raises:
      AnomaliesFoundError: if a split has an anomaly or is empty.
      DriftError: if a distribution is too far from what it was, or from the train split's.
    """
    found, measured = {}, {}
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(artifact_utils.get_split_uri([anomalies], split), ANOMALIES_FILE)
        with fileio.open(path, "rb") as file:
            found[split] = anomalies_pb2.Anomalies.FromString(file.read())
        path = os.path.join(artifact_utils.get_split_uri([statistics], split), STATISTICS_FILE)
        with fileio.open(path, "rb") as file:
            measured[split] = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())
    stop_on_anomalies(
        found, {split: sum(each.num_examples for each in lists.datasets) for split, lists in measured.items()}
    )
    now = distributions_of(IngestSummary.read(catalogue.uri), measured)
    approved, where = None, last.uri if last else None
    if last:
        with fileio.open(os.path.join(last.uri, DISTRIBUTIONS_FILE), "rb") as file:
            approved = Distributions.model_validate_json(file.read())
    report = compare(now, approved, StatisticsConfig.model_validate_json(settings), ZoneInfo(zone), where)
    stop_on_drift(report)
    for name, text in {
        DISTRIBUTIONS_FILE: now.model_dump_json(),
        DRIFT_FILE: report.model_dump_json(indent=2),
        "APPROVED": "\n".join(found),
    }.items():
        io_utils.write_string_file(os.path.join(approval.uri, name), text + "\n")


class LastApprovalStrategy(ResolverStrategy):
    """The data that were approved last before these had statistics, or none.

    So an identical second run compares with what the first one did, and takes the gate from the cache; and data that
    were stopped are compared with by nobody. ``approval`` is resolved to one artifact or none, ``statistics`` to none.
    """

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """See the class; ``statistics`` holds those of this run, ``approval`` all of the pipeline."""
        [statistics] = input_dict[STATISTICS_KEY]
        earlier = sorted(
            (each for each in input_dict[APPROVAL_KEY] if each.id < statistics.id), key=lambda each: each.id
        )
        there = (each for each in reversed(earlier) if fileio.exists(os.path.join(each.uri, DISTRIBUTIONS_FILE)))
        chosen = next(there, None)
        return {STATISTICS_KEY: [], APPROVAL_KEY: [chosen] if chosen else []}


def last_approval(statistics: BaseChannel | None) -> Resolver:
    """The node that gives the gate what to compare with.

    Args:
      statistics: of this run; None for a runner that knows TFX's own strategies alone, as Vertex AI's: there a repeated
        run is compared with itself.

    Outputs: ``approval``.
    """
    approvals = {APPROVAL_KEY: Channel(type=DataApproval)}
    if statistics is not None:
        resolver = Resolver(strategy_class=LastApprovalStrategy, **approvals, **{STATISTICS_KEY: statistics})
    else:
        from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy

        resolver = Resolver(strategy_class=LatestArtifactStrategy, **approvals)
    return resolver.with_id("LastApproval")
