"""What is wrong with stored impressions."""

from __future__ import annotations

from models.errors import CtrError


class ExamplesError(CtrError, ValueError):
    """Impressions, or what was counted of them, that a step cannot work with."""
