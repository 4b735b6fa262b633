"""Executor of the SchemaGen step."""

from __future__ import annotations

import os
from typing import Any, Final

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.types.standard_component_specs import EXAMPLES_KEY, SCHEMA_KEY
from tfx.utils import io_utils

from components.examples.window import read_window
from components.schema.impression_schema import Ranges, impression_schema

RANGES_KEY: Final = "ranges"
SCHEMA_FILE: Final = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writes the schema where TFX's other steps look for one."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Leaves ``schema.pbtxt`` in the output artifact."""
        window = read_window(artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY]))
        schema = impression_schema(Ranges.model_validate_json(exec_properties[RANGES_KEY]), window)
        uri = artifact_utils.get_single_uri(output_dict[SCHEMA_KEY])
        io_utils.write_pbtxt_file(os.path.join(uri, SCHEMA_FILE), schema)
