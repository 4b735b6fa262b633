"""The SchemaGen step: the schema of raw impressions, from the configuration and the window of the examples."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Schema
from tfx.utils import io_utils

from ctr.components.examples.window import read_window
from ctr.components.schema.impression_schema import Ranges, impression_schema

SCHEMA_FILE = "schema.pbtxt"


@component
def SchemaGen(examples: InputArtifact[Examples], schema: OutputArtifact[Schema], settings: Parameter[str]) -> None:
    """Writes :func:`ctr.components.schema.impression_schema.impression_schema`; TFX's own infers one from statistics.

    Args:
      examples: from ImpressionGen, which tell their window.
      schema: gets ``schema.pbtxt``, where TFX's other steps look for it.
      settings: JSON of :class:`ctr.components.schema.impression_schema.Ranges`: what of the ingest bounds impressions.
    """
    made = impression_schema(Ranges.model_validate_json(settings), read_window(examples))
    io_utils.write_pbtxt_file(os.path.join(schema.uri, SCHEMA_FILE), made)
