"""Executor of the baselines."""

from __future__ import annotations

import os
from typing import Any, Final

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.baselines.compute import ItemCounts, compute
from components.baselines.results import FILE_NAME
from components.examples.catalogue import Catalogue
from components.examples.shards import list_shards
from models.impression import SPLITS

EXAMPLES_KEY: Final = "transformed_examples"
CATALOGUE_KEY: Final = "catalogue"
REPORT_KEY: Final = "report"
TRAINING_IMPRESSIONS_KEY: Final = "training_impressions"
SEED_KEY: Final = "seed"


class Executor(base_executor.BaseExecutor):
    """Computes the baselines and writes them as JSON."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See :func:`components.baselines.compute.compute`."""
        examples = input_dict[EXAMPLES_KEY]
        files = {
            split: [path for uri in artifact_utils.get_split_uris(examples, split) for path in list_shards(uri)]
            for split in SPLITS
        }
        catalogue = Catalogue.read(artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY]))
        report = compute(
            files,
            ItemCounts(catalogue.item_ids, catalogue.item_counts),
            exec_properties[TRAINING_IMPRESSIONS_KEY],
            exec_properties[SEED_KEY],
        )
        path = os.path.join(artifact_utils.get_single_uri(output_dict[REPORT_KEY]), FILE_NAME)
        io_utils.write_string_file(path, report.model_dump_json(indent=2))
