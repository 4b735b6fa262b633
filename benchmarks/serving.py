"""What an answer of the server costs, beside the floor: the same SavedModel called in a process, a request at a time.

The floor, the server of this checkout with each choice of ``--serve``, and that of another checkout (``--against``)
take turns in every round; all have the same request and as many threads for an operation (one). Clients are loops that
send the bytes of one request again and again and wait for each answer, each by a connection of its own, in processes of
their own (one a core; they share the machine with the server). Printed: the median over rounds of p50, p95 and p99,
answers a second, CPU time for an answer (user and system) of the server and of its clients, the server's resident
memory, and p50 and answers/s relative to the floor's in the same round. The floor has the request's arrays already and
answers nobody: it reads no message, writes none, and has no clients beside it.

    .venv/bin/python -m benchmarks.serving --serving output/demo/serving/ctr
    .venv/bin/python -m benchmarks.serving --serving output/demo/serving/ctr --quick --against ../main

Behind it, with ``--reload-seconds``: a load of 8 clients alone and then with a new version each 5 s, failed requests,
the versions that answered, the first answer of each, and memory over ``--loads`` loads.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

ROOT: Final = Path(__file__).resolve().parents[1]
MODEL: Final = "ctr"
PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
CASES: Final = (
    # signature or rest, candidates, history, clients
    *(("rank", candidates, history, 1) for history in (50, 200) for candidates in (1, 10, 100, 1000)),
    *(("rank", candidates, 50, clients) for candidates in (10, 100) for clients in (8, 32, 64)),
    *(("serving_default", 100, 50, clients) for clients in (1, 32)),
    *(("rest", 100, 50, clients) for clients in (1, 8)),
)
QUICK: Final = (
    *(("rank", candidates, 50, 1) for candidates in (1, 100, 1000)),
    *(("rank", candidates, 50, 32) for candidates in (10, 100)),
    ("serving_default", 100, 50, 1),
)
FIRST_ANSWERS: Final = 5
"""Of each client, which are not counted."""
SECONDS_BETWEEN_VERSIONS: Final = 5.0
HEADER: Final = (
    "| asked | candidates | history | clients | side | p50, ms | p95 | p99 | answers/s | CPU ms an answer | "
    "of clients | memory, MB | p50, of the floor | answers/s, of the floor |"
)

SERVER: Final = """
import json, sys
from contextlib import ExitStack
base, options = sys.argv[1], json.loads(sys.argv[2])
count = options.pop("processes", 1)
if "batching" in options:
    from ctr.serving.limits import Batching
    options["batching"] = Batching(**options["batching"])
options["poll_seconds"] = 0.2
if count > 1:
    from pathlib import Path
    from ctr.serving.models_config import ModelConfig
    from ctr.serving.processes import Plan, Processes
    server = Processes(Plan((ModelConfig("ctr", Path(base)),), rest_port=0, options=options), count)
else:
    import tensorflow as tf
    from ctr.serving.server import Access, ModelServer
    tf.config.threading.set_intra_op_parallelism_threads(1)
    server = ModelServer(base, "ctr", access=Access(rest_port=0), **options)
with server:
    server.wait_until_ready(300)
    print(json.dumps([server.port, server.rest_port]), flush=True)
    sys.stdin.read()
"""
"""It runs in other checkouts, too."""

Case = tuple[str, int, int, int]


class Load(NamedTuple):
    """What clients saw.

    Attributes:
      seconds: [answers] of each, from sending to the answer.
      ends: [answers] when it came, by the machine's clock.
      versions: [answers] that answered; 0 where nobody looked.
      failed: what went wrong, once for each kind.
      duration: seconds that the load lasted.
      answers: with those that are not counted.
    """

    seconds: np.ndarray
    ends: np.ndarray
    versions: np.ndarray
    failed: dict[str, int]
    duration: float
    answers: int


class Row(NamedTuple):
    """Of one side in one round."""

    p50: float
    p95: float
    p99: float
    rate: float
    cpu: float
    of_clients: float
    memory: float

    @classmethod
    def of(cls, load: Load, cpu: float, of_clients: float, memory: float) -> Row:
        """Seconds of CPU for all answers, and megabytes."""
        if load.failed:
            sys.exit(f"requests failed: {load.failed}")
        p50, p95, p99 = np.percentile(load.seconds, (50, 95, 99)) * 1000
        of_answer = 1000 / load.answers
        return cls(p50, p95, p99, len(load.seconds) / load.duration, cpu * of_answer, of_clients * of_answer, memory)


def cpu_seconds(pid: int) -> float:
    """User and system, of a process and its children that live."""
    total = 0.0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def resident(pid: int) -> float:
    """Megabytes, of a process and its children."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid)) * 4096 / 1e6


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *itertools.chain.from_iterable(family(int(child)) for child in children)]


def request_of(asked: str, candidates: int, history: int) -> bytes:
    """The bytes of a request: a message, or the body for REST."""
    from ctr.serving.impressions import Candidate, Event, Impression
    from ctr.serving.requests import examples_request, rank_request

    draw = np.random.default_rng(1).integers(1, 5000, (2, history + candidates)).tolist()
    events = [
        Event(item_id=item, category_id=category, behavior="pv", age_seconds=10**6 - index)
        for index, (item, category) in enumerate(zip(draw[0][:history], draw[1][:history], strict=True))
    ]
    several = [
        Candidate(item_id=item, category_id=category)
        for item, category in zip(draw[0][history:], draw[1][history:], strict=True)
    ]
    impression = Impression(history=events, candidates=several)
    if asked == "rest":
        inputs = {name: [list(values)] for name, values in impression.features().items()}
        return json.dumps({"signature_name": "rank", "inputs": inputs}).encode()
    make = rank_request if asked == "rank" else examples_request
    sent: bytes = make([impression], MODEL).SerializeToString()
    return sent


async def ask_by_grpc(port: int, request: bytes, clients: int, seconds: float, look: bool) -> list[list[Any]]:
    """Of each client: seconds, ends, versions, failures."""
    import grpc

    from ctr.serving.messages import PredictResponse

    async def client() -> list[Any]:
        took, ends, versions, failed = [], [], [], []
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            predict = channel.unary_unary(PREDICT)
            for _ in range(FIRST_ANSWERS):
                await predict(request, timeout=60)
            until = time.perf_counter() + seconds
            while (start := time.perf_counter()) < until:
                try:
                    answer = await predict(request, timeout=5)
                except grpc.RpcError as error:
                    failed.append(f"{error.code().name}: {error.details()}")
                    continue
                took.append(time.perf_counter() - start)
                ends.append(time.time())
                versions.append(PredictResponse.FromString(answer).model_spec.version.value if look else 0)
        return [took, ends, versions, failed]

    return await asyncio.gather(*(client() for _ in range(clients)))


def ask_by_rest(port: int, body: bytes, clients: int, seconds: float) -> list[list[Any]]:
    """The same by HTTP, a connection for each request."""
    answers: list[list[Any]] = [[[], [], [], []] for _ in range(clients)]

    def ask() -> float:
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("POST", f"/v1/models/{MODEL}:predict", body)
        if connection.getresponse().status != 200:
            raise ConnectionError("not 200")
        connection.close()
        return time.perf_counter() - start

    def client(took: list[float], ends: list[float], versions: list[int], failed: list[str]) -> None:
        for _ in range(FIRST_ANSWERS):
            ask()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            try:
                took.append(ask())
            except OSError as error:
                failed.append(f"{type(error).__name__}: {error}")
                continue
            ends.append(time.time())
            versions.append(0)

    threads = [threading.Thread(target=client, args=mine) for mine in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def clients_process() -> None:
    """Asks as each line of its input says."""
    for line in sys.stdin:
        asked, port, path, clients, seconds, look = json.loads(line)
        request = Path(path).read_bytes()
        answers = (
            ask_by_rest(port, request, clients, seconds)
            if asked == "rest"
            else asyncio.run(ask_by_grpc(port, request, clients, seconds, look))
        )
        print(json.dumps(answers), flush=True)


def floor_process(folder: str) -> None:
    """Calls the SavedModel as each line of its input says."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    for setting in (
        tf.config.threading.set_intra_op_parallelism_threads,
        tf.config.threading.set_inter_op_parallelism_threads,
    ):
        setting(1)
    loaded = tf.saved_model.load(folder, tags=["serve"])
    print("READY", flush=True)
    for line in sys.stdin:
        path, seconds = json.loads(line)
        request = predict_pb2.PredictRequest.FromString(Path(path).read_bytes())
        signature = loaded.signatures[request.model_spec.signature_name]
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        took = []

        def call(signature: Any = signature, inputs: Any = inputs) -> None:
            outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
            for output in outputs.values():
                output.numpy()

        for _ in range(FIRST_ANSWERS):
            call()
        cpu, begin = time.process_time(), time.perf_counter()
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            call()
            took.append(time.perf_counter() - start)
        print(json.dumps([took, time.process_time() - cpu]), flush=True)


class Process:
    """A process of this file or of a server, which answers lines."""

    def __init__(self, command: Sequence[str], checkout: Path = ROOT) -> None:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._stdin: Any = self._process.stdin
        self._stdout: Any = self._process.stdout

    def tell(self, *words: Any) -> None:
        """Sends a line."""
        print(json.dumps(words), file=self._stdin, flush=True)

    def answer(self) -> str:
        """Waits for a line."""
        line: str = self._stdout.readline()
        if not line:
            sys.exit(f"a process ended with code {self._process.wait()}; what it said stands above")
        return line

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Server(NamedTuple):
    """One that runs."""

    process: Process
    port: int
    rest_port: int
    base: Path


@contextmanager
def server_of(version: Path, options: str, checkout: Path, folder: Path) -> Iterator[Server]:
    """A server with a folder of its own, which holds the version."""
    base = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(version, base / "1")
    with Process(["-c", SERVER, str(base), options], checkout) as process:
        port, rest_port = json.loads(process.answer())
        yield Server(process, port, rest_port, base)


def ask(clients: Sequence[Process], server: Server, asked: str, path: Path, number: int, seconds: float) -> Load:
    """A load of so many clients; it looks at versions where that is what is measured."""
    used = clients[: min(number, len(clients))]
    port = server.rest_port if asked == "rest" else server.port
    for index, process in enumerate(used):
        share = number // len(used) + (index < number % len(used))
        process.tell(asked, port, str(path), share, seconds, asked == "reload")
    answers = [json.loads(process.answer()) for process in used]
    several = [client for process in answers for client in process]
    took, ends, versions, failures = (
        list(itertools.chain.from_iterable(column)) for column in zip(*several, strict=True)
    )
    failed = {words: failures.count(words) for words in set(failures)}
    return Load(np.array(took), np.array(ends), np.array(versions), failed, seconds, len(took) + FIRST_ANSWERS * number)


def measured(case: Case, path: Path, side: Server | None, floor: Process, clients: Any, seconds: float) -> Row:
    """One side in one round."""
    if side is None:
        floor.tell(str(path), seconds)
        took, cpu = json.loads(floor.answer())
        load = Load(np.array(took), np.empty(0), np.empty(0), {}, sum(took), len(took))
        return Row.of(load, cpu, 0.0, resident(floor.pid))
    before = cpu_seconds(side.process.pid), sum(cpu_seconds(client.pid) for client in clients)
    load = ask(clients, side, case[0], path, case[3], seconds)
    after = cpu_seconds(side.process.pid), sum(cpu_seconds(client.pid) for client in clients)
    return Row.of(load, after[0] - before[0], after[1] - before[1], resident(side.process.pid))


def print_answers(
    cases: Sequence[Case],
    sides: dict[str, Server | None],
    floor: Process,
    clients: Sequence[Process],
    folder: Path,
    options: argparse.Namespace,
) -> None:
    """The table of answers."""
    print(HEADER)
    print("|" + " --- |" * HEADER.count(" |"), flush=True)
    for case in cases:
        asked, candidates, history, number = case
        paths = {}
        for name in {asked, "rank" if asked == "rest" else asked}:
            paths[name] = folder / f"{name}-{candidates}-{history}"
            paths[name].write_bytes(request_of(name, candidates, history))
        rounds = [
            {
                name: measured(
                    case,
                    paths[asked if side else next(n for n in paths if n != "rest")],
                    side,
                    floor,
                    clients,
                    options.seconds,
                )
                for name, side in sides.items()
            }
            for _ in range(options.rounds)
        ]
        for name in sides:
            columns = [statistics.median(column) for column in zip(*(each[name] for each in rounds), strict=True)]
            p50 = statistics.median(each[name].p50 / each["floor"].p50 for each in rounds)
            rate = statistics.median(each[name].rate / each["floor"].rate for each in rounds)
            shown = "-" if sides[name] is None else str(number)
            numbers = "{:.2f} | {:.2f} | {:.2f} | {:.0f} | {:.2f} | {:.2f} | {:.0f}".format(*columns)
            print(
                f"| {asked} | {candidates} | {history} | {shown} | {name} | {numbers} | {p50:.2f} | {rate:.2f} |",
                flush=True,
            )


def push(server: Server, version: int) -> None:
    """A new version, complete by one rename."""
    incoming = server.base / f".{version}.incoming"
    shutil.copytree(server.base / str(version - 1), incoming)
    incoming.rename(server.base / str(version))


def print_reloads(
    sides: dict[str, Server | None], clients: Sequence[Process], folder: Path, options: argparse.Namespace
) -> None:
    """A load alone and with new versions, for each server."""
    path = folder / "reload"
    path.write_bytes(request_of("rank", 100, 50))
    print(
        "\n| side | answers/s alone | with new versions | ratio | p99 alone, ms | with new versions | ratio | failed | "
        "versions pushed | versions that answered | first answer of a version, of the p50 (largest) | "
        "memory, MB, by loads |"
    )
    print("|" + " --- |" * 12, flush=True)
    for name, server in sides.items():
        if server is None:
            continue
        alone = ask(clients, server, "reload", path, options.reload_clients, options.reload_seconds / 3)
        pushed = max(1, int(options.reload_seconds / SECONDS_BETWEEN_VERSIONS))

        def versions(server: Server = server, pushed: int = pushed) -> None:
            for version in range(2, 2 + pushed):
                push(server, version)
                time.sleep(SECONDS_BETWEEN_VERSIONS)

        pusher = threading.Thread(target=versions)
        pusher.start()
        load = ask(clients, server, "reload", path, options.reload_clients, options.reload_seconds)
        pusher.join()
        memory = [resident(server.process.pid)]
        for version in range(2 + pushed, 2 + pushed + options.loads):
            push(server, version)
            time.sleep(options.load_seconds)
            memory.append(resident(server.process.pid))
        rates = [len(each.seconds) / each.duration for each in (alone, load)]
        tails = [float(np.percentile(each.seconds, 99)) * 1000 for each in (alone, load)]
        answered = sorted(set(load.versions.tolist()) - {1})
        order = np.argsort(load.ends)
        firsts = [load.seconds[order][np.flatnonzero(load.versions[order] == version)[0]] for version in answered]
        first = max(firsts, default=float("nan")) / np.median(alone.seconds)
        print(
            f"| {name} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[1] / rates[0]:.2f} | "
            f"{tails[0]:.1f} | {tails[1]:.1f} | "
            f"{tails[1] / tails[0]:.2f} | {load.failed or 0} | {pushed} | {len(answered)} | {first:.1f} | "
            f"{', '.join(f'{megabytes:.0f}' for megabytes in memory)} |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serving", type=Path, metavar="DIR", help="a model's folder of versions, e.g. of the demo")
    parser.add_argument(
        "--serve", action="append", metavar="NAME=JSON", help="arguments of ModelServer, and processes; repeatable"
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="whose server answers, too")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, under 4 minutes")
    parser.add_argument("--only", metavar="WORDS", help="the one case ASKED,CANDIDATES,HISTORY,CLIENTS")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="of a side in a round; default: 3, with --quick 1.5")
    parser.add_argument("--reload-seconds", type=float, help="default: 60, with --quick 20; 0: none")
    parser.add_argument("--reload-clients", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--loads", type=int, help="without a load, for memory; default: 20, with --quick 5")
    parser.add_argument("--load-seconds", type=float, default=3.0, help="for one of them; default: %(default)s")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        floor_process(options.child[1]) if options.child[0] == "floor" else clients_process()
        return
    if options.serving is None:
        parser.error("--serving DIR: give a model's folder of versions; 'demo' makes output/demo/serving/ctr")
    found = sorted((path for path in options.serving.glob("[0-9]*") if path.name.isdigit()), key=lambda p: int(p.name))
    if not found:
        parser.error(f"--serving {options.serving}: holds no version")
    options.seconds = options.seconds or (1.5 if options.quick else 3.0)
    if options.reload_seconds is None:
        options.reload_seconds = 20.0 if options.quick else 60.0
    if options.loads is None:
        options.loads = 5 if options.quick else 20
    cases: Sequence[Case] = QUICK if options.quick else CASES
    if options.only:
        asked, *numbers = options.only.split(",")
        cases = [(asked, *map(int, numbers))]
    chosen = dict(each.split("=", 1) for each in options.serve or ["server={}"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        floor = stack.enter_context(Process(["-m", "benchmarks.serving", "--child", "floor", str(found[-1].resolve())]))
        floor.answer()
        sides: dict[str, Server | None] = {"floor": None}
        for name, words in chosen.items():
            sides[name] = stack.enter_context(server_of(found[-1], words, ROOT, folder))
        if options.against:
            other = server_of(found[-1], "{}", options.against.resolve(), folder)
            sides[options.against.name or "against"] = stack.enter_context(other)
        clients = [
            stack.enter_context(Process(["-m", "benchmarks.serving", "--child", "clients"]))
            for _ in range(os.cpu_count() or 1)
        ]
        print_answers(cases, sides, floor, clients, folder, options)
        if options.reload_seconds:
            print_reloads(sides, clients, folder, options)


if __name__ == "__main__":
    main()
