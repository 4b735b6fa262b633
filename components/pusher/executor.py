"""TFX executor of the atomic push."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from components.pusher.publish import publish


class Executor(executor.Executor):
    """Pushes a blessed model with :func:`components.pusher.publish.publish`; an unblessed one nowhere."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Sets ``pushed`` to 1 or 0 on the output artifact, and where pushed its destination and version."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        base_directory = destination.filesystem.base_directory
        model_dir = self.GetModelPath(input_dict)
        # The archive first: once the version is visible, nothing may fail any more.
        io_utils.copy_dir(model_dir, pushed_model.uri)
        version = publish(model_dir, base_directory)
        self._MarkPushed(
            pushed_model, pushed_destination=f"{base_directory.rstrip('/')}/{version}", pushed_version=str(version)
        )
