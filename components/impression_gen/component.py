"""The ExampleGen of behaviour logs: which files are read, the ingest of them, and the step of both."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Iterable
from typing import Final

from tfx import types
from tfx.components.example_gen import driver as tfx_driver
from tfx.components.example_gen import input_processor
from tfx.components.example_gen.utils import SPAN_PROPERTY_NAME
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.utils import proto_utils

from ctr.components.artifacts import Artifacts, ImpressionCatalogue, ImpressionQuarantine, Properties
from ctr.components.examples.shards import unfinished_folder
from ctr.components.examples.summary import IngestSummary
from ctr.components.examples.window import write_window
from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT
from ctr.components.files import stat
from ctr.components.impression_gen.build import run_ingest
from ctr.components.impression_gen.progress import reported
from ctr.components.impression_gen.sources import find_logs, list_sources
from ctr.components.impression_gen.spans import find_span, has_span
from ctr.components.impression_gen.spool import Spool
from ctr.components.progress import say
from ctr.components.settings import SETTINGS_KEY, IngestConfig
from ctr.models.errors import ConfigError
from ctr.models.impression import SPLITS, feature_modules
from ctr.models.registration import Plugin

_logger = logging.getLogger(__name__)

_CATALOGUE_KEY: Final = "catalogue"
_QUARANTINE_KEY: Final = "quarantine"


class _Settings(IngestConfig):
    plugins: tuple[Plugin, ...] = ()
    """Modules that register features."""


class Driver(tfx_driver.Driver):
    """TFX's driver of file-based ExampleGens, for which a path is a name; TFX's own makes a pattern of it."""

    def get_input_processor(
        self,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> input_processor.InputProcessor:
        """What answers for the one split that the component has."""
        return _LogProcessor(input_base_uri or "", splits, range_config)


class _LogProcessor(input_processor.InputProcessor):
    """Finds the files of a log.

    Args:
      base: folder of the log.
      splits: one, whose ``pattern`` is the name below it, with or without a place for a span.
      range_config: one span; None takes the latest.
    """

    def __init__(
        self,
        base: str,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
    ) -> None:
        super().__init__(splits, range_config)
        (split,) = splits
        self._base = base
        self._path = os.path.join(base, split.pattern)
        self._span = range_config.static_range.start_span_number if range_config else None

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        """The span, 0 where the name has no place for one, and its version."""
        if not has_span(self._path):
            return 0, None
        found = find_span(self._path, self._span)
        self._path = found.path
        return found.number, found.version

    def get_pattern_for_span_version(self, pattern: str, span: int, version: int | None) -> str:
        """The name below the base, of the span that was resolved."""
        return self._path[len(os.path.join(self._base, "")) :] if self._base else self._path

    def get_latest_span(self) -> int:
        """The latest span."""
        return find_span(self._path, None).number

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Changes with a file's name, size or time."""
        files = find_logs(self._path).files
        stats = [(os.path.relpath(file, self._path), *stat(file)) for file in files]
        digest = hashlib.sha256(repr(stats).encode()).hexdigest()
        return f"num_files:{len(files)},total_bytes:{sum(size for _, size, _ in stats)},sha256:{digest}"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Turns the files that the driver found into impressions."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the ingest.

        Raises:
          DataError: if there is no log to read, or it holds nothing to learn from.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        input_config = example_gen_pb2.Input()
        proto_utils.json_to_proto(exec_properties[specs.INPUT_CONFIG_KEY], input_config)
        found = find_logs(os.path.join(exec_properties[specs.INPUT_BASE_KEY], input_config.splits[0].pattern))
        if found.ignored:
            _logger.info("ImpressionGen: not read, as their names are no log's: %s", ", ".join(found.ignored))
        ingest = _Settings.model_validate_json(exec_properties[SETTINGS_KEY]).of_span(
            exec_properties[SPAN_PROPERTY_NAME]
        )
        examples = artifact_utils.get_single_instance(output_dict[specs.EXAMPLES_KEY])
        catalogue_uri = artifact_utils.get_single_uri(output_dict[_CATALOGUE_KEY])
        quarantine_uri = artifact_utils.get_single_uri(output_dict[_QUARANTINE_KEY])

        spool = Spool(unfinished_folder(examples.uri))
        log_bytes = sum({source.path: source.size for source in list_sources(found.files)}.values())
        report = functools.partial(say, "ImpressionGen")
        started = time.monotonic()
        try:
            with reported(spool, log_bytes, ingest.user_partitions, report), self._make_beam_pipeline() as pipeline:
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
        _logger.info(
            "ImpressionGen: %d rows of %d files in %.1f s, %d kept, %d impressions",
            summary.rows_read,
            len(found.files),
            seconds,
            summary.rows_kept,
            sum(summary.impressions.values()),
        )


class ImpressionGenSpec(types.ComponentSpec):
    """TFX's file-based ExampleGen plus ``catalogue`` and ``quarantine``."""

    PARAMETERS = {**specs.FileBasedExampleGenSpec.PARAMETERS, SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = specs.FileBasedExampleGenSpec.INPUTS
    OUTPUTS = {
        **specs.FileBasedExampleGenSpec.OUTPUTS,
        _CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
        _QUARANTINE_KEY: ChannelParameter(type=ImpressionQuarantine),
    }


class ImpressionGen(base_beam_component.BaseBeamComponent):
    """Turns a behaviour log into impressions.

    Args:
      data: a log (.csv, .csv.gz, .csv.zip) or a folder of them; a name, never a pattern. It may hold ``{SPAN}`` and
        ``{VERSION}``, or ``{YYYY}``, ``{MM}``, ``{DD}``, from which the driver takes ``span``.
      span: number of a span, or days since 1970 where the path has a date; None takes the latest.
      must_exist: look for the log now. Where a pipeline is only described (compiled, or run by another node), the
        log may be out of reach.
      ingest: how; it is part of what the cache compares, as are the span and the names, sizes and times of the files.

    Outputs: ``examples`` (splits train, validation, eval; they tell their window), ``catalogue``, ``quarantine``.

    Raises:
      ConfigError: if ``data`` names no log, or has no place for a span that is given or that the window counts from.
    """

    SPEC_CLASS = ImpressionGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, data: str, ingest: IngestConfig, span: int | None = None, must_exist: bool = True) -> None:
        if span is not None and not has_span(data):
            raise ConfigError(f"span: {data} has no {{SPAN}} and no {{YYYY}}, {{MM}} and {{DD}} to choose by")
        if must_exist:
            find_logs(find_span(data, span).path if has_span(data) else data)
        base, name = os.path.split(data)
        settings = _Settings(**dict(ingest.of_path(data)), plugins=tuple(feature_modules()))
        super().__init__(
            spec=ImpressionGenSpec(
                input_base=base,
                input_config=example_gen_pb2.Input(
                    splits=[example_gen_pb2.Input.Split(name="log", pattern=name)],
                ),
                output_config=example_gen_pb2.Output(
                    split_config=example_gen_pb2.SplitConfig(
                        # Only the names hold: the executor splits by time.
                        splits=[example_gen_pb2.SplitConfig.Split(name=split, hash_buckets=1) for split in SPLITS],
                    )
                ),
                output_data_format=example_gen_pb2.FORMAT_TF_EXAMPLE,
                output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
                range_config=None if span is None else _one_span(span),
                settings=settings.model_dump_json(),
                examples=types.Channel(type=standard_artifacts.Examples),
                catalogue=types.Channel(type=ImpressionCatalogue),
                quarantine=types.Channel(type=ImpressionQuarantine),
            )
        )


def _one_span(span: int) -> range_config_pb2.RangeConfig:
    return range_config_pb2.RangeConfig(
        static_range=range_config_pb2.StaticRange(start_span_number=span, end_span_number=span)
    )
