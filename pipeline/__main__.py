"""``python -m pipeline``; see ``python -m pipeline --help``."""

from __future__ import annotations

import sys

from pipeline.process.endings import Interrupted, handled


def _main() -> int:
    try:
        # Of process 1 of a container this holds from the first import on.
        with handled():
            from pipeline.commands.cli import main

            return main()
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(_main())
