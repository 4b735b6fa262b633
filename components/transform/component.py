"""The Transform step: TFX's own, with the catalogue as a further input."""

from __future__ import annotations

import os
from typing import Final

import apache_beam as beam
from tfx import types
from tfx.components.transform import executor as tfx_executor
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2, transform_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.standard_component_specs import EXAMPLES_KEY, TRANSFORMED_EXAMPLES_KEY
from tfx.utils import json_utils

from ctr.components.artifacts import Artifacts, ImpressionCatalogue, Properties
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import unfinished_folder
from ctr.components.examples.vocabulary import vocabularies
from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT, new_shard
from ctr.components.settings import SETTINGS_KEY, TransformConfig
from ctr.components.transform.materialize import TransformShard
from ctr.components.transform.preprocessing import VOCABULARY_FILES
from ctr.models.impression import SPLITS, TRAIN_SPLIT

_CATALOGUE_KEY: Final = "catalogue"


class Executor(tfx_executor.Executor):
    """Writes the vocabularies that the preprocessing function needs, lets TFX make the graph, and applies it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step; see :class:`ImpressionTransform`.

        Raises:
          ValueError: if a vocabulary would be empty.
        """
        catalogue = Catalogue.read(artifact_utils.get_single_uri(input_dict[_CATALOGUE_KEY]))
        config = TransformConfig.model_validate_json(exec_properties[SETTINGS_KEY])
        graph_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.TRANSFORM_GRAPH_KEY])
        # Beside the graph, where every worker can read it; the graph takes a copy as its asset.
        folder = os.path.join(graph_uri, ".vocabularies")
        fileio.makedirs(folder)
        paths = {}
        for name, ids in vocabularies(catalogue, config).items():
            paths[name] = os.path.join(folder, f"{name}.txt")
            with fileio.open(paths[name], "w") as file:
                file.write("\n".join(map(str, ids.tolist())) + "\n")
        exec_properties = {
            **exec_properties,
            standard_component_specs.CUSTOM_CONFIG_KEY: json_utils.dumps({VOCABULARY_FILES: paths}),
        }
        # Of TFX's step the graph alone: it would decode and encode every feature, see materialize.py.
        rest = {key: artifacts for key, artifacts in output_dict.items() if key != TRANSFORMED_EXAMPLES_KEY}
        super().Do({**input_dict, EXAMPLES_KEY: [_no_examples(folder)]}, rest, exec_properties)
        fileio.rmtree(folder)
        self._materialize(
            artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY]),
            artifact_utils.get_single_instance(output_dict[TRANSFORMED_EXAMPLES_KEY]),
            graph_uri,
        )

    def _materialize(self, raw: types.Artifact, transformed: types.Artifact, graph_uri: str) -> None:
        splits = artifact_utils.decode_split_names(raw.split_names)
        transformed.split_names = raw.split_names
        examples_utils.set_payload_format(transformed, examples_utils.get_payload_format(raw))
        examples_utils.set_file_format(transformed, examples_utils.get_file_format(raw))
        temporary = unfinished_folder(transformed.uri)
        shards = []
        for split in splits:
            source, target = (artifact_utils.get_split_uri([each], split) for each in (raw, transformed))
            shards += [(os.path.join(source, name), os.path.join(target, name)) for name in fileio.listdir(source)]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(sorted(shards))
                | "TransformShard" >> beam.ParDo(TransformShard(graph_uri, temporary))
            )
        fileio.rmtree(temporary)


def _no_examples(folder: str) -> types.Artifact:
    """Nothing is learnt from examples, and TFX would read all of the train split: it gets one without any."""
    empty = standard_artifacts.Examples()
    empty.uri = os.path.join(folder, "no_examples")
    empty.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(empty, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(empty, EXAMPLES_FILE_FORMAT)
    for split in SPLITS:
        with new_shard(os.path.join(artifact_utils.get_split_uri([empty], split), "data.gz"), folder):
            pass
    return empty


class ImpressionTransformSpec(types.ComponentSpec):
    """TFX's Transform plus ``catalogue`` and the section of the configuration."""

    PARAMETERS = {
        **standard_component_specs.TransformSpec.PARAMETERS,
        SETTINGS_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard_component_specs.TransformSpec.INPUTS,
        _CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
    }
    OUTPUTS = standard_component_specs.TransformSpec.OUTPUTS


class ImpressionTransform(base_beam_component.BaseBeamComponent):
    """Maps the ids of impressions to indices.

    Args:
      examples: impressions, splits train, validation, eval.
      schema: of the raw impression.
      catalogue: of the train split, from which the vocabularies come.
      transform: thresholds of the vocabularies.

    Outputs: ``transform_graph`` and ``transformed_examples``, as of TFX's Transform.
    """

    SPEC_CLASS = ImpressionTransformSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel,
        transform: TransformConfig,
    ) -> None:
        transformed_examples = types.Channel(type=standard_artifacts.Examples)
        transformed_examples.matching_channel_name = standard_component_specs.EXAMPLES_KEY
        super().__init__(
            spec=ImpressionTransformSpec(
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                settings=transform.model_dump_json(),
                preprocessing_fn="ctr.components.transform.preprocessing.preprocessing_fn",
                splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN_SPLIT], transform=list(SPLITS)),
                force_tf_compat_v1=0,
                disable_statistics=1,
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
                transformed_examples=transformed_examples,
            )
        )
