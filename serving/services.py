"""The answers of ``PredictionService`` and ``ModelService``, whatever brought the request."""

from __future__ import annotations

from typing import Any, Final

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from ctr.serving.model import RequestError, ServedModel, invalid
from ctr.serving.versions import VersionWatcher

SIGNATURE_DEF_FIELD: Final = "signature_def"


class Services:
    """What the methods of TF Serving's services answer; each raises :class:`RequestError` where it refuses."""

    def __init__(self, model_name: str, watcher: VersionWatcher) -> None:
        self._model_name = model_name
        self._watcher = watcher

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """The outputs of a signature."""
        return self._model(request).predict(request)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        model = self._model(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self._model_name
        response.model_spec.version.value = model.version
        response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """What became of each version of a model."""
        spec = _model_spec(request)
        statuses = self._watcher.statuses() if spec.name == self._model_name else []
        missing = f"any versions of model {spec.name}"
        if spec.HasField("version"):
            statuses = [status for status in statuses if status.version == spec.version.value]
            missing = f"version {spec.version.value} of model {spec.name}"
        if not statuses:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find {missing}")
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)

    def _model(
        self, request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest
    ) -> ServedModel:
        """The version a request asks for; :class:`RequestError` if it is not served."""
        spec = _model_spec(request)
        if spec.HasField("version_label"):
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        # Read once: the watcher may switch versions at any time.
        live = self._watcher.live
        wanted = spec.version.value if spec.HasField("version") else None
        if live is None or spec.name != self._model_name or wanted not in (None, live.version):
            asked = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return live


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
