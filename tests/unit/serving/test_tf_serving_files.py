"""What the manifests and pages give TF Serving: it knows each flag, and can read each configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Dockerfile", *ROOT.glob("image/**/*")]
FILES = [path for path in (*ROOT.glob("kubernetes/**/*"), *PAGES) if path.is_file()]

VERSION = "2.16.1"
"""Of the binary in the manifests, and of the flags: tensorflow_serving/model_servers/main.cc at that tag."""
FLAGS = frozenset(
    re.findall(
        r"\w+",
        """
    allow_version_labels_for_unavailable_models batching_parameters_file enable_batching
    enable_grpc_healthcheck_service enable_model_warmup enable_per_model_batching_parameters enable_profiler
    enable_signature_method_name_check file_system_poll_wait_seconds flush_filesystem_caches
    grpc_channel_arguments grpc_max_threads grpc_socket_path load_retry_interval_micros max_num_load_retries
    mixed_precision model_base_path model_config_file model_config_file_poll_wait_seconds model_name
    monitoring_config_file num_load_threads num_request_iterations_for_warmup num_tflite_interpreters_per_pool
    num_tflite_pools num_unload_threads per_process_gpu_memory_fraction platform_config_file port
    prefer_tflite_model remove_unused_fields_from_bundle_metagraph rest_api_enable_cors_support
    rest_api_num_threads rest_api_port rest_api_timeout_in_ms saved_model_tags skip_initialize_tpu
    ssl_config_file tensorflow_inter_op_parallelism tensorflow_intra_op_parallelism
    tensorflow_session_config_file tensorflow_session_parallelism thread_pool_factory_config_file
    use_alts_credentials version xla_cpu_compilation_enabled
    """,
    )
)


def monitoring_config() -> Any:
    """``tensorflow_serving/config/monitoring_config.proto`` at that tag, which the Python package lacks."""
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config.proto", package="tensorflow.serving")
    file.syntax = "proto3"
    field = descriptor_pb2.FieldDescriptorProto
    inner, outer = (file.message_type.add(name=name) for name in ("PrometheusConfig", "MonitoringConfig"))
    inner.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    inner.field.add(name="path", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    name = ".tensorflow.serving.PrometheusConfig"
    outer.field.add(
        name="prometheus_config", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL, type_name=name
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    class_of = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return class_of(pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig"))


def containers() -> list[tuple[Path, dict[str, Any]]]:
    """Those that run TF Serving's binary."""
    found = []

    def look(path: Path, part: Any) -> None:
        if isinstance(part, dict):
            if part.get("command") == ["tensorflow_model_server"]:
                found.append((path, part))
            part = list(part.values())
        for each in part if isinstance(part, list) else []:
            look(path, each)

    for path in sorted(ROOT.glob("kubernetes/**/*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            look(path, document)
    return found


def test_the_binary_knows_every_flag_of_the_manifests() -> None:
    assert [path.relative_to(ROOT).as_posix() for path, _ in containers()] == [
        "kubernetes/base/serving/deployment.yaml"
    ]
    for path, container in containers():
        assert container["image"] == f"tensorflow/serving:{VERSION}"
        flags = [argument.partition("=")[0].removeprefix("--") for argument in container["args"]]
        assert set(flags) <= FLAGS, path
        assert len(set(flags)) == len(flags) > 5


def test_the_binary_knows_every_flag_of_the_pages() -> None:
    """A flag of its own is known by its underscores; those of ``ctr`` have none."""
    found: dict[str, Path] = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8", errors="replace")
        if re.search("tensorflow[/_](model_)?serv", text):
            found |= dict.fromkeys(re.findall(r"--([a-z]+(?:_[a-z]+)+)", text), path)
        assert set(re.findall(r"tensorflow/serving:([\w.]+)", text)) <= {VERSION}, path
    assert {name: path for name, path in found.items() if name not in FLAGS} == {}
    assert {"ssl_config_file", "model_config_file_poll_wait_seconds"} <= found.keys()


CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("kubernetes/**/*.config"))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_one_of_tf_servings(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    if Path(name).name == "monitoring.config":
        config = text_format.Parse(text, monitoring_config()())
        assert config.prometheus_config.enable
        assert config.prometheus_config.path.startswith("/")
        with pytest.raises(text_format.ParseError):
            text_format.Parse(text.replace("enable", "enabled"), monitoring_config()())
        return
    assert Path(name).name == "models.config"
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert [model.model_platform for model in config.model_config_list.config] == ["tensorflow"]


def test_the_configuration_of_the_page_on_serving_is_one() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```text\n(model_config_list.*?)^```", page, re.M | re.S)
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert dict(config.model_config_list.config[0].version_labels) == {"stable": 41, "canary": 42}
    assert len(CONFIGS) == 4
