"""How far the ingest is."""

from __future__ import annotations

from typing import Final

READ: Final = "read"
SORT: Final = "sort"
COUNT: Final = "count"
MERGE: Final = "merge"
CATALOGUE: Final = "catalogue"
ASK: Final = "ask"
PROPOSE: Final = "propose"
WRITE: Final = "write"
