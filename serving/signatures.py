"""The names in a model and its requests that client, server, export and Evaluator share."""

from __future__ import annotations

from typing import Final

RANK_SIGNATURE: Final = "rank"
DEFAULT_SIGNATURE: Final = "serving_default"
"""What a server runs for a request that names no signature."""
TRANSFORM_FEATURES: Final = "transform_features"
AS_LOGGED_SIGNATURE: Final = "as_logged"
"""The default one with what an example says where that puts a constant; where there is such a constant."""
DECLARED: Final = "declared_features"
"""Signature and output of a model with declared features: ``examples`` [B] string, of which nothing is read, -> [B]
string, for each the rows of the table of features as JSON. So a client knows them without a configuration."""
EXAMPLES: Final = "examples"
"""Input of all but the first."""
PROBABILITY: Final = "probability"
LOGIT: Final = "logit"
SIGNATURE_DEF_FIELD: Final = "signature_def"
"""Of a version's metadata: its signatures."""
HISTORY: Final = "history_"
CANDIDATE: Final = "candidate_"
"""How the names of inputs begin that have a value for each event, or for each candidate."""
