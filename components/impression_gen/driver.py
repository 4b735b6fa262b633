"""Which files the ExampleGen of behaviour logs reads, and what of them the cache compares."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Final

from tfx.dsl.components.base import base_driver as dsl_driver
from tfx.orchestration import data_types_utils
from tfx.orchestration.portable import base_driver, data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.proto.orchestration import driver_output_pb2
from tfx.utils import proto_utils

from ctr.components import keys
from ctr.components.dataset import DatasetConfig
from ctr.components.files import stat
from ctr.components.impression_gen.sources import find_logs
from ctr.components.impression_gen.spans import find_span, has_span
from ctr.components.impression_gen.tables import table_files
from ctr.components.settings import SETTINGS_KEY

SPAN_KEY: Final = "span"
VERSION_KEY: Final = "version"
FINGERPRINT_KEY: Final = "input_fingerprint"
"""What the driver of TFX's file-based ExampleGens notes, of the execution and of the examples."""
CONTENT_KEY: Final = "content_digest"
"""What the executor notes of the examples: ``LogContent.digest``."""


class Driver(dsl_driver.BaseDriver, base_driver.BaseDriver):
    """Does what the driver of TFX's file-based ExampleGens does, for which a path is a pattern; here it is a name.

    Components take drivers of the one base class, launchers those of the other.
    """

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Puts the path of the span, its number and version, 0 and none where the name has no place for one, and a
        fingerprint of its files into the parameters, and the last three into the properties of the examples."""
        result = driver_output_pb2.DriverOutput()
        given = execution_info.exec_properties
        examples = result.output_artifacts[keys.EXAMPLES].artifacts.add()
        examples.CopyFrom(execution_info.output_dict[keys.EXAMPLES][0].mlmd_artifact)
        input_config, found = _found(given)
        for key, value in {**given, keys.INPUT_CONFIG: proto_utils.proto_to_json(input_config), **found}.items():
            if value is not None:
                data_types_utils.set_metadata_value(result.exec_properties[key], value)
        for key, value in found.items():
            data_types_utils.set_metadata_value(examples.custom_properties[key], value)
        return result


def _found(given: dict[str, Any]) -> tuple[example_gen_pb2.Input, dict[str, int | str]]:
    input_config = example_gen_pb2.Input()
    proto_utils.json_to_proto(given[keys.INPUT_CONFIG], input_config)
    (split,) = input_config.splits
    base = given[keys.INPUT_BASE]
    dataset = DatasetConfig.model_validate(json.loads(given[SETTINGS_KEY])["dataset"])
    path = os.path.join(base, split.pattern)
    found: dict[str, int | str] = {SPAN_KEY: 0}
    if has_span(path):
        chosen = find_span(path, _chosen_span(given), dataset)
        path = chosen.path
        found[SPAN_KEY] = chosen.number
        if chosen.version is not None:
            found[VERSION_KEY] = chosen.version
    split.pattern = path[len(os.path.join(base, "")) :] if base else path
    return input_config, {**found, FINGERPRINT_KEY: fingerprint(path, dataset)}


def _chosen_span(given: dict[str, Any]) -> int | None:
    if not given.get(keys.RANGE_CONFIG):
        return None
    chosen = range_config_pb2.RangeConfig()
    proto_utils.json_to_proto(given[keys.RANGE_CONFIG], chosen)
    return int(chosen.static_range.start_span_number)


def fingerprint(path: str, dataset: DatasetConfig) -> str:
    """Of the files of a log, and of the tables beside it; changes with a file's name, size or time."""
    files = find_logs(path, dataset).files
    stats = [(os.path.relpath(file, path), *stat(file)) for file in files] + table_files(dataset)
    digest = hashlib.sha256(repr(stats).encode()).hexdigest()
    return f"num_files:{len(files)},total_bytes:{sum(size for _, size, _ in stats)},sha256:{digest}"
