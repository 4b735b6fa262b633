"""How declared features get into a process: by the settings that it reads, as plugins do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from ctr.models.impression import declare_features, from_plain


def _declare(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    declare_features(map(from_plain, rows))
    return tuple(rows)


Declared = Annotated[tuple[dict[str, Any], ...], AfterValidator(_declare)]
"""What ``impression.declared_features()`` gave elsewhere; reading it makes these the declared rows of this process,
and of none, that there are none."""
