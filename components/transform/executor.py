"""Executor of the Transform step."""

from __future__ import annotations

import os
from typing import Any, Final

from tfx import types
from tfx.components.transform import executor as tfx_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils

from components.config import TransformConfig
from components.impression_gen.catalogue import Catalogue
from components.transform.preprocessing import VOCABULARY_FILES
from components.transform.vocabulary import vocabularies

CATALOGUE_KEY: Final = "catalogue"
TRANSFORM_CONFIG_KEY: Final = "transform_config"


class Executor(tfx_executor.Executor):
    """Writes the vocabulary files for the preprocessing function, then runs TFX's Transform."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the step; see ``components/transform/component.py``.

        Raises:
          ValueError: if a vocabulary would be empty.
        """
        catalogue = Catalogue.read(artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY]))
        config = TransformConfig.model_validate_json(exec_properties[TRANSFORM_CONFIG_KEY])
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
        super().Do(input_dict, output_dict, exec_properties)
        fileio.rmtree(folder)
