"""Opens Parquet files that may be anybody's.

Below 14.0.1 pyarrow unpickles what a file's schema says of a column, which runs code (CVE-2023-47248). Beam forbids it,
but only where Beam is imported; a log is looked at without it.
"""

from __future__ import annotations

from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from ctr.models.errors import DataError

if hasattr(pa, "PyExtensionType") and not hasattr(pa.PyExtensionType, "set_auto_load"):
    import pyarrow_hotfix  # noqa: F401


def open_parquet(raw: IO[bytes], path: str) -> pq.ParquetFile:
    """Opens a file of that name.

    Raises:
      DataError: if it is damaged, or has a column of a type that only Python code could read.
    """
    try:
        return pq.ParquetFile(raw)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: a damaged Parquet file: {error}") from error
    except RuntimeError as error:
        raise DataError(
            f"{path}: a column has a type of Python's own (arrow.py_extension_type), which would run code; write the "
            "file with plain types"
        ) from error
