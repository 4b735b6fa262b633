from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctr.models.errors import ConfigError
from ctr.serving.models_config import ModelConfig, read_models_config

ROOT = Path(__file__).parents[3]


def written(folder: Path, *models: str) -> Path:
    path = folder / "models.config"
    path.write_text("model_config_list {\n" + "\n".join(f"config {{ {model} }}" for model in models) + "\n}\n")
    return path


def model(fields: str = "", base: str = "/models/ctr", name: str = "ctr", platform: str = "tensorflow") -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "{platform}" {fields}'


def test_the_clusters_own_file_is_read() -> None:
    models = read_models_config(ROOT / "kubernetes/base/serving/models.config")
    assert models == (ModelConfig("ctr", Path("/output/serving/ctr"), latest=1),)


def test_the_page_on_serving_shows_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```text\n(model_config_list .*?)^```", page, re.M | re.S)
    (tmp_path / "models.config").write_text(shown)
    [model] = read_models_config(tmp_path / "models.config")
    assert (model.specific, model.labels) == ({41, 42}, {"stable": 41, "canary": 42})


@pytest.mark.parametrize(
    ("fields", "latest", "specific"),
    [
        ("", 1, set()),
        ("model_version_policy { latest {} }", 1, set()),
        ("model_version_policy { latest { num_versions: 3 } }", 3, set()),
        ("model_version_policy { all {} }", None, set()),
        ("model_version_policy { specific { versions: 7 versions: 9 } }", None, {7, 9}),
    ],
)
def test_each_policy_is_read(tmp_path: Path, fields: str, latest: int | None, specific: set[int]) -> None:
    labels = 'version_labels { key: "stable" value: 7 }'
    [found] = read_models_config(written(tmp_path, model(f"{fields} {labels}")))
    assert (found.latest, found.specific, found.labels) == (latest, specific, {"stable": 7})


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ([], "lists no model"),
        ([model(), model()], "Illegal to list model ctr multiple times"),
        ([model(name="")], "a model has no name"),
        ([model(base="models/ctr")], r"an absolute path on this machine; got base_path\(\)=models/ctr"),
        ([model(base="gs://bucket/ctr")], "an absolute path on this machine"),
        ([model(platform="jax")], "model_platform must be 'tensorflow', got 'jax'"),
        ([model("logging_config {}")], "--request-log is this server's request log; remove logging_config"),
        ([model("model_version_policy { specific {} }")], "specific must list versions of 0 or more"),
        ([model("num_versions: 1")], r'no ModelServerConfig of TF Serving: 2:\d+ : .*"num_versions"'),
    ],
)
def test_what_cannot_be_served_names_the_file_and_the_field(tmp_path: Path, models: list[str], says: str) -> None:
    path = written(tmp_path, *models)
    with pytest.raises(ConfigError, match=says) as raised:
        read_models_config(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_other_kinds_of_configuration_and_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_models_config(path)
    path.write_text("")
    with pytest.raises(ConfigError, match="expected a model_config_list"):
        read_models_config(path)
