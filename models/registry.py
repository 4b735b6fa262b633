"""The models and the activations that the configuration can choose, with their settings.

A new model is a file of its own and a call of :func:`register_model` here, or in a plugin. See "Add a model" in
docs/models.md. TensorFlow is loaded when a model is built, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, model_validator

from ctr.models.registration import Declaration, NameIn, Registry
from ctr.models.section import Section

if TYPE_CHECKING:
    from ctr.models.contract import Ranker
    from ctr.models.model_config import ModelConfig
    from ctr.models.samplers.sampler_config import SamplerConfig

Units = Annotated[int, Field(ge=1, le=8192)]


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


class DINConfig(Section):
    """DIN's attention."""

    attention_units: Annotated[tuple[Units, ...], Field(min_length=1)] = (32, 16)
    """Widths of the activation unit."""


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


class DiceConfig(Section):
    """The statistics that Dice normalises by."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the moving averages kept at each step."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the variance."""


def _predicts_items(config: ModelConfig) -> None:
    if not config.item_embedding:
        raise ValueError(f"item_embedding must be true for {config.name}: its cloze objective predicts items")


MODELS: Final = Registry("model", "ctr.models.contract:Ranker", Declaration)
ACTIVATIONS: Final = Registry("activation", "keras.layers:Layer", Declaration)

ModelName = Annotated[str, NameIn(MODELS)]
ActivationName = Annotated[str, NameIn(ACTIVATIONS)]


register_model: Final = MODELS.register
"""Of a subclass of :class:`ctr.models.contract.Ranker`; ``about`` is the history as a candidate sees it. Its settings
stand below ``model``, and ``self.config.section(Class)`` gives them."""

register_activation: Final = ACTIVATIONS.register
"""Of a Keras layer class that is called as in :mod:`ctr.models.layers.activations`; the fields of its settings,
which stand below ``model``, too, are its arguments."""

register_model(
    "dnn", "ctr.models.dnn:DNN", about="the mean of its events (base model of DIN, arXiv 1706.06978, section 4.2)"
)
register_model(
    "rnn",
    "ctr.models.rnn:RNN",
    about="state of a simple recurrent network after the last event (Elman 1990)",
    settings={"recurrent": RecurrentConfig},
)
register_model(
    "lstm",
    "ctr.models.lstm:LSTM",
    about="state of an LSTM after the last event (Hochreiter and Schmidhuber 1997)",
    settings={"recurrent": RecurrentConfig},
)
register_model(
    "gru4rec",
    "ctr.models.gru4rec:GRU4Rec",
    about="state of a GRU after the last event (arXiv 1511.06939, equations 2-5)",
    settings={"recurrent": RecurrentConfig},
)
register_model(
    "transformer4rec",
    "ctr.models.transformer4rec:Transformer4Rec",
    about="the target's token after self-attention over history and target (BST, arXiv 1905.06874, 1706.03762)",
    settings={"transformer": TransformerConfig},
)
register_model(
    "caser",
    "ctr.models.caser:Caser",
    about="horizontal and vertical filters over the latest events (arXiv 1809.07426, section 3.2)",
    settings={"caser": CaserConfig},
)
register_model(
    "din",
    "ctr.models.din:DIN",
    about="a sum weighted by local activation, without softmax (arXiv 1706.06978, equation 3)",
    flat=(DINConfig,),
)
register_model(
    "dien",
    "ctr.models.dien:DIEN",
    about="interests of a GRU, evolved towards the candidate by an AUGRU (arXiv 1809.03672, equations 3-11)",
    settings={"recurrent": RecurrentConfig, "dien": DIENConfig},
)
register_model(
    "bert4rec",
    "ctr.models.bert4rec:BERT4Rec",
    about="state of a bidirectional encoder at a [mask] behind the last event (arXiv 1904.06690)",
    settings={"transformer": TransformerConfig, "bert4rec": BERT4RecConfig},
    check=_predicts_items,
)

register_activation("relu", "ctr.models.layers.activations:ReLU", about="max(0, s)")
register_activation(
    "prelu", "ctr.models.layers.activations:PReLU", about="a learned slope a channel below 0 (He et al. 2015)"
)
register_activation(
    "dice",
    "ctr.models.layers.activations:Dice",
    about="a learned slope below a threshold that follows the data (arXiv 1706.06978, equation 3)",
    settings={"dice": DiceConfig},
)
register_activation("mish", "ctr.models.layers.activations:Mish", about="s tanh(softplus(s)) (Misra 2019)")


def build_model(config: ModelConfig, item_indices: int, category_indices: int, history_length: int) -> Ranker:
    """A new, initialised model; arguments as for :class:`ctr.models.contract.Ranker`.

    Raises:
      RegistrationError: if what was declared is not there, or is no ranker.
    """
    model: Ranker = MODELS.build(config.name, config, item_indices, category_indices, history_length)
    return model


def code_of(model: ModelConfig, sampler: SamplerConfig) -> list[str]:
    """Dotted names of what a training builds by name: the module that builds it does not import them."""
    chosen = [c.registries[field][getattr(c, field)] for c in (model, sampler) for field in c.registries]
    return [declaration.path for declaration in chosen]
