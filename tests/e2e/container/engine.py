"""A Docker engine and a base image, both made here: no registry of images is asked for anything."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

PROGRAMS = ("docker", "dockerd", "debootstrap")
FREE_BYTES = 16 * 10**9
"""Base, environments and images, in layers and while they are made."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotRun(Exception):
    """Why there is no engine here."""


class Docker:
    """Calls ``docker`` on one engine. The builder is the classic one: BuildKit leaves out the stages that it can."""

    def __init__(self, host: str = "") -> None:
        self._environment = os.environ | {"DOCKER_BUILDKIT": "0"} | ({"DOCKER_HOST": host} if host else {})

    def call(self, *arguments: str | Path, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [_program("docker"), *map(str, arguments)],
            env=self._environment,
            input=data,
            capture_output=True,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def __call__(self, *arguments: str | Path, data: bytes | None = None) -> str:
        """Its output; AssertionError with what it said if it fails."""
        done = self.call(*arguments, data=data)
        assert done.returncode == 0, (
            f"docker {' '.join(map(str, arguments))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
        return done.stdout.strip()


@contextlib.contextmanager
def engine() -> Iterator[Docker]:
    """The engine that runs here, or one of its own, stopped and removed afterwards.

    Raises:
      CannotRun: with the reason.
    """
    if os.geteuid() != 0:
        raise CannotRun("needs root's rights, to start dockerd and to make a base image")
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        raise CannotRun(f"no {', '.join(missing)} here: apt-get install docker.io debootstrap")
    if Docker().call("info").returncode == 0:
        yield Docker()
        return
    with tempfile.TemporaryDirectory(prefix="dockerd-") as folder:
        if (free := shutil.disk_usage(folder).free) < FREE_BYTES:
            raise CannotRun(f"{folder}: {free / 1e9:.0f} GB are free, and images take {FREE_BYTES / 1e9:.0f}")
        command = [_program("dockerd"), "--iptables=false", "--bridge=none", "--host", f"unix://{folder}/socket"]
        command += [
            word for part in ("data-root", "exec-root", "pidfile") for word in (f"--{part}", f"{folder}/{part}")
        ]
        with (Path(folder) / "log").open("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                docker = Docker(f"unix://{folder}/socket")
                deadline = time.monotonic() + 60
                while docker.call("info").returncode != 0:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise CannotRun(f"dockerd does not start: {log.read().strip().splitlines()[-1:]}")
                    time.sleep(0.5)
                yield docker
            finally:
                process.terminate()
                process.wait(60)
                # It leaves the mount of a container's network behind.
                mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
                for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
                    _run("umount", mount)


def import_base(docker: Docker, name: str) -> None:
    """Makes an image of this system's release with this Python, laid out as the official Python images are."""
    own = sys.base_prefix == "/usr"
    python = "python{}.{}".format(*sys.version_info)
    packages = ["ca-certificates", *([python, f"{python}-venv", f"{python}-dev"] if own else _libraries())]
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        root = Path(folder)
        _run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", _release(), folder, _mirror())
        if not own:
            shutil.copytree(sys.base_prefix, root / "usr/local", symlinks=True, dirs_exist_ok=True, ignore=_left_out)
            _run("chroot", folder, "ldconfig")
        # How this machine reaches its index of packages.
        for path in ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
            if os.path.exists(f"/{path}"):
                shutil.copy(f"/{path}", root / path)
        _run("chroot", folder, "apt-get", "clean")
        with subprocess.Popen([_program("tar"), "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            docker("import", "-c", f"ENV PATH={PATH}", "-", name, data=tar.stdout.read())


def import_files(docker: Docker, name: str, files: dict[str, str]) -> None:
    """Makes an image of nothing but these programs: path -> text."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, BytesIO(text.encode()))
    docker("import", "-", name, data=buffer.getvalue())


def _program(name: str) -> str:
    return shutil.which(name) or name


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def _release() -> str:
    return re.findall(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)[0]


def _mirror() -> str:
    targets = _run(
        "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {_release()}"
    )
    return targets.splitlines()[0]


def _libraries() -> list[str]:
    """The packages of the system's libraries that this Python was built with, less those of windows."""
    modules = [
        path for path in Path(sys.base_prefix).glob("lib/python3*/lib-dynload/*.so") if "_tkinter" not in path.name
    ]
    listed = _run("ldd", *map(str, modules), os.path.realpath(sys.executable))
    names = sorted(set(re.findall(r"^\s+(\S+) => /(?:usr/)?lib", listed, re.MULTILINE)))
    return sorted({line.split(":")[0] for line in _run("dpkg", "-S", *(f"*/{name}" for name in names)).splitlines()})


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    """What the official images leave out as well, and packages that were installed beside Python."""
    if folder.endswith("site-packages"):
        return set(names)
    return {name for name in names if name in ("test", "tests", "idle_test", "__pycache__") or name.endswith(".a")}
