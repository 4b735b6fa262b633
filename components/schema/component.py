"""The SchemaGen step: the schema of raw impressions, from the configuration."""

import os

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema
from tfx.utils import io_utils

from components.schema.impression_schema import Ranges, impression_schema

SCHEMA_FILE = "schema.pbtxt"


@component
def SchemaGen(schema: OutputArtifact[Schema], settings: Parameter[str]) -> None:
    """Writes :func:`components.schema.impression_schema.impression_schema`; TFX's own infers one from statistics.

    Args:
      schema: gets ``schema.pbtxt``, where TFX's other steps look for it.
      settings: JSON of :class:`components.schema.impression_schema.Ranges`: what of the ingest bounds impressions.
    """
    io_utils.write_pbtxt_file(
        os.path.join(schema.uri, SCHEMA_FILE), impression_schema(Ranges.model_validate_json(settings))
    )
