from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_UNSHARE = shutil.which("unshare") or ""
_WAITS = """
import signal, sys, time
from ctr.pipeline.process.endings import Interrupted, handled, last_words
# The tests may run in a shell's background, where these are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
{before}
try:
    with handled():
        {body}
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(error.code)
"""
_SLEEP = "print('ready', flush=True); time.sleep(60)"
_DEAF = """
        while True:
            try:
                print("ready", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                pass
"""
_LAST_WORDS = """
        with last_words(lambda: "goodbye\\n", ["-c", "import os, sys, time; time.sleep(1); print('marked');"
                                                      "sys.exit(int(os.environ['CTR_PIPELINE_EXIT_CODE']))"]):
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("went on", flush=True)
"""


def _start(body: str, before: str = "", *wrapper: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", _WAITS.format(body=body, before=before)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _end(process: subprocess.Popen[str], *numbers: signal.Signals) -> tuple[int, str, str, float]:
    start = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err, time.monotonic() - start


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_the_block_by_an_exception(number: str, code: int) -> None:
    returned, _, err, _ = _end(_start(_SLEEP), signal.Signals[number])
    assert (returned, err) == (code, f"stopped by {number} before the end\n")


def test_what_does_not_come_out_is_ended_after_the_grace() -> None:
    returned, _, err, seconds = _end(_start(_DEAF), signal.SIGTERM)
    assert (returned, err) == (143, "interrupted\n")
    assert seconds > 2


def test_a_second_signal_does_not_wait() -> None:
    process = _start(_DEAF, "from ctr.pipeline.process import endings; endings.GRACE_SECONDS = 300")
    # Two that come at once are one.
    for _ in range(100):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        if process.poll() is not None:
            break
    assert _end(process)[0] == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_last_words_are_said_and_nothing_of_the_block_goes_on(number: signal.Signals) -> None:
    returned, out, err, _ = _end(_start(_LAST_WORDS), number)
    assert (returned, out, err) == (128 + number, "marked\n", "goodbye\n")


def test_a_further_signal_does_not_keep_the_ending_from_its_work() -> None:
    returned, out, _, _ = _end(_start(_LAST_WORDS), signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    assert (returned, out) == (143, "marked\n")


def test_a_reader_who_does_not_read_holds_up_nobody() -> None:
    flood = """
        import os
        os.set_blocking(2, False)
        try:
            while True:
                os.write(2, b"." * 65536)
        except BlockingIOError:
            os.set_blocking(2, True)
"""
    process = _start(flood + _LAST_WORDS)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    process.communicate()


def test_what_the_shell_has_made_deaf_to_ctrl_c_stays_so() -> None:
    process = _start(_SLEEP, "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    assert _end(process, signal.SIGTERM)[0] == 143


def test_a_command_with_a_handler_of_its_own_is_left_to_it() -> None:
    body = """
        import threading
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        print("ready", flush=True)
        stop.wait()
        time.sleep(4)
        print("drained", flush=True)
    """
    returned, out, _, _ = _end(_start(body), signal.SIGTERM)
    assert (returned, out) == (0, "drained\n")


@pytest.mark.skipif(os.geteuid() != 0 or not _UNSHARE, reason="needs unshare and the right to make a PID namespace")
@pytest.mark.parametrize(("body", "err"), [(_SLEEP, "stopped by SIGTERM before the end\n"), (_LAST_WORDS, "goodbye\n")])
def test_process_1_of_a_container_hears_sigterm(body: str, err: str) -> None:
    if subprocess.run([_UNSHARE, "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a PID namespace")
    wrapper = _start(body, "import os; assert os.getpid() == 1", _UNSHARE, "--pid", "--fork", "--kill-child")
    children = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text()
    os.kill(int(children), signal.SIGTERM)
    assert wrapper.communicate(timeout=60)[1] == err
    assert wrapper.returncode == 143
