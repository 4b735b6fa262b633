"""What the Transform step runs."""

from __future__ import annotations

import functools
import os

import apache_beam as beam
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx_bsl.public.tfxio import TFExampleBeamRecord

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.blocks import FILE_FORMAT, PAYLOAD_FORMAT
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import unfinished_folder
from ctr.components.examples.vocabulary import vocabularies
from ctr.components.settings import SETTINGS_KEY
from ctr.components.transform.analysis import Learnt, analyse, counted, learn, read_counts
from ctr.components.transform.component import CATALOGUE_KEY, ImpressionTransformSettings
from ctr.components.transform.materialize import TransformShard
from ctr.components.transform.preprocessing import preprocessing_fn
from ctr.models.impression import TRAIN_SPLIT


class Executor(base_beam_executor.BaseBeamExecutor):
    """Makes TensorFlow Transform's graph of the vocabularies, and applies it.

    TFX's executor would read the train split, from which nothing is learnt here but what declared features need
    (``analysis.py``), and decode and encode every feature of every impression, see ``materialize.py``.
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step; see :class:`ctr.components.transform.component.ImpressionTransform`.

        Raises:
          ValueError: if a vocabulary would be empty.
        """
        keep_beam_here()
        catalogue = Catalogue.read(artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY]))
        config = ImpressionTransformSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        schema_uri = artifact_utils.get_single_uri(input_dict[keys.SCHEMA])
        graph_uri = artifact_utils.get_single_uri(output_dict[keys.TRANSFORM_GRAPH])
        # Beside the graph; the graph takes a copy as its asset.
        folder = os.path.join(graph_uri, ".vocabularies")
        fileio.makedirs(folder)
        learnt = self._learn(artifact_utils.get_single_instance(input_dict[keys.EXAMPLES]), folder)
        paths = {}
        for name, ids in {**vocabularies(catalogue, config), **learnt.vocabularies}.items():
            paths[name] = os.path.join(folder, f"{name}.txt")
            with fileio.open(paths[name], "w") as file:
                file.write("\n".join(map(str, ids.tolist())) + "\n")
        self._write_graph(schema_uri, paths, learnt, graph_uri)
        fileio.rmtree(folder)
        self._materialize(
            artifact_utils.get_single_instance(input_dict[keys.EXAMPLES]),
            artifact_utils.get_single_instance(output_dict[keys.TRANSFORMED_EXAMPLES]),
            graph_uri,
        )

    def _learn(self, raw: types.Artifact, folder: str) -> Learnt:
        if not counted():
            return Learnt({}, {})
        split = artifact_utils.get_split_uri([raw], TRAIN_SPLIT)
        file = os.path.join(folder, "counts")
        with self._make_beam_pipeline() as pipeline:
            analyse(pipeline, [os.path.join(split, name) for name in fileio.listdir(split)], file)
        return learn(read_counts(file))

    def _write_graph(self, schema_uri: str, vocabulary_files: dict[str, str], learnt: Learnt, graph_uri: str) -> None:
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri))
        impressions = TFExampleBeamRecord(
            physical_format="none", telemetry_descriptors=["Transform"], schema=schema, raw_record_column_name=None
        )
        function = functools.partial(preprocessing_fn, vocabulary_files=vocabulary_files, quantiles=learnt.quantiles)
        with self._make_beam_pipeline() as pipeline, tft_beam.Context(temp_dir=os.path.join(graph_uri, ".temp")):
            nothing = pipeline | beam.Create([], reshuffle=False).with_output_types(bytes) | impressions.BeamSource()
            graph = (nothing, impressions.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(function)
            _ = graph | tft_beam.WriteTransformFn(graph_uri)
            _ = DatasetMetadata(schema) | tft_beam.WriteMetadata(os.path.join(graph_uri, "metadata"), pipeline)
        fileio.rmtree(os.path.join(graph_uri, ".temp"))

    def _materialize(self, raw: types.Artifact, transformed: types.Artifact, graph_uri: str) -> None:
        transformed.split_names = raw.split_names
        transformed.set_string_custom_property("payload_format", PAYLOAD_FORMAT)
        transformed.set_string_custom_property("file_format", FILE_FORMAT)
        temporary = unfinished_folder(transformed.uri)
        shards = []
        for split in artifact_utils.decode_split_names(raw.split_names):
            source, target = (artifact_utils.get_split_uri([each], split) for each in (raw, transformed))
            shards += [
                (os.path.join(source, name), os.path.join(target, name.removesuffix(".gz")))
                for name in fileio.listdir(source)
            ]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(sorted(shards))
                | "TransformShard" >> beam.ParDo(TransformShard(graph_uri, temporary))
            )
        fileio.rmtree(temporary)
