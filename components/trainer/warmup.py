"""The requests that a server runs on a new version before it takes traffic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from ctr.components.examples.impressions import first_features
from ctr.models.errors import DataError
from ctr.serving.impressions import Impression
from ctr.serving.requests import examples_request, rank_request

_CANDIDATES: Final = (1, 10, 100)
_IMPRESSIONS: Final = 1000


def warmup_requests(files: Sequence[str], history_length: int) -> list[Message]:
    """Requests of each size that a server meets, made of real impressions.

    Args:
      files: raw impressions, TFRecord gzip. The first thousand are read: the longest history is taken, and as
        candidates the distinct ones of all, again from the first where there are too few.
      history_length: L.

    Returns:
      For ``rank`` one request for each pair of a history (none, the latest event, the latest L) and a number of
      candidates (1, 10, 100); for ``serving_default`` all of these as one batch, and the largest alone.

    Raises:
      DataError: if there is no impression.
    """
    impressions = [Impression.from_features(features) for features in first_features(files, _IMPRESSIONS)]
    if not impressions:
        raise DataError("no impressions to make warmup requests of: the split is empty")
    longest = max(impressions, key=lambda impression: len(impression.history))
    distinct = {str(candidate): candidate for impression in impressions for candidate in impression.candidates}.values()
    candidates = tuple(itertools.islice(itertools.cycle(distinct), max(_CANDIDATES)))
    sizes = itertools.product((0, 1, history_length), _CANDIDATES)
    warmup = [
        longest.model_copy(
            update={
                "history": longest.history[max(0, len(longest.history) - length) :],
                "candidates": candidates[:count],
            }
        )
        for length, count in sizes
    ]
    # A server runs them whatever the name that it knows the model by.
    ranked = [rank_request([impression], model_name="") for impression in warmup]
    return [*ranked, examples_request(warmup, model_name=""), examples_request(warmup[-1:], model_name="")]
