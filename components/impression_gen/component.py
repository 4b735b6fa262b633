"""The ExampleGen of behaviour logs: the step of what ``driver.py`` finds and ``executor.py`` reads."""

from __future__ import annotations

import os
from typing import Final

from pydantic import model_validator
from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import ImpressionCatalogue, ImpressionQuarantine
from ctr.components.executors import BeamExecutor
from ctr.components.impression_gen.driver import Driver
from ctr.components.impression_gen.sources import find_logs
from ctr.components.impression_gen.spans import find_span, has_span
from ctr.components.settings import SETTINGS_KEY, IngestConfig
from ctr.models.errors import ConfigError
from ctr.models.impression import SPLITS, declare_features, feature_modules
from ctr.models.registration import Plugin

CATALOGUE_KEY: Final = "catalogue"
QUARANTINE_KEY: Final = "quarantine"


class ImpressionGenSettings(IngestConfig):
    """How impressions are made."""

    plugins: tuple[Plugin, ...] = ()
    """Modules that register features."""

    @model_validator(mode="after")
    def _declare(self) -> ImpressionGenSettings:
        declare_features(self.dataset.rows)
        return self


class ImpressionGenSpec(types.ComponentSpec):
    """What is used of TFX's file-based ExampleGen, plus ``catalogue``, ``quarantine`` and the settings."""

    PARAMETERS = {
        keys.INPUT_BASE: ExecutionParameter(type=str),
        keys.INPUT_CONFIG: ExecutionParameter(type=example_gen_pb2.Input),
        keys.OUTPUT_CONFIG: ExecutionParameter(type=example_gen_pb2.Output),
        keys.OUTPUT_DATA_FORMAT: ExecutionParameter(type=int),
        keys.OUTPUT_FILE_FORMAT: ExecutionParameter(type=int),
        keys.RANGE_CONFIG: ExecutionParameter(type=range_config_pb2.RangeConfig, optional=True),
        SETTINGS_KEY: ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
        QUARANTINE_KEY: ChannelParameter(type=ImpressionQuarantine),
    }


class ImpressionGen(base_beam_component.BaseBeamComponent):
    """Turns a behaviour log into impressions.

    Args:
      data: a log of ``ingest.dataset`` or a folder of them; a name, never a pattern. It may hold ``{SPAN}`` and
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
    EXECUTOR_SPEC = BeamExecutor("ctr.components.impression_gen.executor.Executor")
    DRIVER_CLASS = Driver

    def __init__(self, data: str, ingest: IngestConfig, span: int | None = None, must_exist: bool = True) -> None:
        if span is not None and not has_span(data):
            raise ConfigError(f"span: {data} has no {{SPAN}} and no {{YYYY}}, {{MM}} and {{DD}} to choose by")
        if must_exist:
            dataset = ingest.dataset
            find_logs(find_span(data, span, dataset).path if has_span(data) else data, dataset)
        base, name = os.path.split(data)
        settings = ImpressionGenSettings(**dict(ingest.of_path(data)), plugins=tuple(feature_modules()))
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
