"""The step that publishes; TFX's own lets a server see half a version."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import HyperParameters, Model, ModelBlessing, ModelEvaluation, PushedModel
from tfx.utils import io_utils, path_utils

from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.tuning import best_values


@component
def Pusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    evaluation: InputArtifact[ModelEvaluation],
    catalogue: InputArtifact[ImpressionCatalogue],
    pushed_model: OutputArtifact[PushedModel],
    base_directory: Parameter[str],
    settings: Parameter[str],
    hyperparameters: InputArtifact[HyperParameters] = None,
) -> None:
    """Publishes a blessed model as ``base_directory/<version>/``, atomically; an unblessed one nowhere.

    Its card, for people, and its blessing, for programs, lie beside it.

    Args:
      model: the Trainer's model.
      model_blessing: the Evaluator's blessing.
      evaluation: of the Evaluator, for the card.
      catalogue: of ImpressionGen, likewise.
      pushed_model: a copy, with the same properties as of TFX's Pusher; see
        :func:`ctr.components.artifacts.pushed_version`.
      base_directory: the folder that the server watches.
      settings: JSON of :class:`ctr.components.pusher.settings.CardSettings`.
      hyperparameters: of a search, which the model was trained with, for the card.
    """
    from ctr.components.blessing import BLESSING_FILE
    from ctr.components.examples.log_content import LogContent
    from ctr.components.examples.summary import IngestSummary
    from ctr.components.provenance import gather
    from ctr.components.pusher.model_card import MODEL_CARD, CardFacts, render_card
    from ctr.components.pusher.publish import blessing_of, publish
    from ctr.components.pusher.settings import CardSettings
    from ctr.components.scoring.reading import read_evaluation

    blessed = model_blessing.get_int_custom_property("blessed") == 1
    pushed_model.set_int_custom_property("pushed", int(blessed))
    if not blessed:
        return
    model_dir = path_utils.serving_model_path(model.uri)
    # The archive first: once the version is visible, nothing may fail any more.
    io_utils.copy_dir(model_dir, pushed_model.uri)
    sources = {"model": model, "blessing": model_blessing, "evaluation": evaluation, "catalogue": catalogue}
    given = CardSettings.model_validate_json(settings)
    training = given.training
    if hyperparameters is not None:
        training |= best_values(hyperparameters.uri)
    facts = CardFacts(
        served_model_name=os.path.basename(base_directory.rstrip("/")),
        training=training,
        zone=given.zone,
        summary=IngestSummary.read(catalogue.uri),
        content=LogContent.read(catalogue.uri),
        evaluation=read_evaluation(evaluation.uri),
        artifacts={name: artifact.id for name, artifact in sources.items()},
        execution=os.path.basename(pushed_model.uri.rstrip("/")),
        provenance=gather(),
    )
    proof = blessing_of(facts, model_dir)
    io_utils.write_string_file(os.path.join(pushed_model.uri, BLESSING_FILE), proof.model_dump_json(indent=2) + "\n")
    io_utils.write_string_file(os.path.join(pushed_model.uri, MODEL_CARD), render_card(facts))
    version = publish(pushed_model.uri, base_directory)
    pushed_model.set_string_custom_property("pushed_destination", f"{base_directory.rstrip('/')}/{version}")
    pushed_model.set_string_custom_property("pushed_version", str(version))
