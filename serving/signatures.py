"""The names in a model and its requests that client, server, export and Evaluator share."""

from __future__ import annotations

from typing import Final

RANK_SIGNATURE: Final = "rank"
DEFAULT_SIGNATURE: Final = "serving_default"
"""What a server runs for a request that names no signature."""
TRANSFORM_FEATURES: Final = "transform_features"
EXAMPLES: Final = "examples"
"""Input of those two."""
PROBABILITY: Final = "probability"
LOGIT: Final = "logit"
HISTORY: Final = "history_"
CANDIDATE: Final = "candidate_"
"""How the names of inputs begin that have a value for each event, or for each candidate."""
