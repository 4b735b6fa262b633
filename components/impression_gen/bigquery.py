"""Tables of BigQuery, by Beam's own source."""

from __future__ import annotations

from typing import Final

import apache_beam as beam

from ctr.components.dataset import DatasetConfig
from ctr.components.files import TABLE

ROWS_OF_A_BATCH: Final = (1 << 14, 1 << 18)
"""Fewest and most."""


def read_table(data: str, dataset: DatasetConfig) -> beam.PTransform:
    """The rows of a table as dictionaries, of the columns that the description names alone."""
    project, folder, table = data.removeprefix(TABLE).rsplit(".", 2)
    return beam.io.ReadFromBigQuery(
        table=f"{project}:{folder}.{table}",
        method=beam.io.ReadFromBigQuery.Method.DIRECT_READ,
        selected_fields=[str(column) for column in dict.fromkeys(column for _, column in dataset.all_columns())],
    )
