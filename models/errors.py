"""What every error for a person derives from, and the two kinds that several rooms raise."""

from __future__ import annotations


class CtrError(Exception):
    """Something that a person can set right; the message says what was found, what is expected, and what to do.

    The command line prints the message and no traceback. Everything else that is raised is a fault of the program.
    """


class ConfigError(CtrError, ValueError):
    """A configuration that cannot be used; the message names each field and what it must be."""


class DataError(CtrError, ValueError):
    """A file that cannot be used, or what was made of it; the message says why."""
