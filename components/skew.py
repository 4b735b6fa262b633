"""What came of asking a model in every way, and of what is asked where it is served; readable without TensorFlow."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ctr.models.section import Record

SKEW_FILE: Final = "skew.json"
"""In a ``SkewReport`` artifact, JSON of :class:`SkewFindings`."""


ServedState: TypeAlias = Literal["within", "reported", "stopped", "not_compared"]
"""Of a feature; ``not_compared``: there are too few requests, and it decides nothing."""


class ServedFeature(Record):
    """A feature of the requests that were served, beside the train split's."""

    feature: str
    measure: str
    """In words."""
    value: float | None
    """From 0, alike, to 1; None where it is not compared."""
    served: int
    """Values of it in the requests."""
    trained: int
    """Values of it in the impressions that they are compared with."""
    bound: float | None
    """That was reached, else the next one; None where there is none."""
    state: ServedState


class ServedSkew(Record):
    """A request log beside the data that the model was trained on."""

    request_log: str
    """Its folder."""
    requests: int
    """Impressions in it that were looked at, the newest."""
    first: int | None
    """Unix time of the oldest of them; None where the log has no times."""
    last: int | None
    """Likewise of the newest."""
    versions: dict[int, int]
    """Version that answered -> impressions; empty where the log does not say."""
    trained: int
    """Impressions of the train split that they are compared with."""
    features: tuple[ServedFeature, ...]


class SkewFindings(Record):
    """Of a model that passed."""

    impressions: int
    """Sampled from the eval split."""
    candidates: int
    """Of all of them."""
    tolerance: float
    """Largest difference allowed, of a logit relative to 1 or to itself, whichever is more."""
    model_to_signature: float | None
    """Largest difference found between the model called on what Transform wrote, and the exported signature on raw
    impressions. None if the model's weights are not to be found by their names, so that it was not called."""
    signature_to_server: float
    """Likewise between that signature and the answers over gRPC."""
    served: ServedSkew | None = None
    """None where no request log was given."""
