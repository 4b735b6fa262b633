"""Ids that are strings, as the integers that the log's events and every request carry.

The id of a string is the first 8 bytes of the BLAKE2b hash (digest of 8 bytes, RFC 7693) of its UTF-8, little-endian,
without the highest bit; 1 where that is 0, which stands for padding. So anybody can compute it, in any language,
without a dictionary.

Two of n strings have one id with a probability of about n^2 / 2^64: 5e-8 for a million, 5e-6 for ten million, 5e-4 for
a hundred million. Ingest sees it and refuses such a log.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_WHOLE: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")

DIGEST_BYTES: Final = 8
MASK: Final = 2**63 - 1


def digest(name: bytes) -> bytes:
    """The bytes that an id is made of."""
    return hashlib.blake2b(name, digest_size=DIGEST_BYTES).digest()


def id_of(name: str) -> int:
    """The id of a string.

    Example:
      >>> id_of("B00006I5WJ")
      6523917574386832123
    """
    return _id_of(name.encode())


def category_of(name: bytes) -> int:
    """The value of a category of a declared feature: a whole number is itself, and other text its id.

    Text is a whole number where it is written as one, ``-7`` or ``12``, and not ``012``, ``12.0`` or ``+12``: so a log
    may hold numbers or text, and gives the same. No text is 0, as 0 is: nothing.
    """
    if not name:
        return 0
    if _WHOLE.fullmatch(name) and abs(number := int(name)) <= MASK:
        return number
    return _id_of(name)


def _id_of(name: bytes) -> int:
    return (int.from_bytes(digest(name), "little") & MASK) or 1
