"""What the ExampleGen of behaviour logs runs."""

from __future__ import annotations

import functools
import logging
import os
import time

from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.log_content import LogContent
from ctr.components.examples.shards import unfinished_folder
from ctr.components.examples.summary import IngestSummary
from ctr.components.examples.window import write_window
from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT
from ctr.components.impression_gen.build import run_ingest
from ctr.components.impression_gen.component import CATALOGUE_KEY, QUARANTINE_KEY, ImpressionGenSettings
from ctr.components.impression_gen.content import hashed
from ctr.components.impression_gen.driver import CONTENT_KEY, SPAN_KEY, VERSION_KEY
from ctr.components.impression_gen.progress import reported
from ctr.components.impression_gen.sources import find_logs, list_sources
from ctr.components.impression_gen.spool import Spool
from ctr.components.progress import say
from ctr.components.settings import SETTINGS_KEY
from ctr.models.impression import SPLITS

_logger = logging.getLogger(__name__)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Turns the files that the driver found into impressions."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the ingest.

        Raises:
          DataError: if there is no log to read, or it holds nothing to learn from.
        """
        keep_beam_here()
        self._log_startup(input_dict, output_dict, exec_properties)
        input_config = example_gen_pb2.Input()
        proto_utils.json_to_proto(exec_properties[keys.INPUT_CONFIG], input_config)
        path = os.path.join(exec_properties[keys.INPUT_BASE], input_config.splits[0].pattern)
        ingest = ImpressionGenSettings.model_validate_json(exec_properties[SETTINGS_KEY]).of_span(
            exec_properties[SPAN_KEY]
        )
        found = find_logs(path, ingest.dataset)
        if found.ignored:
            _logger.info("ImpressionGen: not read, as their names are no log's: %s", ", ".join(found.ignored))
        examples = artifact_utils.get_single_instance(output_dict[keys.EXAMPLES])
        catalogue_uri = artifact_utils.get_single_uri(output_dict[CATALOGUE_KEY])
        quarantine_uri = artifact_utils.get_single_uri(output_dict[QUARANTINE_KEY])

        spool = Spool(unfinished_folder(examples.uri))
        log_bytes = sum({source.path: source.size for source in list_sources(found.files, ingest.dataset)}.values())
        report = functools.partial(say, "ImpressionGen")
        started = time.monotonic()
        try:
            with hashed(path, found.files) as files:
                with reported(spool, log_bytes, ingest.user_partitions, report), self._make_beam_pipeline() as pipeline:
                    run_ingest(pipeline, found.files, ingest, examples.uri, catalogue_uri, quarantine_uri)
                content = LogContent(
                    path=path,
                    span=exec_properties[SPAN_KEY],
                    version=exec_properties.get(VERSION_KEY),
                    files=files(),
                )
        except BaseException:
            # It may be larger than the log, and a failed run keeps its folders.
            spool.remove()
            raise
        seconds = time.monotonic() - started

        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        write_window(examples, ingest.window)
        examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        examples.set_string_custom_property("file_format", EXAMPLES_FILE_FORMAT)
        content.write(catalogue_uri)
        examples.set_string_custom_property(CONTENT_KEY, content.digest)
        summary = IngestSummary.read(catalogue_uri)
        _logger.info(
            "ImpressionGen: %d rows of %d files in %.1f s, %d kept, %d impressions",
            summary.rows_read,
            len(found.files),
            seconds,
            summary.rows_kept,
            sum(summary.impressions.values()),
        )
