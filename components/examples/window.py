"""The window of stored impressions. ImpressionGen writes it onto its examples; from there, other steps read it.

No configuration tells it: it may count back from the day of a span, which ImpressionGen's driver finds.
"""

from __future__ import annotations

from typing import Any, Final

KEYS: Final = ("window_first_second", "window_last_second")


def write_window(examples: Any, window: tuple[int, int]) -> None:
    """Keeps the first and last Unix second as properties of a TFX artifact."""
    for key, second in zip(KEYS, window, strict=True):
        examples.set_int_custom_property(key, second)


def read_window(examples: Any) -> tuple[int, int]:
    """Inverse of :func:`write_window`."""
    first, last = (examples.get_int_custom_property(key) for key in KEYS)
    return first, last
