"""Models by name: a new model is one new file and one line here."""

from __future__ import annotations

from models.config import ModelConfig
from models.contract import Ranker
from models.din import DIN
from models.dnn import DNN

MODELS: dict[str, type[Ranker]] = {
    "dnn": DNN,
    "din": DIN,
}


def build_model(config: ModelConfig, item_indices: int, category_indices: int, history_length: int) -> Ranker:
    """A new, initialised model.

    Args:
      config: its configuration.
      item_indices: size of the item index space, padding and unknown included.
      category_indices: likewise.
      history_length: L, the longest history in training.
    """
    return MODELS[config.name](config, item_indices, category_indices, history_length)
