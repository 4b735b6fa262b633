"""A log with declared features of each kind, as its description says."""

from __future__ import annotations

from typing import Any, Final

from ctr.components.dataset import DatasetConfig
from ctr.models.impression import BEHAVIORS

NAMES: Final = ("u", "i", "c", "b", "t")
DECLARED: Final[dict[str, Any]] = {
    "price": {"of": "item", "column": "price", "type": "number", "default": -1},
    "brand": {"of": "item", "column": "brand"},
    "tags": {"of": "item", "column": "tags", "type": "categories", "max_values": 2, "used": ["candidate"]},
    "strength": {"of": "event", "column": "strength", "type": "number"},
    "years": {"of": "user", "column": "years", "type": "number"},
    "device": {"of": "request", "column": "device"},
    "hour": {"of": "request", "computed": "hour_of_day"},
    "day": {"of": "request", "computed": "day_of_week"},
}
ZONE: Final = "Asia/Kathmandu"


def described(**values: Any) -> DatasetConfig:
    """Of a CSV file, unless these values say something else."""
    return DatasetConfig.model_validate(
        {
            "columns": dict(zip(("user", "item", "category", "behavior", "time"), NAMES, strict=True)),
            "behaviors": {name: name for name in BEHAVIORS},
            "time": {"zone": ZONE},
            "header": values.get("format", "csv") == "csv",
            "features": DECLARED,
            **values,
        }
    )
