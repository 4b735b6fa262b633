"""What came of asking a model in every way, as data: readable without TensorFlow or TFX."""

from __future__ import annotations

from typing import Final

from ctr.models.section import Record

SKEW_FILE: Final = "skew.json"
"""In a ``SkewReport`` artifact, JSON of :class:`SkewFindings`."""


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
