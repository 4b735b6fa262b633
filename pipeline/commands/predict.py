"""``predict``."""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final

from ctr.components.files import absolute
from ctr.models.errors import ConfigError, CtrError
from ctr.models.string_ids import id_of
from ctr.pipeline.commands.command_line import FAILED, OK, add_command, add_plugin_option, numbers, program, terminal_of
from ctr.pipeline.commands.serving import SECONDS, add_address, served_model
from ctr.pipeline.process.terminal import width as terminal_width

if TYPE_CHECKING:
    from ctr.serving.client import RankingClient
    from ctr.serving.explanation import Explanation
    from ctr.serving.impression_files import Asked, Refused
    from ctr.serving.impressions import Impression, Ranking

_SHOWN_PROBLEMS: Final = 20
_SHOWN_EVENTS: Final = 10
_BEST: Final = "best"
_REQUESTS: Final = numbers(int, lambda number: 1 <= number <= 1000, "no number of requests; choose 1 to 1000")
_IDS: Final = ("item_id", "category_id", "chosen_item_id")


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "predict",
        _predict,
        "ask a running server to rank the candidates of impressions",
        """\
An impression, as JSON (a file of one, or JSON lines of many):
  {"history": [{"item_id": 12, "category_id": 3, "behavior": "pv",
                "age_seconds": 3600}],
   "candidates": [{"item_id": 7, "category_id": 3},
                  {"item_id": 9, "category_id": 4}]}

The same as CSV, a row for each event (oldest first) and each candidate:
  request,item_id,category_id,behavior,age_seconds
  a,12,3,pv,3600
  a,7,3,,
  a,9,4,,

examples:
  %(prog)s --impression impression.json
  %(prog)s --impression impressions.csv --json
  %(prog)s --impression - --quarantine bad.jsonl
  %(prog)s --impression impression.json --dataset shop.yaml
  %(prog)s --output output --explain
""",
        answers=True,
    )
    add_plugin_option(parser, "features of impressions")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--impression", metavar="FILE", help="JSON, JSON lines or CSV; - is standard input")
    source.add_argument("--output", metavar="DIR", help="take an impression of the eval split of the run in DIR")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="the log's description: which ids of FILE are strings, as in the log; the answer has them, too",
    )
    parser.add_argument(
        "--format", choices=("json", "jsonl", "csv"), help="of FILE; default: by its ending, or by how it begins"
    )
    parser.add_argument(
        "--explain",
        nargs="?",
        const=_BEST,
        metavar="ITEM",
        help="what each event of the history did for the best candidate, or for this item",
    )
    parser.add_argument("--quarantine", metavar="FILE", help="write requests without an answer there, as JSON lines")
    add_address(parser, "of the server")
    parser.add_argument("--model", metavar="NAME", help="served model; default: the only one in DIR/serving, or ctr")
    parser.add_argument("--label", metavar="LABEL", default="", help="of the version that is asked, e.g. canary")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=SECONDS, default=5.0, help="for one answer; default: %(default)s"
    )
    parser.add_argument(
        "--concurrency", metavar="N", type=_REQUESTS, default=8, help="requests at a time; default: %(default)s"
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="PEM; turns TLS on, and trusts these authorities")
    parser.add_argument("--tls-certificate", metavar="FILE", help="PEM, for a server that asks for one")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM, of that certificate")
    parser.add_argument(
        "--pipeline-name", metavar="NAME", default="ctr", help="of the run in DIR; default: %(default)s"
    )


def _string_ids(dataset: str | None) -> frozenset[str]:
    """Which ids of requests are strings in a log of this description."""
    if dataset is None:
        return frozenset()
    from ctr.pipeline.settings.datasets import read_dataset

    return frozenset(f"{field}_id" for field in read_dataset(dataset).string_ids) - {"user_id"}


def _item(text: str | None, string_ids: frozenset[str]) -> str | int | None:
    if text is None or text == _BEST:
        return text
    if "item_id" in string_ids:
        return id_of(text)
    if not text.isdecimal():
        raise ConfigError(f"--explain {text}: must be the number of an item; --dataset says that a log has strings")
    return int(text)


def _predict(options: argparse.Namespace) -> int:
    if options.plugin:
        from ctr.models.registration import load_plugins

        load_plugins(options.plugin)
    if options.dataset and options.output:
        raise ConfigError("--dataset is of the ids in --impression FILE; an impression of a run has those of its log")
    if options.output:
        model, chosen = options.model or served_model(options.output), None
        _check_reachable(options.host, options.port)
        from ctr.pipeline.output.eval_impressions import eval_impression, eval_split, strings_of

        # What is wrong on this machine is said before a server is asked.
        eval_split(absolute(options.output), options.pipeline_name)
        _declare(options, model)
        with terminal_of(options).loading("TensorFlow"):
            impression, chosen = eval_impression(absolute(options.output), options.pipeline_name)
        strings = strings_of(absolute(options.output), options.pipeline_name, impression)
        options.item = _item(options.explain, frozenset(["item_id"] if options.explain in strings.values() else ()))
        rows: Iterator[Asked | Refused] = iter([_asked(impression, options.output, strings)])
    else:
        from ctr.serving.impression_files import read_impressions

        string_ids = _string_ids(options.dataset)
        options.item = _item(options.explain, string_ids)
        model, chosen = options.model or "ctr", None
        unreachable = _unreachable(options, model)
        rows = read_impressions(options.impression, options.format, string_ids)
        # A file that is none is said before a server that is none; it may be right but for what only the server knows.
        try:
            first = list(itertools.islice(rows, 1))
        except CtrError as error:
            if unreachable is None:
                raise
            raise CtrError(f"{error}\n  what features the model declares is not known here: {unreachable}") from error
        rows = itertools.chain(first, rows)
        if unreachable is not None:
            raise unreachable
    with _Refusals(options.quarantine) as refusals, _client(options, model) as client:
        return _answers(rows, client, options, chosen, refusals)


def _declare(options: argparse.Namespace, model: str) -> None:
    """Makes the declared features of the served model known here, by which a file is read."""
    with _client(options, model) as client:
        client.declare_features()


def _unreachable(options: argparse.Namespace, model: str) -> CtrError | None:
    """Declares what the served model declares, or gives the reason why that is not known."""
    try:
        _check_reachable(options.host, options.port)
        _declare(options, model)
    except CtrError as error:
        return error
    return None


def _asked(impression: Impression, place: str, strings: Mapping[int, str]) -> Asked:
    from ctr.serving.impression_files import Asked

    return Asked(None, place, impression.model_dump_json(), impression, strings)


def _answers(
    rows: Iterator[Asked | Refused],
    client: RankingClient,
    options: argparse.Namespace,
    chosen: int | None,
    refusals: _Refusals,
) -> int:
    from ctr.serving.client import ServingError
    from ctr.serving.impression_files import Asked

    under_way: collections.deque[Asked] = collections.deque()

    def impressions() -> Iterator[Impression]:
        for row in rows:
            if isinstance(row, Asked):
                under_way.append(row)
                yield row.impression
            else:
                refusals.add(row)

    answered = 0
    for ranking in client.rank_each(impressions(), options.concurrency):
        row = under_way.popleft()
        try:
            if isinstance(ranking, ServingError):
                raise ranking
            explanation = _explained(client, row, ranking, options.item, options.explain)
        except ServingError as error:
            if not error.of_request:
                raise
            refusals.add(_refused(row, str(error)))
            continue
        if isinstance(explanation, str):
            refusals.add(_refused(row, explanation))
            continue
        answered += 1
        length = len(row.impression.history)
        if options.json:
            document = _with_strings(answer(ranking, length, chosen, row.request, explanation), row.strings)
            print(json.dumps(document, separators=(",", ":")), flush=True)
        else:
            table = ranking_table(
                ranking, length, chosen, terminal_width(), row.request, explanation, strings=row.strings
            )
            print(table, flush=True)
    return refusals.told(answered)


def _with_strings(document: Any, strings: Mapping[int, str]) -> Any:
    """With the request's strings in the place of their numbers."""
    if not strings:
        return document
    if isinstance(document, list):
        return [_with_strings(each, strings) for each in document]
    if not isinstance(document, dict):
        return document
    return {
        key: strings.get(value, value) if key in _IDS else _with_strings(value, strings)
        for key, value in document.items()
    }


def _explained(
    client: RankingClient, row: Asked, ranking: Ranking, of: int | str | None, called: str
) -> Explanation | str | None:
    """None where nothing was asked; words where there is no such candidate."""
    if of is None:
        return None
    from ctr.serving.explanation import explain, position_of

    position = ranking.candidates[0].position if of == _BEST else position_of(row.impression, int(of))
    if position is None:
        return f"candidates: none is item {called}, which --explain asks for"
    return explain(client, row.impression, position)


def _refused(row: Asked, problem: str) -> Refused:
    from ctr.serving.impression_files import Refused

    return Refused(row.request, row.text, (f"{row.place}: {problem}",))


class _Refusals:
    """Requests without an answer: the first ones are said, all are counted, and written where that was asked for."""

    def __init__(self, file: str | None) -> None:
        self._name = file
        self._file: IO[str] | None = None
        self._number = self._said = 0

    def __enter__(self) -> _Refusals:
        if self._name:
            try:
                self._file = open(self._name, "w", encoding="utf-8")
            except OSError as error:
                raise CtrError(f"--quarantine {self._name}: cannot be written to: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def add(self, refused: Refused) -> None:
        """Counts one."""
        self._number += 1
        for problem in refused.problems:
            self._said += 1
            if self._said <= _SHOWN_PROBLEMS:
                print(problem, file=sys.stderr, flush=True)
        if self._file:
            print(json.dumps(refused._asdict()), file=self._file, flush=True)

    def told(self, answered: int) -> int:
        """Says how many, and gives the exit code."""
        if not self._number:
            return OK
        more = self._said - _SHOWN_PROBLEMS
        where = f"; they are in {self._name}" if self._name else ""
        said = f"error: no answer to {self._number} of {self._number + answered} requests{where}"
        print(f"... and {more} more\n{said}" if more > 0 else said, file=sys.stderr)
        return FAILED


def _client(options: argparse.Namespace, model: str) -> RankingClient:
    from ctr.serving.client import RankingClient

    try:
        return RankingClient(
            f"{options.host}:{options.port}",
            model,
            options.timeout,
            root_certificates=options.tls_ca,
            certificate=options.tls_certificate,
            private_key=options.tls_key,
            version_label=options.label,
        )
    except OSError as error:
        raise ConfigError(f"TLS: {error.filename}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError("TLS: --tls-certificate and --tls-key go together, and with --tls-ca") from error


def _check_reachable(host: str, port: int) -> None:
    """That something listens there; what it is shows the first request."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise CtrError(
            f"no server reachable at {host}:{port}: {error.strerror or error}; '{program()} serve' starts one"
        ) from error


def answer(
    ranking: Ranking,
    history_length: int,
    chosen_item: int | None,
    request: str | None = None,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    """The JSON document of ``predict``; the arguments are those of :func:`ranking_table`."""
    document = ranking.model_dump(mode="json")
    candidates = document.pop("candidates")
    return {
        "request": request,
        **document,
        "history_length": history_length,
        "chosen_item_id": chosen_item,
        "candidates": candidates,
        "explanation": explanation and explanation.model_dump(mode="json"),
    }


def ranking_table(
    ranking: Ranking,
    history_length: int,
    chosen_item: int | None = None,
    width: int = 80,
    request: str | None = None,
    explanation: Explanation | None = None,
    strings: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """A ranked answer as text.

    Args:
      ranking: the answer of the server.
      history_length: events of the request's history.
      chosen_item: the item that the user really chose, where that is known.
      width: characters in a line.
      request: its name, where there may be several.
      explanation: what the events did for a candidate, where that was asked for.
      strings: number -> what is shown of an id in its place.
    """
    from ctr.components.tables import Table, as_text, laid_out

    title = f"{ranking.model_name} version {ranking.model_version}, history of {history_length} events"
    header = ("rank", "item", "category", "probability", "logit", "")
    rows = [
        (
            str(rank),
            strings.get(candidate.item_id, str(candidate.item_id)),
            strings.get(candidate.category_id, str(candidate.category_id)),
            f"{candidate.probability:.4f}",
            f"{candidate.logit:.3f}",
            "<- chosen" if candidate.item_id == chosen_item else "",
        )
        for rank, candidate in enumerate(ranking.candidates, start=1)
    ]
    tables = [Table(title if request is None else f"{request}: {title}", header, rows)]
    if explanation:
        tables.append(_table_of_events(explanation, strings))
    return as_text(laid_out(tables, width), width).lstrip("\n")


def _table_of_events(explanation: Explanation, strings: Mapping[int, str]) -> Any:
    from ctr.components.tables import Table

    ordered = sorted(explanation.events, key=lambda event: (-abs(event.weight), event.position))
    shown, others = ordered[:_SHOWN_EVENTS], ordered[_SHOWN_EVENTS:]
    notes = [f"The logit is {explanation.logit:.3f}; a weight is what it loses without that event."]
    if others:
        notes.append(f"Each of the {len(others)} other events weighs at most {abs(others[0].weight):.3f}.")
    return Table(
        f"what the history did for item {strings.get(explanation.item_id, explanation.item_id)}"
        + ("" if ordered else ": there is none"),
        ("event", "item", "category", "behaviour", "age in s", "weight") if ordered else (),
        [
            (
                str(event.position),
                strings.get(event.item_id, str(event.item_id)),
                strings.get(event.category_id, str(event.category_id)),
                str(event.behavior),
                str(event.age_seconds),
                f"{event.weight:+.3f}",
            )
            for event in shown
        ],
        notes if ordered else (),
    )
