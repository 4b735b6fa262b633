"""What the Transform step runs."""

from __future__ import annotations

import os

import apache_beam as beam
from tfx import types
from tfx.components.transform import executor as tfx_executor
from tfx.components.util import examples_utils
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import unfinished_folder
from ctr.components.examples.vocabulary import vocabularies
from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT, new_shard
from ctr.components.settings import SETTINGS_KEY, TransformConfig
from ctr.components.transform.component import CATALOGUE_KEY
from ctr.components.transform.materialize import TransformShard
from ctr.components.transform.preprocessing import VOCABULARY_FILES
from ctr.models.impression import SPLITS


class Executor(tfx_executor.Executor):
    """Writes the vocabularies that the preprocessing function needs, lets TFX make the graph, and applies it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step; see :class:`ctr.components.transform.component.ImpressionTransform`.

        Raises:
          ValueError: if a vocabulary would be empty.
        """
        keep_beam_here()
        catalogue = Catalogue.read(artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY]))
        config = TransformConfig.model_validate_json(exec_properties[SETTINGS_KEY])
        graph_uri = artifact_utils.get_single_uri(output_dict[keys.TRANSFORM_GRAPH])
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
            keys.CUSTOM_CONFIG: json_utils.dumps({VOCABULARY_FILES: paths}),
        }
        # Of TFX's step the graph alone: it would decode and encode every feature, see materialize.py.
        rest = {key: artifacts for key, artifacts in output_dict.items() if key != keys.TRANSFORMED_EXAMPLES}
        super().Do({**input_dict, keys.EXAMPLES: [_no_examples(folder)]}, rest, exec_properties)
        fileio.rmtree(folder)
        self._materialize(
            artifact_utils.get_single_instance(input_dict[keys.EXAMPLES]),
            artifact_utils.get_single_instance(output_dict[keys.TRANSFORMED_EXAMPLES]),
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
