from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import operator
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ctr.components.settings import IngestConfig
from ctr.models.errors import ConfigError
from ctr.pipeline.settings.kubeflow import quantity_bytes
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset, preset_names

SMALL = {"evaluation": {"bounds": {"auc": {"min": 0.6}}}}


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_carry_their_name(name: str) -> None:
    assert load_preset(name).preset == name


def test_the_presets_ship_with_the_package() -> None:
    assert preset_names() == (
        "demo",
        "full",
        "kubeflow",
        "kubeflow-small",
        "mimn",
        "mimn-corrected",
        "sample",
        "samplers",
    )


def _leaves(values: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield from _leaves(value, *above, key) if isinstance(value, dict) and value else [(*above, key)]


@pytest.mark.parametrize("name", ["kubeflow", "kubeflow-small", "mimn", "samplers"])
def test_a_preset_that_extends_another_repeats_nothing(name: str, tmp_path: Path) -> None:
    text = resources.files("ctr.pipeline.settings").joinpath(f"presets/{name}.yaml").read_text()
    file = tmp_path / f"{name}.yaml"
    file.write_text(text)
    assert load_preset(str(file)) == load_preset(name)
    for *sections, leaf in _leaves(yaml.safe_load(text)):
        values = yaml.safe_load(text)
        del functools.reduce(operator.getitem, sections, values)[leaf]
        file.write_text(yaml.safe_dump(values))
        # What does not fit together without it is refused.
        with contextlib.suppress(ConfigError):
            assert load_preset(str(file)) != load_preset(name), f"{name}.yaml: {'.'.join((*sections, leaf))}"


def test_what_is_extended_lies_under_a_presets_own_settings(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        "extends: full\ntraining: {epochs: 7}\nevaluation: {bounds: {auc: {min: 0.7}}}\n"
    )
    (tmp_path / "night.yaml").write_text("extends: shop.yaml\ntraining: {seed: 3}\n")
    full, night = load_preset("full"), load_preset(str(tmp_path / "night.yaml"), ["training.epochs=9"])
    changes = {"preset": "night", "training.epochs": 9, "training.seed": 3, "evaluation.bounds.auc.min": 0.7}
    assert night == full.with_overrides(changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: a.yaml", "a.yaml extends {0}/a.yaml, in a circle"),
        ("extends: b.yaml", "a.yaml extends {0}/b.yaml extends {0}/a.yaml, in a circle"),
        ("extends: ful", "a.yaml extends ful; 'ful' is unknown; did you mean full? There are demo, full, kubeflow"),
        ("extends: c.yaml", "a.yaml extends {0}/c.yaml; it cannot be read: [Errno 2] No such file"),
        ("extends: [full", "a.yaml; it cannot be read: while parsing"),
        ("full", "a.yaml; it holds no settings; write e.g. extends: full"),
        ("extends: full\ntraining: {{epochz: 2}}", "training.epochz: unknown key; did you mean epochs?"),
    ],
)
def test_a_presets_file_that_cannot_be_used_is_named(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text.format())
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(ConfigError) as refused:
        load_preset(str(tmp_path / "a.yaml"))
    assert says.format(tmp_path) in str(refused.value)


def test_a_steps_other_resources_stay_where_one_is_set() -> None:
    kubeflow = load_preset("kubeflow", ["kubeflow.beam.memory_request=8Gi", "kubeflow.trainer.gpus=2"]).kubeflow
    assert (kubeflow.beam.cpu, kubeflow.beam.memory, kubeflow.trainer.cpu, kubeflow.trainer.memory) == (
        4,
        "16Gi",
        8,
        "48Gi",
    )


def test_the_small_cluster_has_room_for_each_step_beside_kubeflow() -> None:
    config = load_preset("kubeflow-small")
    assert config.beam_pipeline_args == ()
    for step in (config.kubeflow.beam, config.kubeflow.trainer, config.kubeflow.light):
        assert (step.gpus, step.tolerations, step.shared_memory) == (0, (), None)
        assert (step.cpu_request or step.cpu) <= 2 - 0.8
        assert quantity_bytes(step.memory_request or step.memory) <= (8 - 3.2) * 2**30
        # What a step may use at most leaves the node some.
        assert (step.cpu <= 1, quantity_bytes(step.memory) <= 6 * 2**30) == (True, True)


def test_assignments_are_read_as_yaml() -> None:
    config = load_preset(
        "demo", ["training.epochs=2", "ingest.behaviors_as_targets=[buy]", "ingest.targets_per_user=null"]
    )
    assert config.training.epochs == 2
    assert config.ingest.behaviors_as_targets == ("buy",)
    assert config.ingest.targets_per_user is None


def test_an_assignment_keeps_the_rest_of_its_section() -> None:
    config = load_preset("sample", ["ingest.training_negatives.uniform=3"])
    assert config.ingest.training_negatives.uniform == 3
    assert config.ingest.training_negatives.contemporaneous == 2


@pytest.mark.parametrize(
    ("assignment", "field", "says"),
    [
        ("training.epochz=2", "training.epochz", "unknown key; did you mean epochs? There are epochs, batch_size"),
        ("trainings.epochs=2", "trainings", "unknown key; did you mean training?"),
        ("training.epochs=0", "training.epochs", "must be at least 1 (got 0)"),
        ("training.epochs=many", "training.epochs", "must be a whole number, at least 1 (got 'many')"),
        ("model.name=transformer9", "model.name", "must be one of dnn, rnn, lstm"),
        ("model.dropout=1.0", "model.dropout", "must be at least 0 and below 1 (got 1.0)"),
        ("evaluation.bounds.auc.min=1.5", "evaluation.bounds.auc.min", "below 1 (got 1.5)"),
        ("evaluation.bounds.auc.max=0.5", "evaluation.bounds", "auc: max 0.5 must be above min 0.8, or null"),
        (
            "evaluation.bounds.gauc.min=1.5",
            "evaluation.bounds",
            "gauc.min: 1.5 is out of reach, gauc lies between 0 and 1",
        ),
        ("evaluation.bounds.logloss.max=1", "evaluation.bounds", "there is no metric logloss; did you mean log_loss?"),
        ("evaluation.bounds.auc@unifrm.max=1", "evaluation.bounds", "no negative set unifrm; did you mean uniform?"),
        ("evaluation.bounds.pairs.max_drop=1", "evaluation.bounds", "pairs.max_drop: neither more nor less"),
        (
            "evaluation.bounds.auc/itm:new.min=0.5",
            "evaluation.bounds",
            "no attribute 'itm' to slice by; did you mean item?",
        ),
        (
            "evaluation.bounds.auc/item:old.min=0.5",
            "evaluation.bounds",
            "auc/item:old: item is never 'old'; there are new",
        ),
        ("evaluation.bounds.auc/.min=0.5", "evaluation.bounds", "auc/: there is no attribute '' to slice by"),
        (
            "evaluation.bounds.auc/candidate_item_id:x.min=0.5",
            "evaluation.bounds",
            "candidate_item_id is never 'x'; its values are whole numbers, 1 or more",
        ),
        (
            "evaluation.bounds.auc/candidate_item_id:7.min=0.5",
            "evaluation",
            "bounds.auc/candidate_item_id:7: candidate_item_id is a feature; name it in evaluation.slices, too",
        ),
        ("evaluation.bounds.log_loss.min_margin=0", "evaluation.bounds", "no probabilities and have no log_loss"),
        (
            "evaluation.bounds.auc.margin_over=dnn",
            "evaluation.bounds.auc.margin_over",
            "must be one of best, seen_before",
        ),
        (
            "evaluation.bounds.auc.confidence=1",
            "evaluation.bounds.auc.confidence",
            "at least 0.5 and below 1 (got 1)",
        ),
        ("evaluation.slices=[history_age]", "evaluation.slices", "history_age has several values an impression"),
        ("evaluation.slices=[candidate_items]", "evaluation.slices", "is no feature; did you mean candidate_item_id?"),
        ("evaluation.slices=[timestamp, timestamp]", "evaluation.slices", "name each feature once"),
        ("evaluation.bounds.auc.maxdrop=1", "evaluation.bounds.auc.maxdrop", "unknown key; did you mean max_drop?"),
        ("evaluation.max_auc_drop=0.1", "evaluation", "max_auc_drop is named evaluation.bounds.auc.max_drop now"),
        ("ingest.validation_share=0.9", "ingest", "below 1"),
        ("ingest.window_end=2017-11-01T00:00:00", "ingest", "window_end must be after window_start"),
        ("ingest.window_start=2017-11-25T00:00:00+08:00", "ingest.window_start", "without an offset"),
        ("ingest.window_days=0", "ingest.window_days", "must be at least 1"),
        ("ingest={window_days: 9, window_end: 2024-05-09}", "ingest", "leave window_start and window_end null (auto)"),
        ("ingest.min_history=51", "ingest", "min_history cannot exceed history_length"),
        ("ingest.behaviors_as_targets=[pv, pv]", "ingest.behaviors_as_targets", "each once"),
        ("ingest.training_negatives.contemporaneous=0", "ingest", "training_negatives: at least one kind"),
        ("pipeline_name=Not A Name", "pipeline_name", "must match ^[a-z]"),
        ("preset.deep=1", "preset.deep", "not a section"),
    ],
)
def test_an_impossible_setting_is_refused_with_its_name(assignment: str, field: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_preset("demo", [assignment])
    assert f"{field}:" in str(refused.value)
    assert says in str(refused.value)


def test_each_wrong_field_has_its_line() -> None:
    with pytest.raises(ConfigError) as refused:
        load_preset("demo", ["training.epochs=0", "model.dropout=7"])
    assert sorted(line.split(":")[0] for line in str(refused.value).splitlines()) == [
        "model.dropout",
        "training.epochs",
    ]


@pytest.mark.parametrize("assignment", ["training.epochs", "training.epochs={"])
def test_a_malformed_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_preset("demo", [assignment])


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="demo, full, kubeflow, kubeflow-small, mimn, mimn-corrected, sample"):
        load_preset("nope")


def test_a_gate_without_a_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.bounds\.auc\.min: is missing"):
        PipelineConfig.from_json(json.dumps({"evaluation": {"bounds": {"auc": {}}}}))


def test_a_bound_on_a_slice_by_a_feature() -> None:
    config = load_preset(
        "demo", ["evaluation.slices=[candidate_category_id]", "evaluation.bounds.auc/candidate_category_id:7.min=0.5"]
    )
    *_, bound = config.evaluation.bounds.each("uniform")
    assert (bound.metric, bound.negative_set, bound.slice) == ("auc", "uniform", "candidate_category_id:7")
    assert dict(bound.bounds.given()) == {"min": 0.5}


def test_a_bound_on_negatives_that_are_not_evaluated_is_refused() -> None:
    with pytest.raises(ConfigError, match="uniform is not among ingest.evaluation_sets"):
        load_preset("demo", ["evaluation.bounds.auc@uniform.min=0.5", "ingest.evaluation_sets=[contemporaneous]"])


def test_a_configuration_cannot_be_changed() -> None:
    config = load_preset("demo")
    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 7  # type: ignore[misc]


def test_overrides_leave_the_original_alone() -> None:
    config = load_preset("demo")
    changed = config.with_overrides({"training.epochs": 17})
    assert (config.training.epochs, changed.training.epochs) == (3, 17)


def test_the_window_is_shanghai_time() -> None:
    first, last = IngestConfig().window
    # The public file's first row, 1511544070, is 01:21:10 of the first day there, and of the day before in UTC.
    assert first == 1511544070 - (1 * 3600 + 21 * 60 + 10)
    assert last - first == 9 * 24 * 3600 - 1


_DATED = "/logs/{YYYY}-{MM}-{DD}.csv"
_PUBLIC = ("2017-11-25T00:00:00", "2017-12-03T23:59:59")


@pytest.mark.parametrize(
    ("data", "settings", "window"),
    [
        (_DATED, {}, ("2024-02-22T00:00:00", "2024-03-01T23:59:59")),
        (_DATED, {"window_days": 2}, ("2024-02-29T00:00:00", "2024-03-01T23:59:59")),
        (_DATED, {"window_start": "2016-01-01", "window_days": "auto"}, ("2016-01-01T00:00:00", _PUBLIC[1])),
        (_DATED, {"window_end": "2018-01-01T00:00:00"}, (_PUBLIC[0], "2018-01-01T00:00:00")),
        ("/logs/{SPAN}.csv", {}, _PUBLIC),
        ("/logs", {"window_start": "auto", "window_end": None}, _PUBLIC),
    ],
)
def test_a_window_counts_back_from_a_span_that_is_a_day(
    data: str, settings: dict[str, Any], window: tuple[str, str]
) -> None:
    ingest = (
        load_preset("demo", [f"data={data}"]).with_overrides({f"ingest.{k}": v for k, v in settings.items()}).ingest
    )
    found = ingest.of_path(data).of_span((dt.date(2024, 3, 1) - dt.date(1970, 1, 1)).days)
    assert tuple(bound.isoformat() for bound in found.bounds) == window
    assert found.window[1] - found.window[0] == (found.bounds[1] - found.bounds[0]).total_seconds()


def test_days_without_a_day_to_count_back_from_are_refused() -> None:
    config = load_preset("kubeflow", ["ingest.window_days=9", "data=''"])
    with pytest.raises(ConfigError, match=r"ingest\.window_days: /data/\{SPAN\} has no \{YYYY\}, \{MM\} and \{DD\}"):
        config.with_overrides({"data": "/data/{SPAN}"})


_OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.text(max_size=20),
        "runner": st.sampled_from(["beam", "local"]),
        "also_train": st.lists(st.sampled_from(["dnn", "din"]), max_size=2),
        "ingest.validation_share": st.floats(0.01, 0.4),
        "ingest.history_length": st.integers(1, 1000),
        "ingest.targets_per_user": st.none() | st.integers(1, 10**9),
        "ingest.seed": st.integers(0, 2**32 - 1),
        "transform.max_items": st.none() | st.integers(1, 10**9),
        "model.hidden_units": st.lists(st.integers(1, 8192), min_size=1, max_size=4),
        "model.embedding_l2": st.floats(0, 1e6),
        "training.learning_rate": st.floats(0, 1, exclude_min=True),
        "evaluation.bounds.auc.min": st.floats(0, 0.98, exclude_min=True),
        "evaluation.bounds.auc.max": st.none() | st.floats(0.981, 1),
        "evaluation.bounds.auc@uniform/item:new.min_margin": st.floats(-1, 1),
        "evaluation.bounds.log_loss@overall": st.fixed_dictionaries({}, optional={"max_drop": st.floats(0, 9)}),
    },
)


@given(_OVERRIDES)
def test_json_round_trip(overrides: dict[str, Any]) -> None:
    config = PipelineConfig.from_json(json.dumps(SMALL)).with_overrides(overrides)
    again = PipelineConfig.from_json(config.to_json())
    assert again == config
    assert again.to_json() == config.to_json()


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"model.embeding_dim": [8, 16]}, "model.embeding_dim: unknown key; did you mean embedding_dim?"),
        ({"model.embedding_dim": [8, 0]}, r"model.embedding_dim: must be at least 1 and at most 1,024 \(got 0\)"),
        ({"model.dropout": {"low": 0.1, "high": 1}}, r"model.dropout: must be at least 0 and below 1 \(got 1\)"),
        ({"model.recurrent.units": [16, 64]}, "model.recurrent: belongs to rnn, lstm, gru4rec, dien and has no effect"),
        ({"training.seed": [1, 2]}, "training.seed cannot be searched; there are the settings below model but"),
        ({"model.name": ["din", "dnn"]}, "model.name cannot be searched"),
        ({"model.dropout": {"low": 0.5, "high": 0.1}}, "low must be below high; they are 0.5 and 0.1"),
        ({"model.dropout": {"low": 0, "high": 0.1, "log": True}}, "low must be below high and above 0"),
        ({"model.dropout": [0.5]}, "must have at least 2 items"),
        ({"model.dropout": {"low": 0.1, "high": 0.5, "step": 1}}, "step is of whole numbers; low and high are 0.1"),
        ({"training.batch_size": {"low": 4, "high": 8, "step": 1, "log": True}}, "it must be above 1"),
        ({"training.batch_size": {"low": 64, "high": 256}}, "batch_size is 65, .* a multiple of accumulate_steps, 4"),
        ({"training.batch_size": {"low": 64, "high": 99, "step": 6}}, "batch_size is 70, .* of accumulate_steps, 4"),
        ({"training.batch_size": {"low": 6, "high": 256, "step": 2, "log": True}}, "batch_size is 6, .* a multiple"),
        ({"training.batch_size": {"low": 64, "high": 256, "log": True}}, "batch_size is 65, .* a multiple"),
        ({"model.transformer.heads": [2, 3], "model.transformer.width": [24, 32]}, "width is 32, .* of heads, 3"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_a_run(space: dict[str, Any], says: str) -> None:
    model = "transformer4rec" if "model.transformer.heads" in space else "din"
    with pytest.raises(ConfigError, match=f"tuner.space.*{says}"):
        load_preset("demo", [f"model.name={model}", "training.accumulate_steps=4", f"tuner.space={json.dumps(space)}"])


@pytest.mark.parametrize(
    "space",
    [
        {"training.batch_size": {"low": 64, "high": 255, "step": 4}},
        {"training.batch_size": {"low": 4, "high": 255, "step": 3, "log": True}},
        # Neither number of heads fits the width as it is delivered, and both fit each that is searched.
        {"model.transformer.heads": [3, 6], "model.transformer.width": {"low": 12, "high": 48, "step": 6}},
    ],
)
def test_every_value_of_a_stepped_range_is_allowed(space: dict[str, Any]) -> None:
    load_preset(
        "demo", ["model.name=transformer4rec", "training.accumulate_steps=4", f"tuner.space={json.dumps(space)}"]
    )


def test_a_space_is_held_to_each_model_that_is_trained() -> None:
    given = [
        'tuner.space={"model.attention_units": [[8], [16, 8]], "training.learning_rate": {"low": 0.01, "high": 0.1}}'
    ]
    config = load_preset("demo", given)
    assert config.tuner.space["model.attention_units"] == ([8], [16, 8])
    assert PipelineConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="model.attention_units: belongs to din and has no effect with dnn"):
        load_preset("demo", [*given, "also_train=[dnn]"])
