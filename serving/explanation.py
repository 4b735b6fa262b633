"""Which events of a history weighed for a candidate: what its logit loses when each of them is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ctr.models.impression import CANDIDATE_FEATURES, CONTEXT_FEATURES, HISTORY_FEATURES
from ctr.models.section import Record
from ctr.serving.client import RankingClient
from ctr.serving.impressions import Event, Impression

MAX_REQUEST_VALUES: Final = 2**18
"""Most numbers of one request, 2 MiB: half of gRPC's own limit of a message, enough for a history of 250 events without
features of one's own."""


class WeighedEvent(Event):
    """An event of the history, and what it did."""

    position: int
    """Its index in the history."""
    weight: float
    """The candidate's logit with the whole history less that without this event: above 0, the event spoke for it."""


class Explanation(Record):
    """What the events of a history did for one candidate."""

    item_id: int
    position: int
    """The candidate's index in the request."""
    logit: float
    """With the whole history, the candidate alone in the request."""
    events: tuple[WeighedEvent, ...]
    """In the order of the history."""


def explain(client: RankingClient, impression: Impression, position: int) -> Explanation:
    """Scores a candidate with the history and without each of its events, in one request of a row each.

    Of any model it asks nothing but scores. What it cannot see: of two events that say the same, each alone seems to
    weigh little, since the other one remains; so weights do not add up to the logit. The other events keep their ages.
    A history that is too long for one request takes several, each with a row of the whole history to compare with.

    Args:
      client: asks the server.
      impression: of which only this candidate is sent.
      position: of the candidate in it.

    Raises:
      ServingError: as for :meth:`RankingClient.rank`.
    """
    candidate = impression.candidates[position]
    whole = impression.model_copy(update={"candidates": (candidate,)})
    logit, events = None, []
    for left_out in _batches(len(impression.history)):
        without = [_without(whole, index) for index in left_out]
        first, *others = [ranking.candidates[0].logit for ranking in client.rank_batch([whole, *without])]
        logit = first if logit is None else logit
        events += [
            WeighedEvent(**impression.history[index].model_dump(), position=index, weight=first - other)
            for index, other in zip(left_out, others, strict=True)
        ]
    return Explanation(item_id=candidate.item_id, position=position, logit=logit, events=events)


def position_of(impression: Impression, item_id: int) -> int | None:
    """Of the first candidate with this item."""
    places = (place for place, candidate in enumerate(impression.candidates) if candidate.item_id == item_id)
    return next(places, None)


def _without(impression: Impression, index: int) -> Impression:
    history = impression.history
    return impression.model_copy(update={"history": history[:index] + history[index + 1 :]})


def _batches(events: int) -> Iterator[range]:
    """The events that a request leaves out; of no events one batch, of none."""
    width = len(HISTORY_FEATURES) * events + len(CANDIDATE_FEATURES) + len(CONTEXT_FEATURES)
    size = max(1, MAX_REQUEST_VALUES // width - 1)
    for start in range(0, max(1, events), size):
        yield range(start, min(start + size, events))
