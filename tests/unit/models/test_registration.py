"""Models, samplers and activations by name, and from outside the tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT

from ctr.models.errors import ConfigError
from ctr.models.model_config import ModelConfig
from ctr.models.registration import RegistrationError
from ctr.models.registry import ACTIVATIONS, MODELS, RecurrentConfig, register_activation, register_model
from ctr.models.samplers.registry import SAMPLERS, register_sampler
from ctr.models.samplers.sampler_config import SamplerConfig
from ctr.models.section import Section
from ctr.pipeline.commands.cli import _parser
from ctr.pipeline.runners.kubeflow.parameters import PARAMETERS
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset
from ctr.pipeline.sweep.trials import grid

PLUGINS = ("my_shop.ctr", "my_shop.subset")
CHOSEN = ["model.name=decay", "model.decay.rate=0.25", "model.activation=softsign", "sampler.name=subset"]
STORED = ["ingest.training_negatives={uniform: 1, contemporaneous: 1}"]


class OtherConfig(Section):
    units: int = 3


# --- from outside --------------------------------------------------------------------------------------------------


def test_what_a_plugin_registers_can_be_chosen_with_its_settings(plugins: Path) -> None:
    config = load_preset("demo", [*CHOSEN, *STORED], PLUGINS)

    assert (config.model.name, config.model.activation, config.sampler.name) == ("decay", "softsign", "subset")
    values = config.model_dump(mode="json")
    assert (values["model"]["decay"], values["sampler"]["subset"]) == ({"rate": 0.25}, {"keep": 2})
    assert PipelineConfig.from_json(config.to_json()) == config
    assert PipelineConfig.from_json(config.changes_json()) == config


def test_its_settings_and_its_rules_are_checked(plugins: Path) -> None:
    with pytest.raises(ConfigError, match=r"^model\.decay\.rate: must be above 0 \(got -1\)$"):
        load_preset("demo", ["model.decay.rate=-1"], PLUGINS)
    with pytest.raises(ConfigError, match=r"^model\.decay\.rates: unknown key; did you mean rate\?"):
        load_preset("demo", ["model.decay.rates=1"], PLUGINS)
    with pytest.raises(ConfigError, match=r"sampler.subset.keep is 2, and ingest.training_negatives gives 1"):
        load_preset("demo", ["sampler.name=subset", "ingest.training_negatives.contemporaneous=1"], PLUGINS)


def test_everything_that_lists_names_lists_a_plugins(plugins: Path) -> None:
    config = load_preset("demo", STORED, PLUGINS)

    variants = [trial.variant for trial in grid(config, ["all"], ["all"], (True,), 1, samplers=["subset"])]
    described = {parameter.name: parameter.description for parameter in PARAMETERS}
    with pytest.raises(ConfigError) as refused:
        load_preset("demo", ["model.name=nosuch", "model.activation=nosuch", "sampler.name=nosuch"], PLUGINS)

    assert {variant.model for variant in variants} == {*MODELS} >= {"decay", "din"}
    assert {variant.activation for variant in variants} == {*ACTIVATIONS} >= {"softsign", "dice"}
    assert described["model"].endswith(", bert4rec, decay")
    assert described["activation"].endswith(", mish, softsign")
    assert described["sampler"].endswith(", mixed, subset")
    for line, last in zip(str(refused.value).splitlines(), ("decay", "softsign", "subset"), strict=True):
        assert re.fullmatch(rf"[a-z.]+: must be one of .*, {last} .*", line)


def test_the_json_schema_knows_names_and_settings(plugins: Path) -> None:
    load_preset("demo", plugins=PLUGINS)
    definitions = PipelineConfig.model_json_schema()["$defs"]

    model = definitions["ModelConfig"]["properties"]
    assert model["name"]["enum"] == [*MODELS]
    assert model["name"]["enum"][-1] == "decay"
    assert model["decay"]["$ref"] == "#/$defs/DecayConfig"
    assert model["transformer"]["$ref"] == "#/$defs/TransformerConfig"
    assert definitions["DecayConfig"]["properties"]["rate"]["exclusiveMinimum"] == 0


def test_a_process_that_gets_the_configuration_as_text_needs_no_tensorflow_to_read_it(plugins: Path) -> None:
    text = load_preset("demo", ["model.name=decay", "model.activation=softsign"], ["my_shop.ctr"]).changes_json()
    code = (
        "import sys; from ctr.pipeline.settings.pipeline_config import PipelineConfig; "
        "print(PipelineConfig.from_json(sys.argv[1]).model.decay.rate, 'tensorflow' in sys.modules)"
    )

    assert python("-c", code, text, plugins=plugins).stdout == "0.5 False\n"
    alone = python("-c", code, text)
    assert alone.returncode != 0
    assert "plugins.0: there is no module my_shop.ctr here: install its package" in alone.stderr


def test_the_command_line_names_plugins(plugins: Path) -> None:
    arguments = ["-m", "ctr", "show-config", "--plugin", "my_shop.ctr", "--set", "model.name=decay"]

    shown = python(*arguments, plugins=plugins)
    alone = python(*arguments)

    assert shown.returncode == 0, shown.stderr
    assert "plugins:\n- my_shop.ctr\n" in shown.stdout
    assert "  decay:\n    rate: 0.5\n" in shown.stdout
    assert (alone.returncode, alone.stdout) == (2, "")


def python(*arguments: str, plugins: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(plugins or "")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["run", "sweep", "compile", "submit", "show-config"])
def test_every_command_with_settings_takes_plugins(command: str) -> None:
    arguments = [command, "--plugin", "a.b", "--plugin", "c"]

    assert _parser().parse_args(arguments).plugin == ["a.b", "c"]


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        ("my shop", "", "plugins.0: 'my shop' is no name of a module, such as my_package.my_module"),
        ("os; import sys", "", "is no name of a module"),
        ("../my_shop", "", "is no name of a module"),
        ("my_shop.nosuch", "", "there is no module my_shop.nosuch here"),
        ("my_broken", "import nosuchthing", "my_broken needs a module that is not here: No module named 'nosuchthing'"),
        ("my_broken", "\n\n1 / 0", "importing my_broken failed: ZeroDivisionError: division by zero"),
        (
            "my_broken",
            "from ctr.models.registry import register_model\nregister_model('din', 'my_broken:Din')",
            "my_broken: model 'din' is registered already: ctr.models.din.DIN; choose another name",
        ),
        (
            "my_broken",
            "from ctr.models.registry import register_model\nregister_model('mine', 'my_borken:Mine')",
            "my_broken: model 'mine': there is no module my_borken",
        ),
    ],
)
def test_a_plugin_that_cannot_be_had_is_refused_by_name(plugins: Path, module: str, text: str, says: str) -> None:
    (plugins / "my_broken.py").write_text(text)

    with pytest.raises(ConfigError) as refused:
        load_preset("demo", plugins=[module])

    assert says in str(refused.value)
    if text.startswith("\n"):
        assert "my_broken.py, line 3)" in str(refused.value)


# --- registering ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "settings", "says"),
    [
        ("Mine", "ctr.models.din:DIN", {}, "small letters"),
        ("mine", "ctr.models.din", {}, "'package.module:Class'"),
        ("mine", "ctr.models.din:DIN()", {}, "'package.module:Class'"),
        ("mine", "ctr.models.nosuch:Mine", {}, "there is no module ctr.models.nosuch"),
        ("mine", "ctr.models.din:DIN", {"recurrent": OtherConfig}, "section 'recurrent' is registered already"),
        ("mine", "ctr.models.din:DIN", {"mine": RecurrentConfig}, "section 'recurrent' is registered already"),
        ("mine", "ctr.models.din:DIN", {"mine": dict}, "derives from ctr.models.section.Section"),
    ],
)
def test_what_cannot_be_registered_is_refused(
    plugins: Path, name: str, target: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(RegistrationError, match=says):
        register_model(name, target, settings=settings)
    assert name not in tuple(MODELS)


def test_a_section_may_not_hide_a_setting(plugins: Path) -> None:
    register_model("mine", "ctr.models.din:DIN", settings={"dropout": OtherConfig})
    with pytest.raises(ValueError, match="section dropout has the name of a setting"):
        ModelConfig()


def test_the_same_declaration_again_changes_nothing(plugins: Path) -> None:
    before = tuple(MODELS)
    register_model("din", "ctr.models.din:DIN")
    assert tuple(MODELS) == before


def test_a_built_in_section_may_be_shared(plugins: Path) -> None:
    register_model("mine", "ctr.models.din:DIN", settings={"recurrent": RecurrentConfig})
    config = ModelConfig.model_validate({"name": "mine", "recurrent": {"units": 5}})
    assert config.section(RecurrentConfig).units == 5
    with pytest.raises(RegistrationError, match="OtherConfig is no section of a registered model or activation"):
        config.section(OtherConfig)


def test_what_is_built_must_be_what_it_is_registered_as(plugins: Path) -> None:
    from ctr.models.layers.activations import make_activation
    from ctr.models.negatives import StoredNegatives
    from ctr.models.registry import build_model
    from ctr.models.samplers.base import TrainingWindow
    from ctr.models.samplers.registry import SamplerContext, build_sampler

    none = np.empty(0, np.int64)
    register_model("mine", lambda *arguments: {})
    register_model("gone", "ctr.models.din:Gone")
    register_activation("mine", "builtins:dict")
    register_sampler("mine", "builtins:list")

    with pytest.raises(RegistrationError, match="model mine: dict does not derive from ctr.models.contract.Ranker"):
        build_model(ModelConfig(name="mine"), 10, 10, 6)
    with pytest.raises(RegistrationError, match="gone is declared as ctr.models.din:Gone: .*'Gone'"):
        build_model(ModelConfig(name="gone"), 10, 10, 6)
    with pytest.raises(RegistrationError, match="activation mine: dict does not derive from keras"):
        make_activation(ModelConfig(activation="mine"))
    with pytest.raises(RegistrationError, match="sampler mine: list does not derive"):
        build_sampler(
            SamplerContext(
                SamplerConfig(name="mine"),
                window=TrainingWindow(0, none, none, none),
                stored=StoredNegatives(),
                batch_size=4,
                seed=1,
            )
        )


# --- what is written about them ------------------------------------------------------------------------------------


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table whose header row begins with a text."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    last = next(number for number in range(first, len(lines)) if not lines[number].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[first:last]]


def test_the_tables_of_the_docs_say_what_the_registries_say() -> None:
    """A failure shows the rows that are missing."""
    assert rows("models.md", "`model.name`") == [[f"`{name}`", MODELS[name].about] for name in MODELS]
    assert rows("models.md", "`model.activation`") == [[f"`{name}`", ACTIVATIONS[name].about] for name in ACTIVATIONS]
    expected = [[f"`{name}`", SAMPLERS[name].about, SAMPLERS[name].log_q] for name in SAMPLERS]
    assert rows("samplers.md", "`sampler.name`") == expected


def test_everything_in_the_tree_says_what_it_is() -> None:
    for registry in (MODELS, SAMPLERS, ACTIVATIONS):
        assert all(registry[name].about for name in registry)


def test_the_table_of_settings_holds_all_of_them_with_their_defaults() -> None:
    shown = {cells[0]: cells[1] for cells in rows("models.md", "setting")}
    for declared in [registry[name] for registry in (MODELS, ACTIVATIONS) for name in registry]:
        for key, section in declared.settings.items():
            fields = section.model_fields
            name = f"{{{','.join(fields)}}}" if len(fields) > 1 else next(iter(fields))
            assert shown[f"`model.{key}.{name}`"] == ", ".join(str(field.default) for field in fields.values())
        for name, field in ((name, field) for kind in declared.flat for name, field in kind.model_fields.items()):
            assert shown[f"`model.{name}`"] == str(field.default).strip("()")


def test_the_help_of_the_sweep_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["sweep", "--help"])

    said = " ".join(capsys.readouterr().out.split())
    for registry in (MODELS, SAMPLERS, ACTIVATIONS):
        assert f"or all: {', '.join(registry)}" in said
        assert all(f"{name} {registry[name].about}" in said for name in registry)


def test_built_in_settings_are_written_as_ever() -> None:
    """Changes of their order or form would make caches and sweeps forget what they know."""
    sections = {"recurrent", "transformer", "caser", "dien", "bert4rec"}
    values = json.loads(ModelConfig().model_dump_json())
    assert list(values)[-7:] == ["attention_units", "recurrent", "transformer", "caser", "dien", "bert4rec", "dice"]
    assert not sections & ModelConfig.model_fields.keys()
    assert ModelConfig().model_dump(exclude_defaults=True) == {}
    assert list(SamplerConfig().model_dump())[-2:] == ["frequency", "hard"]
