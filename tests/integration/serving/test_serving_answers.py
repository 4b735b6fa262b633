"""Requests and their answers, over real gRPC on loopback, against one server that stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from ctr.models.impression import REQUEST_FEATURES
from ctr.serving.client import RankingClient, ServingError
from ctr.serving.impressions import Impression, Ranking
from ctr.serving.requests import rank_request
from ctr.serving.server import ModelServer

Make = Callable[[list[int], list[int]], Impression]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def channel(shared_server: ModelServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{shared_server.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def predictions(channel: grpc.Channel) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_candidates_come_ranked(shared_client: RankingClient, impression: Make) -> None:
    ranking = shared_client.rank(impression([3, 4, 3, 3], [9, 4, 3]))
    assert (ranking.model_name, ranking.model_version) == ("ctr", 3)
    assert [(c.position, c.item_id, c.category_id, c.logit) for c in ranking.candidates] == [
        (2, 502, 3, 3.0),
        (1, 501, 4, 1.0),
        (0, 500, 9, 0.0),
    ]
    assert [c.probability for c in ranking.candidates] == pytest.approx([sigmoid(3), sigmoid(1), 0.5])


def test_probabilities_that_round_to_one_are_ranked_by_logit(shared_client: RankingClient, impression: Make) -> None:
    ranking = shared_client.rank(impression([3] * 50 + [4] * 60, [3, 4, 5]))
    assert [c.probability for c in ranking.candidates] == [1.0, 1.0, 0.5]
    assert [c.category_id for c in ranking.candidates] == [4, 3, 5]


def test_clients_at_once_with_all_lengths_of_history(shared_client: RankingClient, impression: Make) -> None:
    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        history = rng.integers(1, 6, size=[0, 1, 50, 200][seed % 4]).tolist()
        categories = rng.integers(1, 6, size=20).tolist()
        ranking = shared_client.rank(impression(history, categories))
        expected = [float(history.count(category)) for category in categories]
        assert [c.logit for c in sorted(ranking.candidates, key=lambda c: c.position)] == expected

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(80)))


def without_probabilities(ranking: Ranking) -> dict[str, Any]:
    return ranking.model_dump(exclude={"candidates": {"__all__": {"probability"}}})


categories = st.integers(1, 4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(categories, max_size=20),
    candidates=st.lists(categories, min_size=1, max_size=10),
    longer=st.lists(categories, min_size=21, max_size=60),
    more=st.lists(categories, min_size=11, max_size=20),
)
def test_padding_changes_nothing(
    shared_client: RankingClient,
    impression: Make,
    history: list[int],
    candidates: list[int],
    longer: list[int],
    more: list[int],
) -> None:
    alone = shared_client.rank(impression(history, candidates))
    padded, other = shared_client.rank_batch([impression(history, candidates), impression(longer, more)])
    # A kernel may compute the last of a row one by one, and so round a sigmoid otherwise.
    probabilities = [candidate.probability for candidate in alone.candidates]
    assert [candidate.probability for candidate in padded.candidates] == pytest.approx(probabilities, rel=1e-6)
    assert without_probabilities(padded) == without_probabilities(alone)
    assert len(other.candidates) == len(more)


def test_serialized_examples_get_the_same_scores(
    predictions: Any, impression: Make, serialized: Callable[[Impression], bytes]
) -> None:
    impressions = [impression([3, 3], [3, 4]), impression([], [3, 4, 5])]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([serialized(i) for i in impressions]))
    by_default = predictions.Predict(request)
    assert by_default.model_spec.signature_name == "serving_default"
    ranked = predictions.Predict(rank_request(impressions, "ctr"))
    for name in ("probability", "logit"):
        np.testing.assert_array_equal(tf.make_ndarray(by_default.outputs[name]), tf.make_ndarray(ranked.outputs[name]))
    assert tf.make_ndarray(by_default.outputs["probability"])[0, 2] == 0


def test_string_and_integer_outputs_are_typed_fields(
    predictions: Any, impression: Make, serialized: Callable[[Impression], bytes]
) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.model_spec.signature_name = "transform_features"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([serialized(impression([3, 4], [5]))]))
    assert list(predictions.Predict(request).outputs["history_category_id"].int64_val) == [3, 4]


def test_output_filter_and_explicit_version(predictions: Any, impression: Make) -> None:
    request = rank_request([impression([3], [3, 4])], "ctr")
    request.model_spec.version.value = 3
    request.output_filter.append("logit")
    response = predictions.Predict(request)
    assert list(response.outputs) == ["logit"]
    assert list(response.outputs["logit"].float_val) == [1.0, 0.0]
    assert response.model_spec.version.value == 3


def test_metadata_holds_the_signatures(predictions: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "ctr"
    response = predictions.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 3
    assert set(signatures.signature_def["rank"].inputs) == set(REQUEST_FEATURES)
    assert set(signatures.signature_def["rank"].outputs) == {"probability", "logit", "calls"}
    assert signatures.signature_def["serving_default"].inputs["examples"].dtype == tf.string.as_datatype_enum


def test_status(channel: grpc.Channel) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "ctr"
    request.model_spec.version.value = 3
    response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    (status,) = response.model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert (status.version, status.state, status.status.error_message) == (3, available, "")


def test_a_signature_is_not_needed_by_name_but_its_inputs_are(predictions: Any, impression: Make) -> None:
    request = rank_request([impression([3], [3])], "ctr")
    request.model_spec.ClearField("signature_name")
    with pytest.raises(grpc.RpcError, match=r"Missing but required: \{examples\}"):
        predictions.Predict(request)


@pytest.mark.parametrize(
    ("name", "fields", "code", "message"),
    [
        ("cvr", ["signature_def"], NOT_FOUND, r"Latest\(cvr\)"),
        ("ctr", [], INVALID, "must specify at least one metadata_field"),
        ("ctr", ["assets"], INVALID, "Metadata field assets is not supported"),
    ],
)
def test_bad_metadata_requests(
    predictions: Any, name: str, fields: list[str], code: grpc.StatusCode, message: str
) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    with pytest.raises(grpc.RpcError, match=message) as raised:
        predictions.GetModelMetadata(request)
    assert raised.value.code() is code


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("cvr", None, "any versions of model cvr"), ("ctr", 7, "Could not find version 7 of model ctr")],
)
def test_status_of_what_is_not_there(channel: grpc.Channel, name: str, version: int | None, message: str) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    with pytest.raises(grpc.RpcError, match=message) as raised:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    assert raised.value.code() is NOT_FOUND


def test_a_message_over_the_limit_is_refused(shared_client: RankingClient, impression: Make) -> None:
    too_much = [impression([], [1] * 2_000) for _ in range(10)]
    with pytest.raises(ServingError, match="over a limit") as raised:
        shared_client.rank_batch(too_much)
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(shared_client.rank_batch(too_much[:5])) == 5


def test_the_client_says_which_model_is_missing(shared_server: ModelServer, impression: Make) -> None:
    target = f"127.0.0.1:{shared_server.port}"
    with RankingClient(target, "cvr") as client:
        with pytest.raises(ServingError, match=f"{target} serves no such model .*cvr") as raised:
            client.rank(impression([], [1]))
        assert raised.value.code is NOT_FOUND


METHODS = [
    *(f"PredictionService/{name}" for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")),
    *(f"ModelService/{name}" for name in ("GetModelStatus", "HandleReloadConfigRequest")),
]


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_are_named(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError, match=r"the 3 bytes sent are no tensorflow\.serving\.\w+Request: ") as raised:
        channel.unary_unary(f"/tensorflow.serving.{method}")(b"\xff\xff\xff")
    assert raised.value.code() is INVALID


def test_reflection_describes_what_is_answered(channel: grpc.Channel) -> None:
    """As grpcurl asks: with no stub of TF Serving's."""
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo

    def asked(**request: str) -> Any:
        (answer,) = reflect(iter([reflection_pb2.ServerReflectionRequest(**request)]))
        return answer

    listed = {service.name for service in asked(list_services="").list_services_response.service}
    ours = {f"tensorflow.serving.{name.partition('/')[0]}" for name in METHODS}
    assert listed == {*ours, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}

    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(answer: Any) -> None:
        for serialized in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
            if file.name not in added:
                added.add(file.name)
                for dependency in file.dependency:
                    add(asked(file_by_filename=dependency))
                pool.AddSerializedFile(serialized)

    for service in ours:
        add(asked(file_containing_symbol=service))
    described = {
        f"{service.rpartition('.')[2]}/{method.name}"
        for service in ours
        for method in pool.FindServiceByName(service).methods
    }
    assert described == set(METHODS)
    predict = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
    assert {field.name for field in predict.input_type.fields} >= {"model_spec", "inputs", "output_filter"}
    assert asked(file_containing_symbol="tensorflow.serving.Nothing").error_response.error_code == NOT_FOUND.value[0]


@pytest.mark.parametrize("example", [b"no example", b"\n\xac\xff"])
def test_bytes_that_are_no_example_are_refused(predictions: Any, example: bytes) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([example]))
    with pytest.raises(grpc.RpcError, match="Could not parse example input") as raised:
        predictions.Predict(request)
    assert raised.value.code() is INVALID


@pytest.fixture
def two_examples(impression: Make, serialized: Callable[[Impression], bytes]) -> input_pb2.Input:
    """What ``CountingRanker`` gives a logit of 2 and of 0."""
    parsed = [tf.train.Example.FromString(serialized(impression(history, [3]))) for history in ([3, 3], [4])]
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=parsed))


def spec(signature: str = "", name: str = "ctr") -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(name=name, signature_name=signature)


def test_examples_are_classified(predictions: Any, two_examples: input_pb2.Input) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=spec("classes"), input=two_examples)
    response = predictions.Classify(request)
    assert (response.model_spec.signature_name, response.model_spec.version.value) == ("classes", 3)
    found = [[(each.label, each.score) for each in row.classes] for row in response.result.classifications]
    assert found == [[("chosen", 2.0), ("not", -2.0)], [("chosen", 0.0), ("not", 0.0)]]


def test_examples_are_regressed_and_an_example_goes_before_its_context(
    predictions: Any, impression: Make, serialized: Callable[[Impression], bytes]
) -> None:
    whole, other = (tf.train.Example.FromString(serialized(impression([item] * 2, [3]))) for item in (3, 4))
    categories = tf.train.Example()
    categories.features.feature["history_category_id"].CopyFrom(other.features.feature["history_category_id"])
    with_context = input_pb2.ExampleListWithContext(context=whole, examples=[tf.train.Example(), categories])
    sent = input_pb2.Input(example_list_with_context=with_context)
    response = predictions.Regress(regression_pb2.RegressionRequest(model_spec=spec("numbers"), input=sent))
    assert [each.value for each in response.result.regressions] == [2.0, 0.0]


def task(signature: str, method: str, name: str = "ctr") -> inference_pb2.InferenceTask:
    return inference_pb2.InferenceTask(model_spec=spec(signature, name), method_name=f"tensorflow/serving/{method}")


def test_one_request_is_classified_and_regressed(predictions: Any, two_examples: input_pb2.Input) -> None:
    tasks = [task("numbers", "regress"), task("classes", "classify")]
    response = predictions.MultiInference(inference_pb2.MultiInferenceRequest(tasks=tasks, input=two_examples))
    numbers, classes = response.results
    assert [each.value for each in numbers.regression_result.regressions] == [2.0, 0.0]
    assert classes.classification_result.classifications[0].classes[0].score == 2.0
    assert [result.model_spec.signature_name for result in response.results] == ["numbers", "classes"]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], INVALID, "no name specified"),
        ([task("numbers", "regress")] * 2, INVALID, "Duplicate evaluation of signature: numbers"),
        ([task("numbers", "regress"), task("classes", "classify", "cvr")], INVALID, "must access the same model name"),
        ([task("score", "regress")], INVALID, "Requested signature not found in model graph: score"),
        ([task("rank", "predict")], grpc.StatusCode.UNIMPLEMENTED, "method_name: tensorflow/serving/predict"),
    ],
)
def test_tasks_that_are_none_are_refused(
    predictions: Any, two_examples: input_pb2.Input, tasks: list[Any], code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(grpc.RpcError, match=message) as raised:
        predictions.MultiInference(inference_pb2.MultiInferenceRequest(tasks=tasks, input=two_examples))
    assert raised.value.code() is code


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("score", "No signature was found with the name: score"),
        ("rank", "Expected one input Tensor"),
        ("transform_features", "Expected one or two output Tensors, found 6"),
        ("serving_default", "No classification inputs found in SignatureDef"),
        ("numbers", "No classification outputs found in SignatureDef"),
    ],
)
def test_signatures_that_classify_nothing_are_refused(
    predictions: Any, two_examples: input_pb2.Input, signature: str, message: str
) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=spec(signature), input=two_examples)
    with pytest.raises(grpc.RpcError, match=message) as raised:
        predictions.Classify(request)
    assert raised.value.code() is INVALID


def test_no_examples_are_refused(predictions: Any) -> None:
    with pytest.raises(grpc.RpcError, match="Input is empty") as raised:
        predictions.Regress(regression_pb2.RegressionRequest(model_spec=spec("numbers")))
    assert raised.value.code() is INVALID


def test_requests_do_not_change_the_models_of_a_server_of_one(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError, match="requests cannot change its models") as raised:
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(
            model_management_pb2.ReloadConfigRequest()
        )
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_values_are_read_in_every_form_that_a_tensor_has(predictions: Any, impression: Make) -> None:
    as_bytes = predict_pb2.PredictRequest.FromString(
        rank_request([impression([3, 3, 3], [3, 3])], "ctr").SerializeToString()
    )
    listed, repeated = predict_pb2.PredictRequest(), predict_pb2.PredictRequest()
    for request in (listed, repeated):
        request.CopyFrom(as_bytes)
        proto = request.inputs["history_category_id"]
        proto.ClearField("tensor_content")
        # What repeats to the end need not be sent again.
        proto.int64_val.extend([3, 3, 3] if request is listed else [3])
    for request in (as_bytes, listed, repeated):
        assert list(predictions.Predict(request).outputs["logit"].float_val) == [3.0, 3.0]
