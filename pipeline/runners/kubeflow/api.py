"""The client of Kubeflow Pipelines' API: uploads a package, starts and schedules runs, and tells of them.

The requests are ``kfp``'s own. What is added: a look at the server before anything is sent, a timeout for each
request, and faults in words.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ctr.models.errors import CtrError

if TYPE_CHECKING:
    import kfp

HOST_ENV: Final = "KF_PIPELINES_ENDPOINT"
NAMESPACE_ENV: Final = "KF_PIPELINES_NAMESPACE"
TOKEN_ENV: Final = "KF_PIPELINES_TOKEN"  # noqa: S105 (a name)
TOKEN_FILE_ENV: Final = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (a name)
CA_FILE_ENV: Final = "KF_PIPELINES_CA_FILE"

OLDEST: Final = (2, 5, 0)
"""The first version that fills in a run's id in a step's arguments, retries steps, and tolerates taints."""

FAILED_STATES: Final = frozenset({"FAILED", "ERROR"})
"""States of a run or a step that went wrong."""
DRIVER: Final = "-driver"
"""After a step's name: the helper that Kubeflow Pipelines runs before it, in a pod of its own."""


class ApiError(CtrError):
    """The API cannot be reached, or refuses; the message says what to do.

    Attributes:
      may_pass: whether the same request may succeed later.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Server:
    """Where the API is, and who asks."""

    host: str
    """Its address, with http:// or https://."""
    namespace: str = ""
    """Of the profile, on an installation for many users; empty elsewhere."""
    token: str = ""
    """A bearer token; empty for none."""
    token_file: str = ""
    """A file with one, read again for each request; a service account's changes every hour."""
    ca_file: str = ""
    """Certificate authority of a server whose certificate is not signed by a public one."""
    timeout: float = 60
    """Seconds until a request is given up."""

    @classmethod
    def from_environment(cls, timeout: float = 60, **given: str | None) -> Server:
        """Takes what is given, and from the environment what is not (None).

        Args:
          timeout: seconds.
          **given: the other attributes, by name.

        Raises:
          ApiError: if no host is known, or the token's file cannot be read.
        """
        names = {
            "host": HOST_ENV,
            "namespace": NAMESPACE_ENV,
            "token": TOKEN_ENV,
            "token_file": TOKEN_FILE_ENV,
            "ca_file": CA_FILE_ENV,
        }
        values = {field: os.environ.get(name, "") for field, name in names.items()}
        values |= {field: value for field, value in given.items() if value is not None}
        if not values["host"]:
            raise ApiError(
                f"no host: give --host or set {HOST_ENV}, e.g. http://localhost:8080 after "
                "'kubectl port-forward -n kubeflow svc/ml-pipeline 8080:8888'"
            )
        if "://" not in values["host"]:
            raise ApiError(f"host {values['host']}: write http:// or https:// before it")
        # A flag is meant, whatever the environment holds.
        if given.get("token") is not None:
            values["token_file"] = ""
        elif values["token_file"]:
            values["token"] = ""
        values["host"] = values["host"].rstrip("/")
        server = cls(**values, timeout=timeout)
        server.bearer()
        return server

    def bearer(self) -> str:
        """The token as it is now; empty for none.

        Raises:
          ApiError: if its file cannot be read.
        """
        if not self.token_file:
            return self.token
        try:
            with open(self.token_file, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise ApiError(f"token file {self.token_file}: {error.strerror}") from error


class StepState(NamedTuple):
    """One step of a run, as the API tells it."""

    name: str
    """Of the task."""
    state: str
    """``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ..."""
    seconds: float | None
    """That it ran; None while it runs."""


class Pod(NamedTuple):
    """The newest pod of a step, its driver's where it has none yet, as Argo tells it."""

    phase: str
    """``Pending``, ``Running``, ``Succeeded``, ``Failed``, ...; empty where nothing is known."""
    message: str
    """Why it waits (``Unschedulable: 0/1 nodes are available: ...``) or failed (``OOMKilled (exit code 137)``)."""


class Submission(NamedTuple):
    """What is to run, once or again and again."""

    name: str
    """Of the run; of a recurring run, unique in its experiment."""
    experiment_id: str
    """As :meth:`Api.experiment` returned it."""
    pipeline: tuple[str, str]
    """As :meth:`Api.upload` returned it."""
    parameters: dict[str, Any]
    """By name."""
    service_account: str
    """Of the run's pods; empty for the installation's."""

    def arguments(self) -> dict[str, Any]:
        """As ``kfp`` takes it, but for experiment and name."""
        return {
            "params": self.parameters,
            "pipeline_id": self.pipeline[0],
            "version_id": self.pipeline[1],
            "service_account": self.service_account or None,
        }


class Api:
    """A connection to the API of one server.

    Args:
      server: where, and who asks.

    Raises:
      ApiError: if it cannot be reached, refuses, or is too old.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._check_server()
        self._client = self._connect()

    def upload(self, file: str, name: str, version: str) -> tuple[str, str]:
        """Uploads a package as a new version of a pipeline, or as the first one.

        Args:
          file: the package.
          name: of the pipeline.
          version: name of the version; the server names a first one after the pipeline.

        Returns:
          Ids of pipeline and version.

        Raises:
          ApiError: if the server refuses, e.g. as there is such a version.
        """
        with self._words(f"pipeline {name}, version {version}"):
            pipelines = self._client.list_pipelines(
                filter=_named(name), namespace=self._server.namespace or None
            ).pipelines
            if pipelines:
                pipeline_id = pipelines[0].pipeline_id
                uploaded = self._client.upload_pipeline_version(file, version, pipeline_id=pipeline_id)
                return pipeline_id, uploaded.pipeline_version_id
            pipeline = self._client.upload_pipeline(file, name, namespace=self._server.namespace or None)
            versions = self._client.list_pipeline_versions(
                pipeline.pipeline_id, page_size=1, sort_by="created_at desc"
            ).pipeline_versions
            return pipeline.pipeline_id, versions[0].pipeline_version_id

    def experiment(self, name: str) -> str:
        """The id of an experiment; made where there is none.

        Raises:
          ApiError: if the server refuses.
        """
        with self._words(f"experiment {name}"):
            made = self._client.create_experiment(name, namespace=self._server.namespace or None)
            return str(made.experiment_id)

    def start(self, run: Submission) -> str:
        """Starts a run; gives its id.

        Raises:
          ApiError: if the server refuses.
        """
        with self._words(f"run {run.name}"):
            return str(self._client.run_pipeline(run.experiment_id, run.name, **run.arguments()).run_id)

    def schedule(self, run: Submission, cron: str, replace: bool) -> str:
        """Makes a recurring run: one at a time, and missed ones are not made up for. Gives its id.

        Args:
          run: which one.
          cron: six fields, seconds first, in the server's time zone.
          replace: remove those of the same name once the new one is made.

        Raises:
          ApiError: if there is one of this name and it is not to be replaced, or the server refuses.
        """
        with self._words(f"recurring run {run.name}"):
            listed = self._client.list_recurring_runs(experiment_id=run.experiment_id, filter=_named(run.name))
            before = [each.recurring_run_id for each in listed.recurring_runs or []]
            if before and not replace:
                raise ApiError(
                    f"recurring run {run.name}: there is one in this experiment ({', '.join(before)}); "
                    "give --replace, or another --name"
                )
            made: str = self._client.create_recurring_run(
                run.experiment_id,
                run.name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                **run.arguments(),
            ).recurring_run_id
            for old in before:
                self._client.delete_recurring_run(old)
            return made

    def state(self, run_id: str) -> tuple[str, list[StepState]]:
        """State of a run, and of its steps as far as they are known.

        Raises:
          ApiError: if the server refuses.
        """
        with self._words(f"run {run_id}"):
            run = self._client.get_run(run_id)
        details = run.run_details.task_details if run.run_details else None
        steps = []
        for detail in details or []:
            seconds = None
            # A step that has not ended has the beginning of time as its end.
            if detail.start_time and detail.end_time and detail.end_time >= detail.start_time:
                seconds = (detail.end_time - detail.start_time).total_seconds()
            steps.append(StepState(detail.display_name, detail.state or "PENDING", seconds))
        return run.state or "PENDING", steps

    def pods(self, run_id: str) -> dict[str, Pod]:
        """The pods of a run's steps, by the step's name; empty from a server that does not tell.

        The API of the runs has no field that says of a pod which step's it is, nor why it waits. The older API beside
        it has the whole workflow, which says both.

        Raises:
          ApiError: if the server fails, for a reason that may pass.
        """
        try:
            with self._words(f"run {run_id}"):
                answer = self._client._run_api.api_client.call_api(
                    "/apis/v1beta1/runs/{run_id}",
                    "GET",
                    {"run_id": run_id},
                    header_params={"Accept": "application/json"},
                    response_type="object",
                    auth_settings=["Bearer"],
                    _return_http_data_only=True,
                )
                workflow = json.loads(answer.get("pipeline_runtime", {}).get("workflow_manifest") or "{}")
        except ApiError as error:
            if error.may_pass:
                raise
            return {}
        nodes = workflow.get("status", {}).get("nodes") or {}
        found: dict[str, Pod] = {}
        # Of a step that is tried again, the newest counts.
        for node in sorted(nodes.values(), key=lambda node: node.get("startedAt") or ""):
            if node.get("type") == "Pod":
                # A driver has its step's name, other pods lie in a node that has it.
                named = node if node["displayName"].endswith(DRIVER) else nodes.get(node.get("boundaryID"), node)
                found[named["displayName"].removesuffix(DRIVER)] = Pod(
                    node.get("phase", ""), " ".join(node.get("message", "").split())
                )
        return found

    def run_page(self, run_id: str) -> str:
        """Where a browser shows a run, if host is the user interface's address, too."""
        return f"{self._server.host}/#/runs/details/{run_id}"

    def logs_command(self, run_id: str) -> str:
        """A command that prints the logs of all steps of a run, for who has the cluster's API."""
        namespace = self._server.namespace or "kubeflow"
        return f"kubectl logs -n {namespace} -l pipeline/runid={run_id} -c main --prefix --tail=-1"

    def _check_server(self) -> None:
        import urllib3

        headers = {"Authorization": f"Bearer {token}"} if (token := self._server.bearer()) else {}
        with self._words("GET /apis/v2beta1/healthz"):
            pool = urllib3.PoolManager(ca_certs=self._server.ca_file or None, retries=False)
            answer = pool.request(
                "GET",
                f"{self._server.host}/apis/v2beta1/healthz",
                headers=headers,
                timeout=urllib3.Timeout(self._server.timeout),
                redirect=False,
            )
        if answer.status == 404:
            raise ApiError(
                f"{self._server.host} has no /apis/v2beta1 (404): it is a Kubeflow Pipelines 1 server, or the address "
                "of something else"
            )
        if 300 <= answer.status < 400:
            raise ApiError(
                f"{self._server.host} asks to log in ({answer.status}, to {answer.headers.get('Location', '?')}): "
                f"give a token ({TOKEN_ENV} or --token-file)"
            )
        if answer.status >= 400:
            raise ApiError(_refusal(answer.status, answer.data, "GET /apis/v2beta1/healthz", self._server))
        try:
            health = json.loads(answer.data)
            tag, multi_user = str(health.get("tag_name", "")), bool(health.get("multi_user"))
        except (ValueError, AttributeError) as error:
            raise ApiError(f"{self._server.host} answers, but not as Kubeflow Pipelines does") from error
        # Built from source, a server does not know its version.
        numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", tag)
        if numbers and tuple(map(int, numbers.groups())) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ApiError(
                f"{self._server.host} is Kubeflow Pipelines {tag}; {oldest} or newer is needed: older ones do not fill "
                "in a run's id in the arguments of its steps"
            )
        if multi_user and not self._server.namespace:
            raise ApiError(
                f"{self._server.host} is for many users: give the namespace of a profile with --namespace or "
                f"{NAMESPACE_ENV}"
            )

    def _connect(self) -> kfp.Client:
        import kfp
        from kfp_server_api import rest

        timeout = (self._server.timeout, self._server.timeout)

        class TimedRest(rest.RESTClientObject):
            """kfp's requests have no timeout, and none of its calls takes one."""

            def request(self, *arguments: Any, **named: Any) -> Any:
                named["_request_timeout"] = named.get("_request_timeout") or timeout
                return super().request(*arguments, **named)

        credentials = None
        if self._server.token_file:
            from kfp.client import ServiceAccountTokenVolumeCredentials

            credentials = ServiceAccountTokenVolumeCredentials(self._server.token_file)
        with self._words("connecting"):
            client = kfp.Client(
                self._server.host,
                # kfp's word for none.
                namespace=self._server.namespace or "kubeflow",
                existing_token=self._server.token or None,
                credentials=credentials,
                ssl_ca_cert=self._server.ca_file or None,
            )
        # One ApiClient is behind all of kfp's calls; there is no public way to it.
        api_client = client._run_api.api_client
        # A repeated POST could make a second run.
        api_client.configuration.retries = False
        api_client.rest_client = TimedRest(api_client.configuration)
        return client

    @contextlib.contextmanager
    def _words(self, what: str) -> Iterator[None]:
        import kfp_server_api
        import urllib3.exceptions as faults

        server = self._server
        try:
            # kfp prints links for a notebook's reader.
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            if not error.status:
                raise ApiError(f"{server.host}: {' '.join(str(error.reason).split())}") from error
            raise ApiError(
                _refusal(error.status, error.body, what, server), may_pass=error.status >= 500 or error.status == 429
            ) from error
        except faults.SSLError as error:
            raise ApiError(
                f"{server.host}: the certificate is not trusted ({error}); give the authority's with --ca-file"
            ) from error
        except faults.TimeoutError as error:
            # Of urllib3's connection errors, that of a refused connection counts as a timeout, too.
            if isinstance(error, faults.NewConnectionError):
                raise ApiError(_no_connection(server, error), may_pass=True) from error
            raise ApiError(
                f"{server.host} did not answer within {server.timeout:g} s: {what}", may_pass=True
            ) from error
        except (faults.HTTPError, OSError) as error:
            raise ApiError(_no_connection(server, error), may_pass=True) from error
        except ValueError as error:
            raise ApiError(f"{what}: {error}") from error


def _no_connection(server: Server, error: BaseException) -> str:
    text = str(error)
    if "refused" in text:
        return f"{server.host}: connection refused; is the server, or kubectl port-forward, running?"
    if "resolve" in text or "Name or service not known" in text or "getaddrinfo" in text:
        return f"{server.host}: there is no such host"
    return f"{server.host}: {text.rpartition('>: ')[2]}"


def _refusal(status: int, body: Any, what: str, server: Server) -> str:
    detail = _detail(body)
    said = f": {detail}" if detail else ""
    if status == 401:
        return (
            f"{server.host} refuses the token (401) for {what}; it is missing, wrong or expired. Give one with "
            f"{TOKEN_ENV}, or a file that is kept fresh with --token-file"
        )
    if status == 403:
        return f"not allowed (403): {what} in namespace {server.namespace or '(none given)'}{said}"
    if status == 404:
        return f"{what}: the server knows of none (404){said}"
    if status == 409:
        return f"{what}: there is one already (409){said}; choose another name"
    if status >= 500:
        return f"{server.host} failed ({status}) for {what}{said}"
    return f"{server.host} refuses ({status}) {what}{said}"


def _detail(body: Any) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    with contextlib.suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict):
            text = str(answer.get("error_message") or answer.get("message") or answer.get("error") or text)
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _named(name: str) -> str:
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})
