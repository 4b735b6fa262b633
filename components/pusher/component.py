"""The step that publishes; TFX's own lets a server see half a version."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelBlessing, PushedModel
from tfx.utils import io_utils, path_utils


@component
def Pusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    pushed_model: OutputArtifact[PushedModel],
    base_directory: Parameter[str],
) -> None:
    """Publishes a blessed model as ``base_directory/<version>/``, atomically; an unblessed one nowhere.

    Args:
      model: the Trainer's model.
      model_blessing: the Evaluator's blessing.
      pushed_model: a copy, with the same properties as of TFX's Pusher; see
        :func:`ctr.components.artifacts.pushed_version`.
      base_directory: the folder that the server watches.
    """
    from ctr.components.pusher.publish import publish

    blessed = model_blessing.get_int_custom_property("blessed") == 1
    pushed_model.set_int_custom_property("pushed", int(blessed))
    if not blessed:
        return
    model_dir = path_utils.serving_model_path(model.uri)
    # The archive first: once the version is visible, nothing may fail any more.
    io_utils.copy_dir(model_dir, pushed_model.uri)
    version = publish(model_dir, base_directory)
    pushed_model.set_string_custom_property("pushed_destination", f"{base_directory.rstrip('/')}/{version}")
    pushed_model.set_string_custom_property("pushed_version", str(version))
