from __future__ import annotations

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from ctr.components.anomaly_gate.findings import AnomaliesFoundError, stop_on_anomalies


def anomalies(**descriptions: str) -> anomalies_pb2.Anomalies:
    result = anomalies_pb2.Anomalies()
    for name, description in descriptions.items():
        result.anomaly_info[name].description = description
        feature = result.baseline.feature.add(name=name)
        feature.value_count.min = feature.value_count.max = 1
    return result


def test_no_anomaly_passes() -> None:
    stop_on_anomalies({"train": anomalies(), "eval": anomalies()}, {"train": 10, "eval": 3})


def test_every_anomaly_of_every_split_is_named() -> None:
    found = {"train": anomalies(), "eval": anomalies(label="Too large.", user_id="Too small")}
    with pytest.raises(AnomaliesFoundError) as error:
        stop_on_anomalies(found, {"train": 10, "eval": 3})
    lines = str(error.value).splitlines()
    assert [line.split(" Expected")[0] for line in lines[1:3]] == [
        "  split eval, feature label: Too large.",
        "  split eval, feature user_id: Too small.",
    ]
    assert len(lines) == 4


def test_an_empty_split_is_no_good_data() -> None:
    with pytest.raises(AnomaliesFoundError, match="split validation, the whole of it: it has no impressions"):
        stop_on_anomalies({"validation": anomalies()}, {"validation": 0})
