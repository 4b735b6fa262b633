"""The node that stops a run whose data do not match the schema; ExampleValidator alone only takes note."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.component_spec import ChannelParameter

from components.anomaly_gate import executor


class DataApproval(Artifact):
    """Says that no split was empty or had an anomaly."""

    TYPE_NAME = "components.DataApproval"


class AnomalyGateSpec(types.ComponentSpec):
    """Interface of :class:`AnomalyGate`."""

    PARAMETERS: dict = {}
    INPUTS = {
        executor.ANOMALIES_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        executor.STATISTICS_KEY: ChannelParameter(type=standard_artifacts.ExampleStatistics),
    }
    OUTPUTS = {executor.APPROVAL_KEY: ChannelParameter(type=DataApproval)}


class AnomalyGate(base_component.BaseComponent):
    """Fails, and so stops everything downstream, if a split is empty or ExampleValidator found anything in it.

    Steps that use the data wait for it: ``transform.add_upstream_node(gate)``.

    Args:
      anomalies: of ExampleValidator.
      statistics: of StatisticsGen, those that were validated.

    Outputs:
      approval: a :class:`DataApproval`.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, anomalies: types.BaseChannel, statistics: types.BaseChannel) -> None:
        approval = types.Channel(type=DataApproval)
        super().__init__(spec=AnomalyGateSpec(anomalies=anomalies, statistics=statistics, approval=approval))
