"""What is trained: the model's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ModelName = Literal["dnn", "din"]
ActivationName = Literal["relu", "prelu", "dice", "mish"]


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ModelConfig(Section):
    """Architecture and regularisation of a model."""

    name: ModelName = "din"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] = 16
    hidden_units: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (64, 32)
    """Widths of the MLP that gives the logit."""
    attention_units: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (32, 16)
    """Widths of DIN's activation unit."""
    activation: ActivationName = "dice"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    match_features: bool = True
    """Feed what candidate and history share (same item, same category: count, recency) to the MLP."""
    item_embedding: bool = True
    item_unknown_rate: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of item ids treated as unknown at each training step, so that unknown is learnt as unknown."""
    embedding_l2: Annotated[float, Field(ge=0)] = 1e-5
    """L2 penalty on the embedding rows that a batch touches."""
