"""The executor of ImpressionGen: runs the ingest and describes the artifacts."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from absl import logging
from google.protobuf import wrappers_pb2
from tfx import types
from tfx.components.example_gen.utils import SPAN_PROPERTY_NAME
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import proto_utils

from components.examples.window import write_window
from components.impression_gen.build import run_ingest
from components.impression_gen.progress import reported
from components.impression_gen.sources import find_logs, list_sources
from components.impression_gen.spool import Spool, spool_folder
from components.impression_gen.summary import IngestSummary
from components.impression_gen.writer import EXAMPLES_FILE_FORMAT
from components.progress import say
from components.settings import IngestConfig
from models.impression import SPLITS

CATALOGUE_KEY: Final = "catalogue"
QUARANTINE_KEY: Final = "quarantine"


def pack_config(ingest: IngestConfig) -> example_gen_pb2.CustomConfig:
    """The settings as the component's ``custom_config``."""
    config = example_gen_pb2.CustomConfig()
    config.custom_config.Pack(wrappers_pb2.StringValue(value=ingest.model_dump_json()))
    return config


def unpack_config(custom_config: str) -> IngestConfig:
    """Inverse of :func:`pack_config`, from the proto's JSON."""
    config = example_gen_pb2.CustomConfig()
    proto_utils.json_to_proto(custom_config, config)
    value = wrappers_pb2.StringValue()
    config.custom_config.Unpack(value)
    return IngestConfig.model_validate_json(value.value)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Turns the files that the driver found into impressions."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the ingest.

        Raises:
          ValueError: if there is no log to read, or it holds nothing to learn from.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        input_config = example_gen_pb2.Input()
        proto_utils.json_to_proto(exec_properties[specs.INPUT_CONFIG_KEY], input_config)
        found = find_logs(os.path.join(exec_properties[specs.INPUT_BASE_KEY], input_config.splits[0].pattern))
        if found.ignored:
            logging.info("ImpressionGen: not read, as their names are no log's: %s", ", ".join(found.ignored))
        ingest = unpack_config(exec_properties[specs.CUSTOM_CONFIG_KEY]).of_span(exec_properties[SPAN_PROPERTY_NAME])
        examples = artifact_utils.get_single_instance(output_dict[specs.EXAMPLES_KEY])
        catalogue_uri = artifact_utils.get_single_uri(output_dict[CATALOGUE_KEY])
        quarantine_uri = artifact_utils.get_single_uri(output_dict[QUARANTINE_KEY])

        spool = Spool(spool_folder(examples.uri))
        log_bytes = sum({source.path: source.size for source in list_sources(found.files)}.values())
        started = time.monotonic()
        try:
            with reported(spool, log_bytes, ingest.user_partitions, _report), self._make_beam_pipeline() as pipeline:
                run_ingest(pipeline, found.files, ingest, examples.uri, catalogue_uri, quarantine_uri)
        except BaseException:
            # It may be larger than the log, and a failed run keeps its folders.
            spool.remove()
            raise
        seconds = time.monotonic() - started

        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        write_window(examples, ingest.window)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, EXAMPLES_FILE_FORMAT)
        summary = IngestSummary.read(catalogue_uri)
        logging.info(
            "ImpressionGen: %d rows of %d files in %.1f s, %d kept, %d impressions",
            summary.rows_read,
            len(found.files),
            seconds,
            summary.rows_kept,
            sum(summary.impressions.values()),
        )


def _report(line: str) -> None:
    say("ImpressionGen", line)
