"""What is trained: the model's section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ctr.models.registration import Extensible, Registry
from ctr.models.registry import ACTIVATIONS, MODELS, ActivationName, ModelName, Units


class ModelConfig(Extensible):
    """Architecture and regularisation of a model. Beside these settings, which all models read, stand those of
    ``models/registry.py`` and of plugins, which are read by what is registered with them alone."""

    registries: ClassVar[Mapping[str, Registry[Any]]] = {"name": MODELS, "activation": ACTIVATIONS}

    name: ModelName = "din"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] = 16
    hidden_units: Annotated[tuple[Units, ...], Field(min_length=1)] = (64, 32)
    """Widths of the MLP that gives the logit."""
    activation: ActivationName = "dice"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    match_features: bool = True
    """Feed what candidate and history share (same item, same category: count, recency) to the MLP."""
    item_embedding: bool = True
    """Embed items besides categories."""
    separate_history_embedding: bool = False
    """Tables of its own for the history, rather than one for history and candidates."""
    behavior_embedding: bool = True
    """Embed each event's behaviour."""
    age_embedding: bool = True
    """Embed each event's age."""
    item_unknown_rate: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of item ids treated as unknown at each training step, so that unknown is learnt as unknown."""
    embedding_l2: Annotated[float, Field(ge=0)] = 1e-5
    """L2 penalty on the embedding rows that a batch touches."""
    item_buckets: Annotated[int, Field(ge=2)] | None = None
    """Hash the known items into so many rows, with one more for each ``item_buckets`` of them (see "Large tables" in
    docs/training.md). Null: a row for each item."""
