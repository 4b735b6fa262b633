"""Models by name: a new model is one new file and one line here."""

from __future__ import annotations

from models.bert4rec import BERT4Rec
from models.caser import Caser
from models.config import ModelConfig
from models.contract import Ranker
from models.dien import DIEN
from models.din import DIN
from models.dnn import DNN
from models.gru4rec import GRU4Rec
from models.lstm import LSTM
from models.rnn import RNN
from models.transformer4rec import Transformer4Rec

MODELS: dict[str, type[Ranker]] = {
    "dnn": DNN,
    "rnn": RNN,
    "lstm": LSTM,
    "gru4rec": GRU4Rec,
    "transformer4rec": Transformer4Rec,
    "caser": Caser,
    "din": DIN,
    "dien": DIEN,
    "bert4rec": BERT4Rec,
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
