"""How requests are put together, and which of them are kept; without TensorFlow, for the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Batching:
    """How requests are put together. Names in brackets are those of TF Serving's ``batching_parameters``."""

    size: int = 16
    """Rows of a batch (``max_batch_size``); 1: none is put together. A request with more runs alone."""
    microseconds: int = 0
    """That a batch which is not full waits for more (``batch_timeout_micros``); with 0 requests come together only
    while those before them run."""
    queue: int = 256
    """Requests that wait at most (``max_enqueued_batches``, there in batches); more get RESOURCE_EXHAUSTED. A server
    has so many only with more threads than it is given by default."""
    threads: int = max(1, (os.cpu_count() or 1) // 2)
    """Batches that run at a time (``num_batch_threads``); the other half of the cores is for what is around them."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("microseconds", 0), ("queue", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"batching: {name}: must be {least} or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class RequestLogSettings:
    """What is kept of requests, and where."""

    folder: Path
    """Gets a folder for each model."""
    rate: float = 0.01
    """Share of the answered requests, above 0 and up to 1."""
    max_mb: float = 1000.0
    """Of all shards in the folder, of all servers that write there; the oldest ones go."""
