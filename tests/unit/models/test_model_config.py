from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr.models.errors import ConfigError
from ctr.models.model_config import ModelConfig
from ctr.models.registry import TransformerConfig
from ctr.pipeline.settings.pipeline_config import load_preset


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"transformer": {"width": 10, "heads": 4}}, "width is 10, which must be a multiple of heads, 4"),
        ({"transformer": {"layers": 0}}, "transformer.layers"),
        ({"name": "bert4rec", "item_embedding": False}, "item_embedding must be true for bert4rec"),
        ({"bert4rec": {"mask_share": 1.0}}, "bert4rec.mask_share"),
        ({"caser": {"events": 0}}, "caser.events"),
        ({"recurrent": {"units": 0}}, "recurrent.units"),
        ({"dien": {"auxiliary_weight": -1}}, "dien.auxiliary_weight"),
        ({"hidden_units": []}, "hidden_units"),
        ({"attention_units": []}, "attention_units"),
        ({"dropout": 1.0}, "dropout"),
        ({"name": "deepfm"}, "name"),
        ({"heads": 2}, "heads"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_with_its_name(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError) as error:
        ModelConfig.model_validate(settings)
    assert named in str(error.value)


def test_a_setting_within_a_section_has_a_dotted_name() -> None:
    config = load_preset("full", ["model.name=bert4rec", "model.transformer.heads=4"])
    assert config.model.section(TransformerConfig).heads == 4
    with pytest.raises(ConfigError, match="model.transformer: width is 32, which must be a multiple of heads, 5"):
        load_preset("full", ["model.transformer.heads=5"])
