"""``ctr``; see ``ctr --help``."""

from __future__ import annotations

import sys

from ctr.pipeline.process.endings import Interrupted, handled


def main() -> int:
    """What the command ``ctr`` runs; returns its exit code."""
    try:
        # Of process 1 of a container this holds from the first import on.
        with handled():
            from ctr.pipeline.commands import cli

            return cli.main()
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
