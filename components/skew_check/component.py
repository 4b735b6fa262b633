"""The step that asks a model as training, its signatures and a server do, before it is published."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, HyperParameters, Model, TransformGraph
from tfx.utils import io_utils, path_utils

from ctr.components.artifacts import SkewReport
from ctr.components.examples.shards import list_shards
from ctr.components.skew import SKEW_FILE
from ctr.components.tuning import best_values, with_values
from ctr.models.impression import EVAL_SPLIT, TRAIN_SPLIT


@component
def SkewCheck(
    examples: InputArtifact[Examples],
    transformed_examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    report: OutputArtifact[SkewReport],
    settings: Parameter[str],
    hyperparameters: InputArtifact[HyperParameters] = None,
) -> None:
    """Fails, and so keeps the model from being pushed, if it does not answer alike in every way.

    What publishes waits for it: ``pusher.add_upstream_node(check)``.

    Args:
      examples: raw impressions; some of the eval split are asked with, some of the train split compared with requests
        that were served.
      transformed_examples: the same ones after Transform.
      transform_graph: of the Transform step.
      model: of the Trainer.
      report: gets ``skew.json``.
      settings: JSON of :class:`ctr.components.skew_check.settings.SkewCheckSettings`.
      hyperparameters: of a search, which the model was trained with.

    Raises:
      ServedSkewError: names each feature of the requests that is too far from the train split's.
      SkewError: names an impression and a candidate for which two ways differ.
    """
    from ctr.components.skew_check.check import check
    from ctr.components.skew_check.served import compare_with_log
    from ctr.components.skew_check.settings import SkewCheckSettings

    wanted = SkewCheckSettings.model_validate_json(settings)
    if hyperparameters is not None:
        tuned = with_values(wanted.model, "model", best_values(hyperparameters.uri))
        wanted = wanted.model_copy(update={"model": tuned})
    train = list_shards(artifact_utils.get_split_uri([examples], TRAIN_SPLIT)) if wanted.served.request_log else []
    served = compare_with_log(wanted, train, transform_graph.uri) if train else None
    found = check(
        wanted,
        raw_files=list_shards(artifact_utils.get_split_uri([examples], EVAL_SPLIT)),
        transformed_files=list_shards(artifact_utils.get_split_uri([transformed_examples], EVAL_SPLIT)),
        transform_uri=transform_graph.uri,
        model_folder=path_utils.serving_model_path(model.uri),
    )
    found = found.model_copy(update={"served": served})
    io_utils.write_string_file(os.path.join(report.uri, SKEW_FILE), found.model_dump_json(indent=2) + "\n")
