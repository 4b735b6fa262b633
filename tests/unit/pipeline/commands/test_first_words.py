"""What can be said without TensorFlow, TFX and Beam is said without them, and a word comes before they are loaded.

Imports are looked at, not seconds: a hook stops the process where the first of these packages is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from blessed_versions import version

from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig
from ctr.pipeline.release.change import Versions
from ctr.pipeline.release.labels import Labels

ROOT = Path(__file__).parents[4]
STOPPED = 77
_HOOK = f"""
import os, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tfx", "apache_beam"):
            os._exit({STOPPED})

sys.meta_path.insert(0, Stop())
from ctr.pipeline.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _HOOK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def other_server() -> Iterator[int]:
    """The port of a gRPC server that ranks nothing."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log, a run's folder with a served model, and impressions good and bad."""
    generate(GeneratorConfig(users=30), tmp_path / "log.csv")
    (tmp_path / "served" / "serving" / "ctr" / "1").mkdir(parents=True)
    candidate = {"item_id": 1, "category_id": 2}
    (tmp_path / "good.json").write_text(json.dumps({"history": [], "candidates": [candidate]}))
    (tmp_path / "bad.json").write_text(json.dumps({"history": [], "candidates": []}))
    return tmp_path


ERRORS = [
    ("run --data missing", 2, "missing does not exist"),
    ("run --data log.csv --set training.epochz=2", 2, "did you mean epochs?"),
    ("run --data log.csv --output log.csv", 1, "is a file"),
    ("sweep --data missing", 2, "missing does not exist"),
    ("sweep --data log.csv --models bogus", 2, "'bogus' is not known"),
    ("sweep --data log.csv --models dnn --seeds 0", 2, "at least 1"),
    ("serve --output nosuch", 1, "no pushed model"),
    ("serve --output served --model other", 1, "no such folder"),
    ("serve --output served --port TAKEN", 1, "cannot listen on 127.0.0.1:TAKEN: Address already in use"),
    ("predict --impression missing.json", 1, "missing.json: cannot be read"),
    ("predict --impression bad.json", 1, "candidates: must have at least 1 item"),
    ("predict --impression good.json --port 1", 1, "no server reachable at 127.0.0.1:1: Connection refused"),
    ("predict --output nosuch", 1, "no pushed model"),
    ("predict --output served --port TAKEN", 1, "metadata.sqlite: no such file"),
    ("runs --output nosuch", 1, "no such folder"),
    ("runs --output served", 1, "metadata.sqlite: no such file; has a pipeline run with this --output?"),
    ("runs --output gs://bucket/output", 2, "this is an address"),
    ("compare a b --output served", 1, "metadata.sqlite: no such file"),
    ("lineage 1 --output served", 1, "metadata.sqlite: no such file"),
    ("release status --output nosuch", 1, "no pushed model"),
    ("release status --output served --server h:1 --tls-key key.pem", 2, "go together, and with --tls-ca"),
    ("release rollback --output served", 1, "nothing to go back to"),
    ("release promote 1 --yes --output served", 1, "nothing says that this version was blessed"),
    ("generate --output x.csv --dirt bogus=3", 2, "there are negative_timestamp"),
    ("generate --output x.txt", 1, "must end in .csv"),
    ("demo --output log.csv", 1, "is a file"),
    ("compile --set kubeflow.image=''", 2, "kubeflow.image: name the image"),
    ("compile --set kubeflow.image=r/c:1 --file no/such/file.yaml", 1, "there is no folder"),
    ("compile --set kubeflow.image=r/c:1 --file served", 1, "is a folder"),
    ("submit --data /data --set kubeflow.image=r/c:1", 2, "no host"),
    ("submit --data data --host http://127.0.0.1:1", 2, "'data' is relative"),
    ("submit --data /data --set kubeflow.image=r/c:1 --host http://127.0.0.1:1", 1, "connection refused"),
    ("submit --data /data --param epoch=2", 2, "did you mean epochs?"),
    ("schedule --cron 1 --data /data", 2, "give six, seconds first"),
    ("schedule --cron 0,0,4,*,*,* --data /data --set kubeflow.image=r/c:1 --host http://127.0.0.1:1", 1, "refused"),
]


@pytest.mark.parametrize(("command", "code", "says"), ERRORS, ids=[command for command, _, _ in ERRORS])
def test_an_error_does_not_wait_for_tensorflow(
    command: str, code: int, says: str, folder: Path, taken_port: int
) -> None:
    # A comma stands for a space within an argument.
    spaced = [word.replace(",", " ") for word in command.replace("TAKEN", str(taken_port)).split()]
    done = run(*spaced, cwd=folder)
    assert done.returncode == code, done.stderr
    assert says.replace("TAKEN", str(taken_port)) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_release_goes_on_and_back_without_tensorflow(folder: Path) -> None:
    base = folder / "served" / "serving" / "ctr"
    for number in (5, 6):
        version(base, number)
    for arguments in (("promote", "5", "--yes"), ("status",)):
        done = run("release", *arguments, "--output", "served", cwd=folder)
        assert done.returncode == 0, done.stderr
    file = Versions(str(base), "ctr").file()
    file.write(file.with_labels(Labels(6, 6, 5)))
    shutil.rmtree(base / "6")
    done = run("release", "rollback", "--output", "served", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert Versions(str(base), "ctr").file().labels == Labels(5, 5)


WORK = [
    ("run --data log.csv", "DIN: log.csv -> output"),
    ("sweep --data log.csv --models dnn", "Loading TensorFlow and TFX ..."),
    ("serve --output served --port 0", "Loading TensorFlow ..."),
    ("demo --users 20", "Generating a log of 20 users ..."),
    ("compile --set kubeflow.image=r/c:1", "Compiling the pipeline, with TensorFlow and TFX ..."),
    ("submit --data /data --set kubeflow.image=r/c:1 --dry-run", "Compiling the pipeline, with TensorFlow and TFX ..."),
]


@pytest.mark.parametrize(("command", "first"), WORK, ids=[command for command, _ in WORK])
def test_a_word_comes_before_tensorflow(command: str, first: str, folder: Path, taken_port: int) -> None:
    arguments = command.replace("TAKEN", str(taken_port)).split()
    done = run(*arguments, cwd=folder)
    assert done.returncode == STOPPED, done.stderr
    assert done.stderr.splitlines()[0] == first
    if arguments[0] in ("run", "sweep", "demo"):
        assert "Loading TensorFlow and TFX ..." in done.stderr
    silent = run(*arguments, "--quiet", cwd=folder)
    assert (silent.returncode, silent.stderr) == (STOPPED, "")


def test_predict_asks_without_tensorflow(folder: Path, other_server: int) -> None:
    done = run("predict", "--impression", "good.json", "--port", str(other_server), cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: 127.0.0.1:{other_server} failed with UNIMPLEMENTED")


@pytest.mark.parametrize("command", ["show-config", "completion bash", "generate --users 20 --output x.csv"])
def test_some_commands_need_no_tensorflow(command: str, folder: Path) -> None:
    assert run(*command.split(), cwd=folder).returncode == 0
