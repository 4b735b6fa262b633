"""``submit`` and ``schedule`` with the real client against a server that checks what is asked of it."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from kubeflow_package import compile_package
from loopback_api import State, loopback_api
from pages import ROOT, blocks, ctr_commands

from ctr.pipeline.commands import cli
from ctr.pipeline.commands.kubeflow import Package
from ctr.pipeline.runners.kubeflow import following
from ctr.pipeline.runners.kubeflow.api import CA_FILE_ENV, HOST_ENV, NAMESPACE_ENV, TOKEN_ENV, TOKEN_FILE_ENV

DATA = "/data/{YYYY}-{MM}-{DD}.csv"
PARAMETERS = {
    "data": DATA,
    "span": "latest",
    "window_start": "auto",
    "window_end": "auto",
    "window_days": "auto",
    "model": "din",
    "sampler": "random",
    "activation": "dice",
    "epochs": 2,
    "min_auc": 0.867,
    "max_auc": 0.99,
    "max_auc_drop": 0.005,
    "min_auc_margin": 0.0,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("package") / "package.yaml"
    file.write_text(compile_package())
    return file


@pytest.fixture(scope="module")
def tasks(package: Path) -> tuple[str, ...]:
    return Package.read(str(package)).tasks


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (HOST_ENV, NAMESPACE_ENV, TOKEN_ENV, TOKEN_FILE_ENV, CA_FILE_ENV):
        monkeypatch.delenv(name, raising=False)
    # kfp keeps settings under ~/.config.
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def host(state: State) -> Iterator[str]:
    with loopback_api(state) as address:
        yield address


@pytest.fixture
def run(host: str, package: Path) -> Callable[..., int]:
    def run_command(command: str, *more: str) -> int:
        options = ["--package", str(package), "--param", f"data={DATA}", "--host", host, "--timeout", "5"]
        return cli.main([command, *options, *more])

    return run_command


def test_a_first_run_uploads_makes_an_experiment_and_starts(
    state: State, run: Callable[..., int], package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("submit", "--name", "one", "--param", "epochs=3", "--param", "span=2017-12-03") == 0
    assert state.changes() == ["POST /pipelines/upload", "POST /experiments", "POST /runs"]
    [upload] = [asked for asked in state.asked if asked.path == "/pipelines/upload"]
    assert upload.query == {"name": "ctr"}
    assert upload.body == {"uploadfile": package.read_text()}
    assert state.bodies("POST", "/experiments") == [{"display_name": "ctr", "namespace": ""}]
    assert state.bodies("POST", "/runs") == [
        {
            "display_name": "one",
            "experiment_id": "experiment-1",
            "pipeline_version_reference": {
                "pipeline_id": "pipeline-1",
                "pipeline_version_id": "pipeline-1-version-1",
            },
            # A day is a span as TFX counts them.
            "runtime_config": {"parameters": PARAMETERS | {"epochs": 3, "span": "17503"}},
            "service_account": "ctr-pipeline",
        }
    ]
    shown = capsys.readouterr()
    assert shown.out == "run-1\n"
    assert "/#/runs/details/run-1" in shown.err


def test_a_second_run_uploads_a_new_version_and_uses_the_experiment(
    state: State, run: Callable[..., int], package: Path
) -> None:
    assert run("submit", "--experiment", "nightly") == 0
    state.asked.clear()
    assert run("submit", "--experiment", "nightly", "--version", "v2", "--service-account", "other") == 0
    assert state.changes() == ["POST /pipelines/upload_version", "POST /runs"]
    [upload] = [asked for asked in state.asked if asked.path == "/pipelines/upload_version"]
    assert upload.query == {"name": "v2", "pipelineid": "pipeline-1"}
    assert upload.body == {"uploadfile": package.read_text()}
    [body] = state.bodies("POST", "/runs")
    assert body["pipeline_version_reference"]["pipeline_version_id"] == "pipeline-1-version-2"
    assert body["experiment_id"] == "experiment-1"
    assert body["service_account"] == "other"
    assert re.fullmatch(r"ctr din \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", body["display_name"])


def test_a_namespace_is_sent_with_what_belongs_to_it(
    state: State, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    state.health["multi_user"] = True
    monkeypatch.setenv(NAMESPACE_ENV, "team-a")
    assert run("submit") == 0
    assert state.bodies("POST", "/experiments") == [{"display_name": "ctr", "namespace": "team-a"}]
    with_namespace = [a.path for a in state.asked if a.query.get("namespace") == "team-a"]
    assert with_namespace == ["/pipelines", "/pipelines/upload", "/experiments"]


def test_each_request_carries_the_token_of_the_environment(
    state: State, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    state.token = "secret-1"  # noqa: S105
    monkeypatch.setenv(TOKEN_ENV, "secret-1")
    assert run("submit") == 0
    assert {asked.headers.get("authorization") for asked in state.asked} == {"Bearer secret-1"}


def test_a_service_accounts_token_file_is_read_for_each_request(
    state: State, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    state.token = "first"  # noqa: S105
    monkeypatch.setenv(TOKEN_FILE_ENV, str(file))

    class Rotating(list):
        """Changes the token on both sides once the run is started, as a kubelet does."""

        def append(self, asked: Any) -> None:
            super().append(asked)
            if (asked.method, asked.path) == ("GET", "/runs/run-1") and file.read_text() == "first\n":
                file.write_text("second\n")
                state.token = "second"  # noqa: S105
                state.faults.append(("GET", "/runs/run-1", 503))

    state.asked = Rotating()
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 0
    assert [a.headers["authorization"] for a in state.asked if a.path == "/runs/run-1"] == [
        "Bearer first",
        "Bearer second",
    ]


def _ended(tasks: tuple[str, ...], *failed: str) -> dict[str, str]:
    return {task: "FAILED" if task in failed else "SUCCEEDED" for task in tasks}


class Clock:
    """Time that goes on by waiting alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def _fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "time", Clock())


NO_ROOM = "Unschedulable: 0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available."


@pytest.mark.usefixtures("_fast_clock")
def test_the_transcript_of_a_run_that_is_waited_for(
    state: State, tasks: tuple[str, ...], package: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What docs/kubeflow.md shows is what is said: what runs, what waits and why, and where to look in the end."""
    before_trainer = _ended(tuple(task for task in tasks if task not in ("trainer", *AFTER_TRAINER)))
    state.script = [
        ("PENDING", {}),
        ("RUNNING", {"impression-gen-driver": "PENDING"}),
        ("RUNNING", {"impression-gen": "PENDING"}),
        *[("RUNNING", {"impression-gen": "RUNNING"})] * 7,
        *[("RUNNING", {"impression-gen": "SUCCEEDED", "schema-gen": "RUNNING", "statistics-gen": "RUNNING"})] * 7,
        *[("RUNNING", before_trainer | {"trainer": "PENDING"})] * 15,
        *[("RUNNING", before_trainer | {"trainer": "RUNNING"})] * 7,
        ("FAILED", _ended(tasks, "verdict")),
    ]
    state.messages = {"trainer": NO_ROOM, "verdict": "Error (exit code 3)"}
    [text] = [block.text for block in blocks(ROOT / "docs/kubeflow.md") if "NOT BLESSED: nothing was" in block.text]
    command, expected = text.split("\n", 1)
    typed = command.split()[command.split().index("submit") :]
    assert {"--wait", "--package", "ctr-kfp.yaml"} <= set(typed)
    typed[typed.index("ctr-kfp.yaml")] = str(package)

    assert cli.main([*typed, "--host", host]) == 3

    said = capsys.readouterr()
    assert (said.err + said.out).replace(host, "http://localhost:8080") == expected


AFTER_TRAINER = ("evaluator", "pusher", "run-report", "skew-check", "verdict")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_fast_clock")
def test_a_terminal_has_one_line_of_what_is_under_way(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    state.script = [
        *[("RUNNING", {"impression-gen": "RUNNING", "latest-blessed-model": "PENDING"})] * 2,
        ("SUCCEEDED", _ended(tasks)),
    ]
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    assert run("submit", "--wait") == 0

    *passing, rest = screen.getvalue().split("\r\x1b[K")[1 : 1 + 2 * 11 + 1]
    # A look every 10 s, and the times go on every second.
    assert len(passing) == 22
    assert passing[13] == f"[ 0/{len(tasks)}] running: impression-gen 12 s; pending: latest-blessed-model 12 s"[:79]
    lines = [line.rpartition("\x1b[K")[2] for line in screen.getvalue().split("\n")]
    assert [line[:30] for line in lines[: len(tasks)]] == [
        f"[{n:>2}/{len(tasks)}] {task:<22}" for n, task in enumerate(tasks, 1)
    ]
    assert lines[len(tasks)] == "BLESSED"
    assert rest.startswith(f"[ 1/{len(tasks)}]")


def test_a_model_that_was_blessed_ends_with_0_and_says_where_it_is(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("SUCCEEDED", _ended(tasks))]
    assert run("submit", "--wait", "--namespace", "team-a") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[8:32].rstrip() for line in lines[: len(tasks)]] == list(tasks)
    assert lines[len(tasks) : len(tasks) + 2] == [
        "BLESSED",
        "version  in /output/serving/ctr; the last line of step verdict says which, and if an earlier run pushed it",
    ]
    assert lines[-1].endswith("kubectl logs -n team-a -l pipeline/runid=run-1 -c main --prefix --tail=-1")


@pytest.mark.usefixtures("_fast_clock")
def test_a_pod_that_waits_is_said_to_once_a_reason(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("RUNNING", {"trainer": "PENDING", "baselines-driver": "PENDING"})]
    state.messages = {"trainer": NO_ROOM}
    assert run("submit", "--wait", "--wait-seconds", "900") == 1
    assert capsys.readouterr().out.splitlines() == [
        f"[ 0/{len(tasks)}] baselines                pending       120 s  the API does not say why",
        f"[ 0/{len(tasks)}] trainer                  pending       120 s  {NO_ROOM}",
    ]


@pytest.mark.usefixtures("_fast_clock")
def test_where_no_pods_are_told_of_steps_run_as_the_api_says(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.workflows = False
    state.script = [("RUNNING", {"trainer": "PENDING"})]
    assert run("submit", "--wait", "--wait-seconds", "900") == 1
    assert capsys.readouterr().out == f"[ 0/{len(tasks)}] trainer                  running\n"


def test_a_step_whose_driver_failed_failed(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("FAILED", {"impression-gen": "SUCCEEDED", "statistics-gen-driver": "FAILED"})]
    state.messages = {"statistics-gen": "ImagePullBackOff"}
    assert run("submit", "--wait") == 1
    said = capsys.readouterr()
    assert (
        said.out.splitlines()[-1] == f"[ 2/{len(tasks)}] statistics-gen           failed         75 s  ImagePullBackOff"
    )
    assert "the run ended as failed; failed: statistics-gen\nlogs " in said.err


def test_a_step_that_failed_ends_with_1_and_is_named(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("FAILED", {"impression-gen": "SUCCEEDED", "statistics-gen": "FAILED"})]
    state.messages = {"statistics-gen": "OOMKilled (exit code 137)"}
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 1
    said = capsys.readouterr()
    assert "statistics-gen           failed         75 s  OOMKilled (exit code 137)\n" in said.out
    assert "the run ended as failed; failed: statistics-gen\nlogs " in said.err


def test_a_cancelled_run_ends_with_1(state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    state.script = [("CANCELED", {})]
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 1
    assert "the run ended as canceled" in capsys.readouterr().err


def test_waiting_survives_faults_that_pass(
    state: State, tasks: tuple[str, ...], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("RUNNING", {}), ("SUCCEEDED", _ended(tasks))]
    state.faults = [("GET", "/runs/.*", 500), ("GET", "/runs/.*", 503), ("GET", "/runs/.*", 502)]
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 0


def test_waiting_ends_where_faults_do_not_pass(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.faults = [("GET", "/runs/.*", 500)] * 50
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 1
    shown = capsys.readouterr().err
    assert "failed (500) for run run-1" in shown
    assert "the run goes on:" in shown


def test_a_token_that_expires_while_waiting_is_named_and_the_run_goes_on(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("RUNNING", {})]
    state.faults = [("GET", "/runs/.*", 401)]
    assert run("submit", "--wait", "--poll-seconds", "0.01") == 1
    shown = capsys.readouterr().err
    assert "refuses the token (401)" in shown
    assert "expired" in shown
    assert "the run goes on:" in shown


def test_waiting_can_end_before_the_run(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state.script = [("RUNNING", {})]
    assert run("submit", "--wait", "--poll-seconds", "0.01", "--wait-seconds", "0.1") == 1
    assert "has not ended after 0.1 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (("GET", "/healthz", 401), "refuses the token (401)"),
        (("GET", "/healthz", 302), "asks to log in (302"),
        (("GET", "/healthz", 404), "has no /apis/v2beta1 (404): it is a Kubeflow Pipelines 1 server"),
        (("GET", "/healthz", 500), "failed (500) for GET /apis/v2beta1/healthz: as asked"),
        (("GET", "/pipelines", 403), "not allowed (403): pipeline ctr, version v1 in namespace (none given): as asked"),
        (("POST", "/pipelines/upload", 409), "pipeline ctr, version v1: there is one already (409)"),
        (("POST", "/pipelines/upload", 500), "failed (500) for pipeline ctr, version v1"),
        (("POST", "/experiments", 401), "refuses the token (401) for experiment ctr"),
        (("POST", "/runs", 400), "refuses (400) run one: as asked"),
        (("POST", "/runs", 404), "run one: the server knows of none (404)"),
        (("POST", "/runs", 503), "failed (503) for run one"),
    ],
)
def test_a_refusal_is_said_in_words(
    state: State,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    fault: tuple[str, str, int],
    says: str,
) -> None:
    state.faults = [fault]
    assert run("submit", "--name", "one", "--version", "v1") == 1
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
    # A request that changes something is never sent twice.
    assert len(set(state.changes())) == len(state.changes())


@pytest.mark.parametrize("path", ["/healthz", "/pipelines", "/runs"])
def test_a_server_that_hangs_is_given_up(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str], path: str
) -> None:
    state.faults = [("POST" if path == "/runs" else "GET", path, 2.5)]
    assert run("submit", "--timeout", "1.5") == 1
    assert "did not answer within 1.5 s" in capsys.readouterr().err
    assert state.changes().count("POST /runs") == (path == "/runs")


def test_a_version_that_exists_is_not_overwritten(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("submit") == 0
    assert run("submit", "--version", "v2") == 0
    assert run("submit", "--version", "v2") == 1
    assert "version v2: there is one already (409)" in capsys.readouterr().err
    assert len(state.runs) == 2


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ({"tag_name": "2.0.5", "multi_user": False}, "is Kubeflow Pipelines 2.0.5; 2.5.0 or newer is needed"),
        ({"tag_name": "2.4.1"}, "2.5.0 or newer is needed"),
        ({"tag_name": "2.5.0", "multi_user": True}, "is for many users: give the namespace"),
        (["something", "else"], "answers, but not as Kubeflow Pipelines does"),
    ],
)
def test_a_server_that_will_not_do_is_refused_before_anything_is_sent(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str], health: Any, says: str
) -> None:
    state.health = health
    assert run("submit") == 1
    assert says in capsys.readouterr().err
    assert state.changes() == []


@pytest.mark.parametrize("tag", ["2.5.0", "2.14.3", "unknown", "v2.16.1"])
def test_a_server_that_is_new_enough_or_does_not_say_is_used(state: State, run: Callable[..., int], tag: str) -> None:
    state.health = {"tag_name": tag, "multi_user": False}
    assert run("submit") == 0


def test_no_server_is_said_in_words(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = ["submit", "--package", str(package), "--param", f"data={DATA}"]
    assert cli.main([*options, "--host", f"http://127.0.0.1:{port}"]) == 1
    assert f"http://127.0.0.1:{port}: connection refused" in capsys.readouterr().err
    assert cli.main([*options, "--host", "http://no-such-host.invalid"]) == 1
    assert "there is no such host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no host: give --host or set KF_PIPELINES_ENDPOINT"),
        (["--host", "localhost:8080"], "write http:// or https://"),
        (["--host", "http://x", "--token-file", "/no/such/file"], "token file /no/such/file: No such file"),
        (["--host", "http://x", "--param", "epochs"], "expected NAME=VALUE"),
        (["--host", "http://x", "--param", "epochz=2"], "unknown; did you mean epochs? There are data, span"),
        (["--host", "http://x", "--param", "epochs=two"], "parameter epochs: 'two' is no number"),
        (["--host", "http://x", "--param", "epochs=0"], "training.epochs"),
        (["--host", "http://x", "--param", "min_auc=2"], "evaluation.bounds.auc.min"),
        (["--host", "http://x", "--param", "model=gpt"], "model.name"),
        (["--host", "http://x", "--param", "span=monday"], "span: give a number, a day such as 2017-12-03"),
    ],
)
def test_what_is_wrong_is_2_and_nothing_is_sent(
    package: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert cli.main(["submit", "--package", str(package), "--param", f"data={DATA}", *options]) == 2
    assert says in capsys.readouterr().err


def test_a_run_needs_data(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--package", str(package), "--host", "http://x"]) == 2
    assert "--param data=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{}", "a: b", "- 1", "{", "pipelineInfo: {name: x}\ndeploymentSpec: {executors: {}}"]
)
def test_a_file_that_is_no_package_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(text)
    assert cli.main(["submit", "--package", str(file), "--dry-run"]) == 2
    assert "no package that 'compile' wrote" in capsys.readouterr().err


def test_a_recurring_run(state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schedule", "--cron", "0 30 3 * * *", "--param", "min_auc=0.9") == 0
    assert state.changes() == ["POST /pipelines/upload", "POST /experiments", "POST /recurringruns"]
    assert state.bodies("POST", "/recurringruns") == [
        {
            "display_name": "ctr",
            "experiment_id": "experiment-1",
            "pipeline_version_reference": {
                "pipeline_id": "pipeline-1",
                "pipeline_version_id": "pipeline-1-version-1",
            },
            "runtime_config": {"parameters": PARAMETERS | {"min_auc": 0.9}},
            "service_account": "ctr-pipeline",
            "mode": "ENABLE",
            "trigger": {"cron_schedule": {"cron": "0 30 3 * * *"}},
            "max_concurrency": 1,
            "no_catchup": True,
        }
    ]
    assert capsys.readouterr().out == "recurring_run-1\n"


def test_a_recurring_run_is_replaced_only_if_asked(
    state: State, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schedule", "--cron", "0 30 3 * * *") == 0
    assert run("schedule", "--cron", "0 0 4 * * *", "--version", "v2") == 1
    assert "there is one in this experiment (recurring_run-1); give --replace" in capsys.readouterr().err
    assert run("schedule", "--cron", "0 0 4 * * *", "--version", "v3", "--replace") == 0
    assert [r["trigger"]["cron_schedule"]["cron"] for r in state.recurring.values()] == ["0 0 4 * * *"]
    assert state.changes()[-2:] == ["POST /recurringruns", "DELETE /recurringruns/recurring_run-1"]


def test_a_schedule_of_five_fields_is_refused(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schedule", "--cron", "30 3 * * *") == 2
    assert "5 fields; give six, seconds first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options"),
    [("submit", ["--name", "one"]), ("schedule", ["--cron", "0 30 3 * * *", "--namespace", "team-a"])],
)
def test_a_dry_run_prints_what_is_then_sent(
    state: State,
    package: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[str],
) -> None:
    for first in (True, False):
        options = [*options, "--version", "v2"]
        capsys.readouterr()
        assert run(command, *options, "--dry-run") == 0
        assert state.asked == []
        plan = json.loads(capsys.readouterr().out)
        assert run(command, *options, *(["--replace"] if command == "schedule" else [])) == 0
        skipped = ("/upload_version",) if first else ("/upload", "/experiments")
        expected = [step for step in plan if not urlsplit(step["request"].split()[1]).path.endswith(skipped)]
        sent = [asked for asked in state.asked if asked.method == "POST"]
        assert len(sent) == len(expected)
        ids = {
            "(the pipeline's id)": "pipeline-1",
            "(the version's id)": "pipeline-1-version-1" if first else "pipeline-1-version-2",
            "(the experiment's id)": "experiment-1",
        }
        for asked, step in zip(sent, expected, strict=True):
            method, address = step["request"].split()
            url = urlsplit(address)
            assert (method, url.path) == (asked.method, f"/apis/v2beta1{asked.path}")
            assert {name: ids.get(value, value) for name, value in parse_qsl(url.query)} == asked.query
            if "body" in step:
                text = json.dumps(step["body"])
                for name, known in ids.items():
                    text = text.replace(name, known)
                assert json.loads(text) == asked.body
            else:
                assert yaml.safe_load(step["file"].split(",")[0]) == "ctr.yaml"
                assert f"{len(package.read_bytes()):,} bytes" in step["file"]
        state.asked.clear()


@pytest.mark.parametrize("page", ["tutorials/to-a-cluster.md", "kubeflow.md"])
def test_what_the_pages_type_is_done(
    page: str, state: State, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [words for words in ctr_commands(ROOT / "docs" / page) if words[0] in ("compile", "submit", "schedule")]
    compiling = next(words for words in typed if words[0] == "compile" and "vertex" not in words)
    asking = [words for words in typed if "--package" in words]

    assert cli.main(compiling) == 0
    for words in asking:
        state.asked.clear()
        # A page may make the same recurring run twice.
        again = ["--replace"] if words[0] == "schedule" else []
        assert cli.main([*words, *again, "--host", host]) == 0, words
        asked_for = {"submit": "/runs", "schedule": "/recurringruns"}[words[0]]
        assert (f"POST {asked_for}" in state.changes()) == ("--dry-run" not in words)
    assert {words[0] for words in asking} == {"submit", "schedule"}
