"""Executor of the report."""

from __future__ import annotations

import json
import os
from typing import Any, Final

import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.baselines.results import FILE_NAME as BASELINES_FILE
from components.baselines.results import BaselineResults
from components.evaluator.blessing import read_verdict
from components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from components.impression_gen.summary import IngestSummary
from components.pusher.component import pushed_version
from components.run_report.render import render_markdown
from components.run_report.report import REPORT_JSON, REPORT_MARKDOWN, Report

CONFIG_KEY: Final = "config_json"
CATALOGUE_KEY: Final = "catalogue"
TRANSFORM_GRAPH_KEY: Final = "transform_graph"
BASELINES_KEY: Final = "baselines"
EVALUATION_KEY: Final = "evaluation"
BLESSING_KEY: Final = "blessing"
PUSHED_MODEL_KEY: Final = "pushed_model"
REPORT_KEY: Final = "report"


class Executor(base_executor.BaseExecutor):
    """Gathers the numbers of the run and writes them as JSON and Markdown."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Sets the configuration, the verdict and the version as properties of the output artifact, too."""
        uris = {key: artifact_utils.get_single_uri(artifacts) for key, artifacts in input_dict.items()}
        summary = IngestSummary.read(uris[CATALOGUE_KEY])
        graph = tft.TFTransformOutput(uris[TRANSFORM_GRAPH_KEY])
        baselines = io_utils.read_string_file(os.path.join(uris[BASELINES_KEY], BASELINES_FILE))
        pushed_model = artifact_utils.get_single_instance(input_dict[PUSHED_MODEL_KEY])
        version = pushed_version(pushed_model)
        report = Report(
            config=json.loads(exec_properties[CONFIG_KEY]),
            rows_read=summary.rows_read,
            rows_kept=summary.rows_kept,
            quarantined=summary.quarantined,
            users=summary.users,
            impressions=summary.impressions,
            dropped=summary.dropped,
            items_with_several_categories=summary.items_with_several_categories,
            vocabulary={
                "items": graph.vocabulary_size_by_name(ITEM_VOCABULARY),
                "categories": graph.vocabulary_size_by_name(CATEGORY_VOCABULARY),
            },
            baselines=BaselineResults.model_validate_json(baselines),
            verdict=read_verdict(uris[EVALUATION_KEY], uris[BLESSING_KEY]),
            pushed_version=version,
            pushed_to=None if version is None else pushed_model.get_string_custom_property("pushed_destination"),
        )
        artifact = artifact_utils.get_single_instance(output_dict[REPORT_KEY])
        io_utils.write_string_file(os.path.join(artifact.uri, REPORT_JSON), report.model_dump_json(indent=2))
        io_utils.write_string_file(os.path.join(artifact.uri, REPORT_MARKDOWN), render_markdown(report))
        artifact.set_string_custom_property(CONFIG_KEY, exec_properties[CONFIG_KEY])
        artifact.set_int_custom_property("blessed", int(report.blessed))
        if version is not None:
            artifact.set_string_custom_property("pushed_version", str(version))
