"""The ExampleGen of behaviour logs."""

from __future__ import annotations

import os

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter

from components.impression_gen import driver, executor
from components.impression_gen.sources import find_logs
from components.impression_gen.spans import find_span, has_span
from components.settings import IngestConfig
from models.impression import SPLITS


class Catalogue(artifact.Artifact):
    """Items and categories of the train split, and the summary of the ingest; see ``catalogue.py``, ``summary.py``."""

    TYPE_NAME = "components.ImpressionCatalogue"


class Quarantine(artifact.Artifact):
    """Rows of the log that could not be used; see ``quarantine.py``."""

    TYPE_NAME = "components.ImpressionQuarantine"


class ImpressionGenSpec(types.ComponentSpec):
    """TFX's file-based ExampleGen plus ``catalogue`` and ``quarantine``."""

    PARAMETERS = specs.FileBasedExampleGenSpec.PARAMETERS
    INPUTS = specs.FileBasedExampleGenSpec.INPUTS
    OUTPUTS = {
        **specs.FileBasedExampleGenSpec.OUTPUTS,
        executor.CATALOGUE_KEY: ChannelParameter(type=Catalogue),
        executor.QUARANTINE_KEY: ChannelParameter(type=Quarantine),
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
      ValueError: if ``data`` names no log, or has no place for a span that is given or that the window counts from.
    """

    SPEC_CLASS = ImpressionGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(self, data: str, ingest: IngestConfig, span: int | None = None, must_exist: bool = True) -> None:
        if span is not None and not has_span(data):
            raise ValueError(f"span: {data} has no {{SPAN}} and no {{YYYY}}, {{MM}} and {{DD}} to choose by")
        if must_exist:
            find_logs(find_span(data, span).path if has_span(data) else data)
        base, name = os.path.split(data)
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
                custom_config=executor.pack_config(ingest.of_path(data)),
                examples=types.Channel(type=standard_artifacts.Examples),
                catalogue=types.Channel(type=Catalogue),
                quarantine=types.Channel(type=Quarantine),
            )
        )


def _one_span(span: int) -> range_config_pb2.RangeConfig:
    return range_config_pb2.RangeConfig(
        static_range=range_config_pb2.StaticRange(start_span_number=span, end_span_number=span)
    )
