"""Counts of requests and loads, under TF Serving's names in Prometheus' text format."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc

_REQUESTS: Final = ":tensorflow:serving:request_count"
_LATENCY: Final = ":tensorflow:serving:request_latency"
_LOADS: Final = ":tensorflow:cc:saved_model:load_attempt_count"
_LOAD_TIME: Final = ":tensorflow:cc:saved_model:load_latency"
_LOGGED: Final = "ctr_request_log_total"
"""The project's own: TF Serving counts nothing of its request log."""

_BOUNDS: Final = [10 * 1.8**power for power in range(33)]
"""Microseconds, TF Serving's own buckets: alerts on them hold for both servers."""
_MILLION: Final = 1_000_000


class Metrics:
    """What a server counts. Safe to call from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[tuple[str, str, str], list[int]] = {}
        self._micros: Counter[tuple[str, str, str]] = Counter()
        self._loads: Counter[tuple[str, str]] = Counter()
        self._load_micros: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()

    def request(self, model: str, api: str, entrypoint: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts an answer, and where it is one the time that it took."""
        with self._lock:
            self._requests[model, code.name] += 1
            if code is grpc.StatusCode.OK:
                key = (model, api, entrypoint)
                buckets = self._buckets.setdefault(key, [0] * (len(_BOUNDS) + 1))
                buckets[bisect.bisect_right(_BOUNDS, seconds * _MILLION)] += 1
                self._micros[key] += round(seconds * _MILLION)

    def load(self, path: str, loaded: bool, seconds: float) -> None:
        """Counts a version that was loaded, or could not be."""
        with self._lock:
            self._loads[path, "success" if loaded else "fail"] += 1
            self._load_micros[path] += round(seconds * _MILLION)

    def logged(self, status: str) -> None:
        """Counts a request for the request log: ``written``, ``dropped`` or ``failed``."""
        with self._lock:
            self._logged[status] += 1

    def snapshot(self) -> Snapshot:
        """All of them now, for another process to add to its own."""
        with self._lock:
            buckets = {key: list(several) for key, several in self._buckets.items()}
            return Snapshot(
                Counter(self._requests),
                buckets,
                Counter(self._micros),
                Counter(self._loads),
                Counter(self._load_micros),
                Counter(self._logged),
            )

    def text(self) -> str:
        """All of them, as Prometheus reads them."""
        return text_of([self.snapshot()])


class Snapshot(NamedTuple):
    """What was counted until some moment; times are microseconds."""

    requests: Counter[tuple[str, str]]
    buckets: dict[tuple[str, str, str], list[int]]
    micros: Counter[tuple[str, str, str]]
    loads: Counter[tuple[str, str]]
    load_micros: Counter[str]
    logged: Counter[str]


def text_of(snapshots: Sequence[Snapshot]) -> str:
    """The sum of several processes', as Prometheus reads it."""
    requests: Counter[tuple[str, str]] = sum((each.requests for each in snapshots), Counter())
    micros: Counter[tuple[str, str, str]] = sum((each.micros for each in snapshots), Counter())
    loads: Counter[tuple[str, str]] = sum((each.loads for each in snapshots), Counter())
    load_micros: Counter[str] = sum((each.load_micros for each in snapshots), Counter())
    logged: Counter[str] = sum((each.logged for each in snapshots), Counter())
    histograms: dict[tuple[str, str, str], list[int]] = {}
    for each in snapshots:
        for key, buckets in each.buckets.items():
            before = histograms.get(key, [0] * len(buckets))
            histograms[key] = [mine + its for mine, its in zip(before, buckets, strict=True)]
    lines = [f"# TYPE {_REQUESTS} counter"]
    lines += [
        f"{_REQUESTS}{_labels(model_name=model, status=status)} {count}"
        for (model, status), count in sorted(requests.items())
    ]
    lines.append(f"# TYPE {_LATENCY} histogram")
    for key, buckets in sorted(histograms.items()):
        names = dict(zip(("model_name", "API", "entrypoint"), key, strict=True))
        total = 0
        for bound, count in zip([*_BOUNDS, None], buckets, strict=True):
            total += count
            le = "+Inf" if bound is None else f"{bound:g}"
            lines.append(f"{_LATENCY}_bucket{_labels(**names, le=le)} {total}")
        lines.append(f"{_LATENCY}_sum{_labels(**names)} {micros[key]}")
        lines.append(f"{_LATENCY}_count{_labels(**names)} {total}")
    lines.append(f"# TYPE {_LOADS} counter")
    lines += [
        f"{_LOADS}{_labels(model_path=path, status=status)} {count}" for (path, status), count in sorted(loads.items())
    ]
    lines.append(f"# TYPE {_LOAD_TIME} counter")
    lines += [f"{_LOAD_TIME}{_labels(model_path=path)} {took}" for path, took in sorted(load_micros.items())]
    if logged:
        lines.append(f"# TYPE {_LOGGED} counter")
        lines += [f"{_LOGGED}{_labels(status=status)} {count}" for status, count in sorted(logged.items())]
    return "\n".join(lines) + "\n"


def _labels(**values: str) -> str:
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
