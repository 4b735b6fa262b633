"""Names of what TFX's steps read, write and are told; TFX's module of them imports TensorFlow Model Analysis."""

from __future__ import annotations

from typing import Final

EPOCHS_FILE: Final = "epochs.json"
"""What the Trainer says of its epochs, in its model run."""

ANOMALIES: Final = "anomalies"
BASELINE_MODEL: Final = "baseline_model"
BLESSING: Final = "blessing"
CUSTOM_CONFIG: Final = "custom_config"
DISABLE_STATISTICS: Final = "disable_statistics"
EVALUATION: Final = "evaluation"
EVAL_CONFIG: Final = "eval_config"
EXAMPLES: Final = "examples"
EXAMPLE_SPLITS: Final = "example_splits"
FORCE_TF_COMPAT_V1: Final = "force_tf_compat_v1"
INPUT_BASE: Final = "input_base"
INPUT_CONFIG: Final = "input_config"
MODEL: Final = "model"
MODEL_RUN: Final = "model_run"
MODULE_PATH: Final = "module_path"
OUTPUT_CONFIG: Final = "output_config"
OUTPUT_DATA_FORMAT: Final = "output_data_format"
OUTPUT_FILE_FORMAT: Final = "output_file_format"
PREPROCESSING_FN: Final = "preprocessing_fn"
RANGE_CONFIG: Final = "range_config"
SCHEMA: Final = "schema"
SPLITS_CONFIG: Final = "splits_config"
STATISTICS: Final = "statistics"
TRANSFORMED_EXAMPLES: Final = "transformed_examples"
TRANSFORM_GRAPH: Final = "transform_graph"
