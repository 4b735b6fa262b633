"""The answers of ``PredictionService`` and ``ModelService``, whatever brought the request."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from ctr.serving import inference
from ctr.serving.catalogue import Catalogue
from ctr.serving.model import RequestError, invalid
from ctr.serving.models_config import ModelConfig, models_of
from ctr.serving.signatures import SIGNATURE_DEF_FIELD

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"
SERVICES: Final = (PREDICTION_SERVICE, MODEL_SERVICE)
"""Those of TF Serving, by which reflection finds their descriptors."""

for _module in ("prediction_service_pb2", "model_service_pb2"):
    # These modules are older than protobuf 6, under which they end at an attribute behind what is wanted of them: that
    # they add their file to the pool.
    with contextlib.suppress(AttributeError):
        importlib.import_module(f"tensorflow_serving.apis.{_module}")


class Services:
    """What the methods of TF Serving's services answer; each raises :class:`RequestError` where it refuses.

    Attributes:
      may_reload: whether callers may change which models are served.
      change: does it, and waits.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.may_reload = False
        self.change: Callable[[Sequence[ModelConfig]], None] = catalogue.change_and_wait

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """The outputs of a signature."""
        return self._catalogue.find(_model_spec(request)).predict(request)

    def classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        """The classes of examples."""
        return inference.classify(self._catalogue.find(_model_spec(request)), request)

    def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """The numbers of examples."""
        return inference.regress(self._catalogue.find(_model_spec(request)), request)

    def multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Both, by several signatures."""
        first = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        return inference.multi_inference(self._catalogue.find(first), request)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        spec = _model_spec(request)
        model = self._catalogue.find(spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = model.version
        response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """What became of each version of a model."""
        statuses = self._catalogue.statuses(_model_spec(request))
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves the models of another configuration from now on."""
        if not self.may_reload:
            raise RequestError(
                grpc.StatusCode.PERMISSION_DENIED,
                "this server was not started with a configuration of models, so requests cannot change its models",
            )
        try:
            models = models_of(request.config)
        except ValueError as error:
            raise invalid(str(error)) from error
        self.change(models)
        return model_management_pb2.ReloadConfigResponse()


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
