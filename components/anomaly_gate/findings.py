"""Anomalies as sentences: where, what was found, what the schema expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from ctr.models.errors import DataError


class AnomaliesFoundError(DataError):
    """Data that must not be used; the message names each split and feature."""


class Finding(NamedTuple):
    """One anomaly of one split."""

    split: str
    feature: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"split {self.split}, {self.feature}: {self.found} Expected: {self.expected}."


def findings(split: str, anomalies: anomalies_pb2.Anomalies) -> list[Finding]:
    """The anomalies of a split, sorted by feature."""
    features = {feature.name: feature for feature in anomalies.baseline.feature}
    result = []
    for name, info in sorted(anomalies.anomaly_info.items()):
        expected = _expected(features[name], anomalies.baseline) if name in features else "no such feature"
        result.append(Finding(split, f"feature {name}", f"{info.description.strip().rstrip('.')}.", expected))
    return result


def stop_on_anomalies(anomalies: Mapping[str, anomalies_pb2.Anomalies], examples: Mapping[str, int]) -> None:
    """Passes if no split is empty or has an anomaly.

    Args:
      anomalies: split name -> what ExampleValidator found in it.
      examples: split name -> number of its impressions. TFDV finds nothing wrong with statistics of no examples.

    Raises:
      AnomaliesFoundError: names split, feature, what was found and what was expected, each time.
    """
    found = [finding for split in anomalies for finding in findings(split, anomalies[split])]
    found += [
        Finding(split, "the whole of it", "it has no impressions.", "at least 1 impression")
        for split, count in examples.items()
        if count == 0
    ]
    if found:
        lines = "\n".join(f"  {finding}" for finding in found)
        raise AnomaliesFoundError(
            f"the impressions do not match the schema, and nothing after this step has run:\n{lines}\n"
            "Look at the log and at what ingest put into quarantine. A range comes from the settings that it names."
        )


def _expected(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> str:
    parts = [schema_pb2.FeatureType.Name(feature.type)]
    domain = feature.int_domain
    if domain.HasField("max"):
        parts.append(f"{domain.min} to {domain.max}")
    elif domain.HasField("min"):
        parts.append(f"{domain.min} or more")
    for named in schema.string_domain:
        if named.name == feature.domain:
            parts.append("one of " + ", ".join(named.value))
    count = feature.value_count
    parts.append(f"{count.min} values" if count.min == count.max else f"{count.min} to {count.max} values")
    if feature.presence.min_fraction == 1.0:
        parts.append("in every impression")
    settings = ", ".join(feature.annotation.comment)
    return ", ".join(parts) + (f" (from {settings})" if settings else "")
