"""The models and the activations that the configuration can choose, and the sections of their settings.

A new model is one file and one line here; from outside the tree, :func:`register_model`. See "Add a model" in
docs/models.md. TensorFlow is loaded when a model is built, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import Field, model_validator

from models.registration import Declaration, NameIn, Registry
from models.section import Section

if TYPE_CHECKING:
    from models.contract import Ranker
    from models.model_config import ModelConfig
    from models.samplers.sampler_config import SamplerConfig

Units = Annotated[int, Field(ge=1, le=8192)]
T = TypeVar("T")


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


def _predicts_items(config: ModelConfig) -> None:
    if not config.item_embedding:
        raise ValueError(f"item_embedding must be true for {config.name}: its cloze objective predicts items")


MODELS: Final = Registry[Declaration]("model", "models.contract:Ranker")
ACTIVATIONS: Final = Registry[Declaration]("activation", "keras.layers:Layer")

ModelName = Annotated[str, NameIn(MODELS)]
ActivationName = Annotated[str, NameIn(ACTIVATIONS)]


def register_model(
    name: str,
    target: str | Callable[..., Ranker] | None = None,
    *,
    settings: Mapping[str, type[Section]] | None = None,
    check: Callable[[ModelConfig], None] | None = None,
) -> Callable[[T], T]:
    """Makes a model one that ``model.name`` can choose.

    Call it with a target, or set it above a class as a decorator. A module that only declares, with a target as text,
    keeps the reading of a configuration free of TensorFlow; a decorated class comes with whatever its module imports.

    Args:
      name: in the configuration; small letters, digits and underscores.
      target: a subclass of :class:`models.contract.Ranker`, or ``"package.module:Class"`` of one, imported when it is
        built; left out by a decorator.
      settings: its sections of the configuration below ``model``, by name: classes that derive from
        :class:`models.section.Section` with a default for each field. A section that stands in the registry already may
        be shared. In the model, ``self.config.section(Class)`` gives the settings.
      check: called with each configuration that names the model; raises ValueError for what it cannot have.

    Raises:
      RegistrationError: if the name or a section is taken or impossible.
    """
    return _register(MODELS, name, target, settings or {}, check)


def register_activation(name: str, target: str | Callable[[], Any] | None = None) -> Callable[[T], T]:
    """Makes an activation one that ``model.activation`` can choose; called as :func:`register_model` is.

    Args:
      name: in the configuration.
      target: a Keras layer class without required arguments, called as in :mod:`models.layers.activations`; or
        ``"package.module:Class"`` of one; left out by a decorator.

    Raises:
      RegistrationError: if the name is taken or impossible.
    """
    return _register(ACTIVATIONS, name, target, {}, None)


def _register(
    registry: Registry[Declaration],
    name: str,
    target: str | Callable[..., Any] | None,
    settings: Mapping[str, type[Section]],
    check: Callable[[Any], None] | None,
) -> Callable[[T], T]:
    def declare(decorated: Any) -> Any:
        registry.declare(Declaration(name, decorated, settings, check))
        return decorated

    if target is not None:
        declare(target)
    return declare


register_model("dnn", "models.dnn:DNN")
register_model("rnn", "models.rnn:RNN", settings={"recurrent": RecurrentConfig})
register_model("lstm", "models.lstm:LSTM", settings={"recurrent": RecurrentConfig})
register_model("gru4rec", "models.gru4rec:GRU4Rec", settings={"recurrent": RecurrentConfig})
register_model("transformer4rec", "models.transformer4rec:Transformer4Rec", settings={"transformer": TransformerConfig})
register_model("caser", "models.caser:Caser", settings={"caser": CaserConfig})
register_model("din", "models.din:DIN")
register_model("dien", "models.dien:DIEN", settings={"recurrent": RecurrentConfig, "dien": DIENConfig})
register_model(
    "bert4rec",
    "models.bert4rec:BERT4Rec",
    settings={"transformer": TransformerConfig, "bert4rec": BERT4RecConfig},
    check=_predicts_items,
)

register_activation("relu", "models.layers.activations:ReLU")
register_activation("prelu", "models.layers.activations:PReLU")
register_activation("dice", "models.layers.activations:Dice")
register_activation("mish", "models.layers.activations:Mish")


def build_model(config: ModelConfig, item_indices: int, category_indices: int, history_length: int) -> Ranker:
    """A new, initialised model.

    Args:
      config: its configuration.
      item_indices: size of the item index space, padding and unknown included.
      category_indices: likewise.
      history_length: L, the longest history in training.

    Raises:
      RegistrationError: if what was declared is not there, or is no ranker.
    """
    model: Ranker = MODELS.build(config.name, config, item_indices, category_indices, history_length)
    return model


def code_of(model: ModelConfig, sampler: SamplerConfig) -> list[str]:
    """Dotted names of what a training builds by name: the module that builds it does not import them."""
    chosen = (model.registry[model.name], ACTIVATIONS[model.activation], sampler.registry[sampler.name])
    return [declaration.path for declaration in chosen]
