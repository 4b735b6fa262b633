"""What ML Metadata keeps of an execution beside what TFX writes: what it took, and with which code and machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import ValidationError

from ctr.components.provenance import Provenance, gather
from ctr.components.usage import Meter, Usage
from ctr.pipeline.output.connection import connection
from ctr.pipeline.output.executions import of_run
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.settings.metadata import MetadataConfig

SECONDS: Final = "wall_seconds"
CPU_SECONDS: Final = "cpu_seconds"
PEAK_MEMORY: Final = "peak_memory_bytes"
PROVENANCE: Final = "provenance"
"""Custom properties of an execution; the last one is JSON."""

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def measured(metadata: MetadataConfig, layout: Layout, run_id: str, node: str) -> Iterator[None]:
    """Measures a node of a run, and writes it down when the block ends, however it does."""
    meter = Meter()
    try:
        with meter:
            yield
    finally:
        try:
            _write(MetadataStore(connection(metadata, layout)), run_id, node, meter)
        except Exception:
            # The run is worth more than what is known of its costs.
            _logger.warning("What %s took could not be written to ML Metadata", node, exc_info=True)


def _write(store: MetadataStore, run_id: str, node: str, meter: Meter) -> None:
    execution = max(of_run(store, run_id, node), key=lambda each: each.id, default=None)
    if execution is None or meter.usage is None:
        return
    properties, usage = execution.custom_properties, meter.usage
    properties[SECONDS].double_value = usage.seconds
    if usage.cpu_seconds is not None:
        properties[CPU_SECONDS].double_value = usage.cpu_seconds
    if usage.peak_memory is not None:
        properties[PEAK_MEMORY].int_value = usage.peak_memory
    if execution.last_known_state != mlmd.Execution.CACHED:
        properties[PROVENANCE].string_value = gather().model_dump_json()
    store.put_executions([execution])


def usage_of(execution: mlmd.Execution) -> Usage:
    """What it took; of an execution that nobody measured, the time from its registration to its last update."""
    properties = execution.custom_properties
    milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
    return Usage(
        seconds=properties[SECONDS].double_value if SECONDS in properties else milliseconds / 1000,
        cpu_seconds=properties[CPU_SECONDS].double_value if CPU_SECONDS in properties else None,
        peak_memory=properties[PEAK_MEMORY].int_value if PEAK_MEMORY in properties else None,
    )


def provenance_of(execution: mlmd.Execution) -> Provenance | None:
    """None of an execution that took its results from the cache, was not measured, or of another version's."""
    if PROVENANCE not in execution.custom_properties:
        return None
    with contextlib.suppress(ValidationError):
        return Provenance.model_validate_json(execution.custom_properties[PROVENANCE].string_value)
    return None
