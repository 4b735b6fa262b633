"""What the check of skew is told."""

from __future__ import annotations

from typing import Literal

from ctr.components.settings import ServedSkewConfig
from ctr.models.declared import Declared
from ctr.models.model_config import ModelConfig
from ctr.models.registration import Plugin
from ctr.models.section import Section


class SkewCheckSettings(Section):
    """What the check depends on."""

    plugins: tuple[Plugin, ...]
    """Modules that register what ``model`` names, and so before it."""
    features: Declared = ()
    """Rows that the log's description declares."""
    model: ModelConfig
    history_length: int
    """L."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    """Of the computation."""
    seed: int
    """Of the sample."""
    served: ServedSkewConfig = ServedSkewConfig()
    """Which requests the train split is compared with."""
