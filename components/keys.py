"""Names of what TFX's steps read, write and are told; TFX's module of them imports TensorFlow Model Analysis."""

from __future__ import annotations

from typing import Final

ANOMALIES: Final = "anomalies"
BASELINE_MODEL: Final = "baseline_model"
BLESSING: Final = "blessing"
EVALUATION: Final = "evaluation"
EXAMPLES: Final = "examples"
INPUT_BASE: Final = "input_base"
INPUT_CONFIG: Final = "input_config"
MODEL: Final = "model"
MODEL_RUN: Final = "model_run"
OUTPUT_CONFIG: Final = "output_config"
OUTPUT_DATA_FORMAT: Final = "output_data_format"
OUTPUT_FILE_FORMAT: Final = "output_file_format"
RANGE_CONFIG: Final = "range_config"
SCHEMA: Final = "schema"
STATISTICS: Final = "statistics"
TRANSFORMED_EXAMPLES: Final = "transformed_examples"
TRANSFORM_GRAPH: Final = "transform_graph"

ANOMALIES_FILE: Final = "SchemaDiff.pb"
STATISTICS_FILE: Final = "FeatureStats.pb"
"""Of a split, as TFX's own ExampleValidator and StatisticsGen name them."""
