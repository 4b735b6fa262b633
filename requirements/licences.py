"""Writes licences.txt from the metadata of what is installed: `.venv/bin/python requirements/licences.py`.

Run it in an environment of each stack; what the other one alone has is kept, and what was filled in by hand.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parent
LIST = FOLDER / "licences.txt"


def licence(distribution: metadata.Distribution) -> str:
    """The SPDX expression, else the classifiers, else the free text's first line, else `unknown`."""
    fields = distribution.metadata
    classifiers = [
        name.rsplit(" :: ", 1)[1] for name in fields.get_all("Classifier") or [] if name.startswith("License :: ")
    ]
    text = (fields.get("License") or "").strip().splitlines()
    return fields.get("License-Expression") or ", ".join(sorted(set(classifiers))) or (text[0] if text else "unknown")


def canonical(name: str) -> str:
    """A name as locks write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Reads the locks, this environment and the list that is there, and writes the list."""
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", "".join(lock.read_text() for lock in FOLDER.glob("*.lock")), re.MULTILINE)
    )
    known = dict(line.split("\t") for line in LIST.read_text().splitlines()) if LIST.exists() else {}
    found = {canonical(package.metadata["Name"]): licence(package) for package in metadata.distributions()}
    known |= {name: text for name, text in found.items() if text != "unknown"}
    LIST.write_text("".join(f"{name}\t{known.get(name, 'unknown')}\n" for name in sorted(locked)))


if __name__ == "__main__":
    main()
