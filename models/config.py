"""What is trained: the model's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ModelName = Literal["dnn", "rnn", "lstm", "gru4rec", "transformer4rec", "caser", "din", "dien", "bert4rec"]
ActivationName = Literal["relu", "prelu", "dice", "mish"]


Units = Annotated[int, Field(ge=1, le=8192)]


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class RecurrentConfig(Section):
    """RNN, LSTM, GRU4Rec, and the interest evolution of DIEN."""

    units: Units = 32
    """Width of the state."""


class TransformerConfig(Section):
    """Self-attention blocks of Transformer4Rec and BERT4Rec."""

    layers: Annotated[int, Field(ge=1, le=12)] = 1
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    width: Units = 32
    """Width of a token; a multiple of ``heads``."""
    feed_forward: Units = 64
    """Inner width of a block's position-wise layers."""

    @model_validator(mode="after")
    def _divisible(self) -> TransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which must be a multiple of heads, {self.heads}")
        return self


class CaserConfig(Section):
    """Caser's convolutions."""

    events: Annotated[int, Field(ge=1, le=100)] = 10
    """The paper's L: the latest events that the filters slide over; there is a filter height for each of 1..L."""
    horizontal_filters: Units = 8
    """Of each height."""
    vertical_filters: Units = 4
    units: Units = 32
    """Width of the dense layer over the filters' outputs."""


class DIENConfig(Section):
    """DIEN's auxiliary loss."""

    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.5
    """The paper's alpha; 0 leaves the loss out."""


class BERT4RecConfig(Section):
    """BERT4Rec's cloze objective."""

    mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The paper's rho: share of the events masked in training."""
    last_only_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the impressions where only the last event is masked, as at inference."""
    cloze_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the cloze loss beside the pointwise one; 0 leaves it out."""
    cloze_negatives: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Items that the softmax is over besides the masked ones, at most the vocabulary."""


class ModelConfig(Section):
    """Architecture and regularisation of a model; a section named after a model is read by that model alone."""

    name: ModelName = "din"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] = 16
    hidden_units: Annotated[tuple[Units, ...], Field(min_length=1)] = (64, 32)
    """Widths of the MLP that gives the logit."""
    attention_units: Annotated[tuple[Units, ...], Field(min_length=1)] = (32, 16)
    """Widths of DIN's activation unit."""
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
    recurrent: RecurrentConfig = RecurrentConfig()
    transformer: TransformerConfig = TransformerConfig()
    caser: CaserConfig = CaserConfig()
    dien: DIENConfig = DIENConfig()
    bert4rec: BERT4RecConfig = BERT4RecConfig()

    @model_validator(mode="after")
    def _possible(self) -> ModelConfig:
        if self.name == "bert4rec" and not self.item_embedding:
            raise ValueError("item_embedding must be true for bert4rec: its cloze objective predicts items")
        return self
