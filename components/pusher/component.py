"""The Pusher node: TFX's component with an atomic executor."""

from __future__ import annotations

from tfx import types
from tfx.components import Pusher as TfxPusher
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2

from components.pusher.executor import Executor


class Pusher(TfxPusher):
    """Publishes a blessed model as ``base_directory/<version>/``, atomically.

    Args:
      model: the Trainer's model.
      model_blessing: the Evaluator's blessing; without one there is no push.
      base_directory: the folder that the server watches.

    Outputs:
      pushed_model: a ``PushedModel`` artifact, see :func:`pushed_version`.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, model: types.BaseChannel, model_blessing: types.BaseChannel, base_directory: str) -> None:
        filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=base_directory)
        super().__init__(
            model=model,
            model_blessing=model_blessing,
            push_destination=pusher_pb2.PushDestination(filesystem=filesystem),
        )


def pushed_version(pushed_model: types.Artifact) -> int | None:
    """The version that a ``PushedModel`` artifact stands for, None if nothing was pushed."""
    if pushed_model.get_int_custom_property("pushed") != 1:
        return None
    return int(pushed_model.get_string_custom_property("pushed_version"))
