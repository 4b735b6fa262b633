"""The image's contents as a container would run them: another root, read-only, without root's rights.

No container engine is needed: a mount namespace holds the system's libraries, this environment in the place of the
image's, and what the Dockerfile copies, all read-only, with a writable /tmp and /output.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ctr

ROOT = Path(__file__).parents[3]
UID = 10001

IMPORT_ALL = """
import importlib, json, os, pkgutil, ctr
names = []
for _, name, _ in pkgutil.walk_packages(ctr.__path__, "ctr."):
    # A module named __main__ runs the command line when imported.
    if not name.endswith(".__main__"):
        importlib.import_module(name)
        names.append(name)
refused = []
for path in (ctr.__path__[0] + "/x", "/opt/venv/x", "/etc/x", "/x"):
    try:
        open(path, "w").close()
    except OSError as error:
        refused.append(error.errno)
open("/output/x", "w").close()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps(dict(modules=names, refused=refused, ids=[os.getuid(), os.getgid(), *os.getgroups()],
                      capabilities=status["CapEff"].strip() + status["CapBnd"].strip())))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs another command in the image's root."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("needs root's rights, unshare and setpriv to make a mount namespace")
    folder = tmp_path_factory.mktemp("image")
    app, root = folder / "app", folder / "root"
    root.mkdir()
    for name in re.findall(r"^COPY (\w+) /app/\1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        shutil.copytree(ROOT / name, app / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    system = [path for path in ("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64") if os.path.lexists(path)]
    # Interpreter and folders of packages keep their places; the environment itself goes where the image has it.
    places = {sys.base_prefix: sys.base_prefix, os.path.realpath(sys.prefix): "/opt/venv", str(app): "/app"}
    places |= {path: path for path in sys.path if "site-packages" in path and not path.startswith(sys.prefix)}
    script = ["set -eu", "mount --make-rprivate /", f"mount -t tmpfs -o mode=755 tmpfs {root}"]
    for path in system:
        if os.path.islink(path):
            script.append(f"cp -P {path} {root}{path}")
        else:
            places[path] = path
    for source, target in places.items():
        if not any(target != other and target.startswith(f"{other}/") for other in places.values()):
            source, place = shlex.quote(source), shlex.quote(f"{root}{target}")
            script += [f"mkdir -p {place}", f"mount --bind {source} {place}", f"mount -o remount,bind,ro {place}"]
    for path in ("/tmp", "/output"):  # noqa: S108
        script += [f"mkdir {root}{path}", f"mount -t tmpfs -o mode=1777 tmpfs {root}{path}"]
    script += [
        f"mkdir {root}/proc {root}/dev",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -o remount,ro {root}",
        f"exec chroot {root} setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs --inh-caps=-all"
        ' --bounding-set=-all -- "$@"',
    ]
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "\n".join(script), "sh"]
    probe = subprocess.run([*command, "/bin/true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespace can be made here: {probe.stderr.strip()}")
    return command


def environment() -> dict[str, str]:
    """The image's variables, of the Dockerfile's last ENV before USER."""
    text = re.search(r"^ENV (PATH=.*?)^USER", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)
    assert text is not None
    pairs = dict(pair.split("=", 1) for pair in text[1].replace("\\\n", " ").split())
    return pairs | {
        "PATH": pairs["PATH"].replace("$PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_every_module_imports_without_root_on_a_read_only_root(image: list[str]) -> None:
    result = subprocess.run(
        [*image, "python", "-c", IMPORT_ALL], env=environment(), cwd="/", capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert {"ctr.pipeline.commands.cli", "ctr.pipeline.dag", "ctr.components.trainer.run", "ctr.serving.server"} <= set(
        found["modules"]
    )
    assert len(found["modules"]) > 100
    assert found["refused"] == [30, 30, 30, 30], "expected EROFS"
    assert found["ids"] == [UID, UID]
    assert found["capabilities"] == "0" * 32


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["show-config", "--preset", "full"]], ids=lambda words: words[0]
)
def test_entry_point_answers(image: list[str], arguments: list[str]) -> None:
    entry = json.loads(re.findall(r'^ENTRYPOINT (\["python".*)$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0])

    result = subprocess.run(
        [*image, *entry, *arguments],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    answer = {"--help": "usage: ctr", "--version": f"ctr-pipeline {ctr.__version__}\n"}
    assert answer.get(arguments[0], "served_model_name: ctr") in result.stdout
