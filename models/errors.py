"""What every error for a person derives from."""

from __future__ import annotations


class CtrError(Exception):
    """Something that a person can set right; the message says what was found, what is expected, and what to do.

    The command line prints the message and no traceback. Everything else that is raised is a fault of the program.
    """
