from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctr.components import usage
from ctr.components.usage import Meter, Usage

MB = 10**6
ROOT = Path(__file__).parents[3]
_WORKER = (
    "import time; held = b'x' * 300_000_000; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
)


def _measured(meter: Meter) -> Usage:
    assert meter.usage is not None
    return meter.usage


def test_the_peak_is_the_one_since_the_start() -> None:
    # In a process of its own: what another test has started counts, too, and is looked at twice a second alone.
    code = f"""
from ctr.components.usage import Meter
with Meter() as first:
    held = bytearray({300 * MB})
    del held
with Meter() as second:
    pass
print(first.usage.peak_memory, second.usage.peak_memory)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(int, done.stdout.split())
    # What the first block held for a moment is seen in it, though nobody looked meanwhile, and not in the second one.
    assert before - after > 200 * MB


def test_processor_time_is_of_the_block_and_not_of_the_clock() -> None:
    with Meter() as meter:
        time.sleep(0.2)
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    found = _measured(meter)
    assert found.seconds >= 0.5
    assert found.cpu_seconds is not None
    assert 0.3 <= found.cpu_seconds < 0.45


def test_processes_that_were_started_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_SECONDS_BETWEEN_LOOKS", 0.02)
    with Meter() as alone:
        pass
    with Meter() as meter:
        subprocess.run([sys.executable, "-c", _WORKER], check=True)
    found, without = _measured(meter), _measured(alone)
    assert found.cpu_seconds is not None
    assert found.cpu_seconds >= 0.4
    assert found.peak_memory is not None
    assert without.peak_memory is not None
    assert found.peak_memory - without.peak_memory > 250 * MB


def test_where_the_kernel_tells_nothing_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_bytes_of", lambda *_: 0)
    monkeypatch.setattr(usage, "_forget_peak", lambda: False)
    with Meter() as meter:
        pass
    assert _measured(meter).peak_memory is None
    assert _measured(meter).seconds < 1
