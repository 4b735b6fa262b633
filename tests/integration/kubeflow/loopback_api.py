"""A server that speaks the part of Kubeflow Pipelines' v2beta1 API that a client needs, and is strict about it.

Like the real one it refuses fields it does not know, packages that are no ``PipelineSpec`` of version 2.1.0, and
parameters that the pipeline does not have. What is asked of it is recorded, and it fails on demand.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

PREFIX = "/apis/v2beta1"
OLDER_PREFIX = "/apis/v1beta1"
_RUN_FIELDS = {"display_name", "experiment_id", "pipeline_version_reference", "runtime_config", "service_account"}
_RECURRING_FIELDS = _RUN_FIELDS | {"mode", "trigger", "max_concurrency", "no_catchup"}
_TYPES: dict[str, type | tuple[type, ...]] = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float)}
CREATED = {"created_at": "2026-01-01T00:00:00Z"}
BEGINNING_OF_TIME = "1970-01-01T00:00:00Z"


def _text(part: Message) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
      method: of HTTP.
      path: without query, and without the prefix of the API that is not the older one.
      query: each name's only value.
      headers: lower case.
      body: JSON, or the parts of a multipart body by name.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class State:
    """What the server knows, and how it shall behave.

    Attributes:
      token: that is asked for; empty for none.
      health: what it tells of itself.
      script: what it says of runs: a list of (state, tasks), of which the last is said for ever. A task is PENDING
        where its pod is; the API calls such a task RUNNING. Of one whose driver is at work there is NAME-driver alone.
      messages: of pods, by the name of the task.
      workflows: whether the older API is there, which tells of pods.
      faults: (method, path pattern, status or seconds to hang), each used once, first come first served.
    """

    token: str = ""
    health: dict[str, Any] = field(default_factory=lambda: {"tag_name": "2.5.0", "multi_user": False})
    script: list[tuple[str, dict[str, str]]] = field(default_factory=lambda: [("SUCCEEDED", {})])
    messages: dict[str, str] = field(default_factory=dict)
    workflows: bool = True
    faults: list[tuple[str, str, int | float]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: int = 0

    def bodies(self, method: str, path: str) -> list[Any]:
        """Bodies of the requests to a path."""
        return [asked.body for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def changes(self) -> list[str]:
        """Requests that change something, in order."""
        return [f"{asked.method} {asked.path}" for asked in self.asked if asked.method != "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keeps the terminal clean."""

    def _serve(self) -> None:
        try:
            asked = self._read()
            self.state.asked.append(asked)
            answer, status = self._answer(asked), 200
        except Refusal as refusal:
            # grpc-gateway's form of an error.
            answer, status = {"error": str(refusal), "code": 5, "message": str(refusal), "details": []}, refusal.status
        text = json.dumps(answer).encode()
        # A client that has given up is not there any more.
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def _read(self) -> Asked:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        raw = self.rfile.read(int(headers.get("content-length", 0)))
        body: Any = None
        if headers.get("content-type", "").startswith("multipart/form-data"):
            whole = f"Content-Type: {headers['content-type']}\r\n\r\n".encode() + raw
            parts = BytesParser(policy=HTTP).parsebytes(whole).iter_parts()
            body = {part.get_param("name", header="content-disposition"): _text(part) for part in parts}
        elif raw:
            body = json.loads(raw)
        if not url.path.startswith((PREFIX, OLDER_PREFIX) if self.state.workflows else PREFIX):
            raise Refusal(404, "Not Found")
        return Asked(self.command, url.path.removeprefix(PREFIX), query, headers, body)

    def _answer(self, asked: Asked) -> Any:
        for fault in self.state.faults:
            if asked.method == fault[0] and re.fullmatch(fault[1], asked.path):
                self.state.faults.remove(fault)
                if isinstance(fault[2], float):
                    time.sleep(fault[2])
                    break
                raise Refusal(fault[2], "as asked")
        if self.state.token and asked.headers.get("authorization") != f"Bearer {self.state.token}":
            raise Refusal(401, "Request header error: there is no valid token")
        routes = {
            "GET /healthz": lambda: self.state.health,
            "GET /pipelines": lambda: self._listed("pipelines", self.state.pipelines, asked),
            "POST /pipelines/upload": lambda: self._upload(asked),
            "POST /pipelines/upload_version": lambda: self._upload_version(asked),
            "GET /experiments": lambda: self._listed("experiments", self.state.experiments, asked),
            "POST /experiments": lambda: self._make_experiment(asked),
            "POST /runs": lambda: self._make_run(asked, self.state.runs, "run_id", _RUN_FIELDS),
            "GET /recurringruns": lambda: self._listed("recurringRuns", self.state.recurring, asked),
            "POST /recurringruns": lambda: self._make_recurring(asked),
        }
        route = routes.get(f"{asked.method} {asked.path}")
        if route is not None:
            return route()
        if match := re.fullmatch(r"/pipelines/([\w-]+)/versions", asked.path):
            return {"pipeline_versions": list(reversed(self._known(self.state.pipelines, match[1])["versions"]))}
        if match := re.fullmatch(r"/runs/([\w-]+)", asked.path):
            return self._look(self._known(self.state.runs, match[1]))
        if match := re.fullmatch(rf"{OLDER_PREFIX}/runs/([\w-]+)", asked.path):
            return self._workflow(self._known(self.state.runs, match[1]))
        if (match := re.fullmatch(r"/recurringruns/([\w-]+)", asked.path)) and asked.method == "DELETE":
            self._known(self.state.recurring, match[1])
            del self.state.recurring[match[1]]
            return {}
        raise Refusal(404, "Not Found")

    def _known(self, things: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in things:
            raise Refusal(404, f"{key} not found")
        return things[key]

    def _listed(self, name: str, things: dict[str, dict[str, Any]], asked: Asked) -> dict[str, Any]:
        [predicate] = json.loads(asked.query["filter"])["predicates"]
        # An enum's name or number, as everywhere in JSON of protocol buffers.
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] != "display_name":
            raise Refusal(400, f"filter {predicate}")
        wanted = {"display_name": predicate["stringValue"]}
        for narrower in ("namespace", "experiment_id"):
            if narrower in asked.query:
                wanted[narrower] = asked.query[narrower]
        return {name: [t for t in things.values() if all(t.get(k, "") == v for k, v in wanted.items())]}

    def _package(self, asked: Asked) -> dict[str, Any]:
        spec, platform = yaml.load_all(asked.body["uploadfile"], yaml.CSafeLoader)
        try:
            parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refusal(400, f"invalid v2 pipeline spec: {error}") from error
        if parsed.schema_version != "2.1.0":
            raise Refusal(400, f"KFP only supports schema version 2.1.0, not {parsed.schema_version}")
        return spec

    def _upload(self, asked: Asked) -> dict[str, Any]:
        name, spec = asked.query["name"], self._package(asked)
        if any(p["display_name"] == name for p in self.state.pipelines.values()):
            raise Refusal(409, f"Failed to create a new pipeline: The name {name} already exists")
        pipeline_id = f"pipeline-{len(self.state.pipelines) + 1}"
        pipeline = {"pipeline_id": pipeline_id, "display_name": name, "versions": [], **CREATED}
        if "namespace" in asked.query:
            pipeline["namespace"] = asked.query["namespace"]
        self.state.pipelines[pipeline_id] = pipeline
        self._add_version(pipeline, name, spec)
        return {key: value for key, value in pipeline.items() if key != "versions"}

    def _upload_version(self, asked: Asked) -> dict[str, Any]:
        pipeline = self._known(self.state.pipelines, asked.query["pipelineid"])
        name, spec = asked.query["name"], self._package(asked)
        if any(version["display_name"] == name for version in pipeline["versions"]):
            raise Refusal(409, f"Failed to create a pipeline version: The name {name} already exists")
        return self._add_version(pipeline, name, spec)

    def _add_version(self, pipeline: dict[str, Any], name: str, spec: dict[str, Any]) -> dict[str, Any]:
        version = {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": f"{pipeline['pipeline_id']}-version-{len(pipeline['versions']) + 1}",
            "display_name": name,
            "pipeline_spec": spec,
            **CREATED,
        }
        pipeline["versions"].append(version)
        return version

    def _make_experiment(self, asked: Asked) -> dict[str, Any]:
        self._fields(asked, {"display_name", "namespace"})
        experiment_id = f"experiment-{len(self.state.experiments) + 1}"
        self.state.experiments[experiment_id] = {"experiment_id": experiment_id, **asked.body, **CREATED}
        return self.state.experiments[experiment_id]

    def _make_run(self, asked: Asked, things: dict[str, dict[str, Any]], key: str, fields: set[str]) -> dict[str, Any]:
        self._fields(asked, fields)
        self._known(self.state.experiments, asked.body["experiment_id"])
        reference = asked.body["pipeline_version_reference"]
        pipeline = self._known(self.state.pipelines, reference["pipeline_id"])
        versions = {version["pipeline_version_id"]: version for version in pipeline["versions"]}
        spec = self._known(versions, reference["pipeline_version_id"])["pipeline_spec"]
        self._parameters(spec["root"]["inputDefinitions"]["parameters"], asked.body["runtime_config"]["parameters"])
        made = {key: f"{key.removesuffix('_id')}-{len(things) + 1}", **asked.body, **CREATED}
        things[made[key]] = made
        return made

    def _make_recurring(self, asked: Asked) -> dict[str, Any]:
        made = self._make_run(asked, self.state.recurring, "recurring_run_id", _RECURRING_FIELDS)
        if len(asked.body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise Refusal(400, "The Cron string is malformed")
        return made

    def _fields(self, asked: Asked, known: set[str]) -> None:
        if unknown := set(asked.body) - known:
            raise Refusal(400, f"unknown field {sorted(unknown)}")

    def _parameters(self, definitions: dict[str, Any], given: dict[str, Any]) -> None:
        if unknown := set(given) - set(definitions):
            raise Refusal(400, f"parameter {sorted(unknown)} provided is not required by pipeline")
        for name, definition in definitions.items():
            if name not in given and not definition.get("isOptional"):
                raise Refusal(400, f"parameter {name} is not optional, yet has neither default nor value")
            if name in given and not isinstance(given[name], _TYPES[definition["parameterType"]]):
                raise Refusal(400, f"input parameter {name} requires type {definition['parameterType']}")

    def _look(self, run: dict[str, Any]) -> dict[str, Any]:
        self.state.looks += 1
        state, nodes = self._nodes()
        # The fields that the server fills in: no task's id in Argo, no pod's name, no message.
        details = [
            {
                "run_id": run["run_id"],
                "task_id": f"task-{index}",
                "display_name": node["displayName"],
                "state": node["phase"].upper(),
                "start_time": node["startedAt"],
                "end_time": node["finishedAt"] or BEGINNING_OF_TIME,
                "child_tasks": [{"pod_name": child} for child in node.get("children", [])],
            }
            for index, node in enumerate(nodes.values())
        ]
        return {**run, "state": state, "run_details": {"task_details": details}}

    def _workflow(self, run: dict[str, Any]) -> dict[str, Any]:
        _, nodes = self._nodes()
        manifest = {"kind": "Workflow", "metadata": {"name": "ctr-x7k2p"}, "status": {"nodes": nodes}}
        return {"run": {"id": run["run_id"]}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}

    def _nodes(self) -> tuple[str, dict[str, Any]]:
        """State of the run and nodes of its workflow as Argo has them, at the look that was taken last."""
        state, tasks = self.state.script[min(self.state.looks, len(self.state.script)) - 1]
        nodes: dict[str, Any] = {}

        def add(name: str, kind: str, state: str, boundary: str | None, message: str = "") -> str:
            key = f"ctr-x7k2p-{len(nodes)}"
            ended = state not in ("PENDING", "RUNNING")
            nodes[key] = {
                "id": key,
                "displayName": name,
                "type": kind,
                "phase": state.capitalize(),
                "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:01:15Z" if ended else None,
                **({"boundaryID": boundary} if boundary else {}),
                **({"message": message} if message else {}),
            }
            return key

        root = add("root", "DAG", state, None)
        add("root-driver", "Pod", "SUCCEEDED", None)
        for name, task_state in tasks.items():
            message = self.state.messages.get(name.removesuffix("-driver"), "")
            if name.endswith("-driver"):
                add(name, "Pod", task_state, root, message)
                continue
            add(f"{name}-driver", "Pod", "SUCCEEDED", root)
            of_task = "RUNNING" if task_state == "PENDING" else task_state
            dag = add(name, "DAG", of_task, root)
            nodes[dag]["children"] = [add("executor", "Retry", of_task, dag)]
            add("executor(0)", "Pod", task_state, dag, message)
        return state, nodes


@contextmanager
def loopback_api(state: State) -> Iterator[str]:
    """Serves the API while the block runs.

    Yields:
      Its address.
    """
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
