"""``predict``, against a server without TensorFlow."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from light_server import LightServer, light_server

from ctr.components.dataset import DatasetConfig
from ctr.components.examples.names import names_path
from ctr.models import impression as names
from ctr.models.string_ids import id_of
from ctr.pipeline.commands import cli
from ctr.pipeline.output import eval_impressions
from ctr.serving.impression_files import Asked, read_impressions
from ctr.serving.impressions import Impression

EVENT = {"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}
ONE = {"history": [EVENT], "candidates": [{"item_id": 7, "category_id": 4}, {"item_id": 9, "category_id": 3}]}
NEW = {"history": [], "candidates": [{"item_id": 8, "category_id": 3}]}
CSV = """request,item_id,category_id,behavior,age_seconds
a,12,3,pv,3600
a,7,4,,
a,9,3,,
b,8,3,,
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LightServer]:
    with light_server() as server:
        yield server


class Predict:
    """The command, its exit code and what it says."""

    def __init__(self, folder: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.port, self.capsys = folder, port, capsys

    def __call__(self, name: str, content: str | bytes, *options: str) -> tuple[int, str, list[str]]:
        file = self.folder / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        code = cli.main(["predict", "--impression", str(file), "--port", str(self.port), *options])
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err.replace(f"{self.folder}/", "").splitlines()

    def rankings(self, name: str, content: str, *options: str) -> list[Any]:
        code, out, err = self(name, content, "--json", *options)
        assert (code, err) == (0, [])
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def predict(tmp_path: Path, server: LightServer, capsys: pytest.CaptureFixture[str]) -> Predict:
    return Predict(tmp_path, server.port, capsys)


def scores(ranking: Any) -> tuple[Any, list[tuple[int, float]]]:
    return ranking["request"], [(candidate["item_id"], candidate["logit"]) for candidate in ranking["candidates"]]


def test_without_a_server_a_file_may_be_right_all_the_same(predict: Predict) -> None:
    predict.port = 1
    code, _, err = predict("one.json", json.dumps(ONE | {"device": "phone"}))
    assert (code, err[2]) == (1, "    device: unknown key; there are history, candidates")
    assert err[3].startswith(
        "    what features the model declares is not known here: no server reachable at 127.0.0.1:1: Connection refused"
    )
    assert predict("one.json", json.dumps(ONE))[2][0].startswith("error: no server reachable at 127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("name", "content", "requests"),
    [
        ("one.json", json.dumps(ONE, indent=1), [None]),
        ("one.json", json.dumps(ONE), [None]),
        ("named.json", json.dumps({"request": "x", **ONE}), ["x"]),
        ("list.json", json.dumps([ONE, {"request": 41, **NEW}], indent=1), ["0", "41"]),
        ("lines.json", f"{json.dumps(ONE)}\n{json.dumps(NEW)}\n", ["1", "2"]),
        ("lines.jsonl", f"{json.dumps(ONE)}\n\n{json.dumps(NEW)}", ["1", "3"]),
        ("rows.csv", CSV, ["a", "b"]),
        ("rows.txt", "\ufeff" + CSV.replace("\n", "\r\n"), ["a", "b"]),
        ("one.csv", "category_id,item_id,age_seconds,behavior\n3,12,3600,pv\n4,7,,\n\n3,9,,\n", ["1"]),
        ("new.csv", "request,item_id,category_id\nb,8,3\n", ["b"]),
    ],
)  # fmt: skip
def test_impressions_are_read_in_every_form(predict: Predict, name: str, content: str, requests: list[Any]) -> None:
    of_one, of_new = [(9, 1.0), (7, 0.0)], [(8, 0.0)]
    expected = [of_new] if name == "new.csv" else [of_one, of_new][: len(requests)]
    assert [scores(ranking) for ranking in predict.rankings(name, content)] == list(
        zip(requests, expected, strict=True)
    )


def test_many_keep_their_order(predict: Predict) -> None:
    lines = "".join(json.dumps({**ONE, "history": [EVENT] * n}) + "\n" for n in range(60))
    rankings = predict.rankings("many.jsonl", lines, "--concurrency", "5")
    assert [ranking["candidates"][0]["logit"] for ranking in rankings] == list(range(60))


def test_tables_of_many_have_their_names(predict: Predict) -> None:
    code, out, err = predict("rows.csv", CSV)
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        "a: ctr version 3, history of 1 events",
        "  rank  item  category  probability  logit",
        "  1        9         3       0.7311  1.000",
        "  2        7         4       0.5000  0.000",
        "b: ctr version 3, history of 0 events",
        "  rank  item  category  probability  logit",
        "  1        8         3       0.5000  0.000",
    ]


def test_bad_lines_are_named_counted_and_set_apart(predict: Predict, tmp_path: Path) -> None:
    wrong = {**ONE, "history": [{**EVENT, "age_seconds": 0}]}
    contents: tuple[dict[str, Any], ...] = (ONE, wrong, {"candidates": []}, NEW)
    lines = [json.dumps(each) for each in contents]
    content = "\n".join([*lines[:3], '{"history": [', lines[3]]).encode() + b'\n"\xff"\n'
    quarantine = tmp_path / "bad.jsonl"
    code, out, err = predict("mixed.jsonl", content, "--json", "--quarantine", str(quarantine))
    assert code == 1
    assert [scores(json.loads(line))[0] for line in out.splitlines()] == ["1", "5"]
    assert err[0].startswith("mixed.jsonl:2: history.0.age_seconds: must be at least 1")
    assert err[1:4] == [
        "mixed.jsonl:3: history: is missing",
        "mixed.jsonl:3: candidates: must have at least 1 item (has 0)",
        "mixed.jsonl:4: Invalid JSON: EOF while parsing a list at column 13",
    ]
    assert err[4].startswith("mixed.jsonl:6: Invalid JSON: ")
    assert err[5:] == ["error: no answer to 4 of 6 requests; they are in bad.jsonl"]
    kept = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [each["request"] for each in kept] == ["2", "3", "4", "6"]
    assert json.loads(kept[0]["text"]) == wrong


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("a,12,3,click,60\na,7,3,,\n", ["2: behavior: must be one of pv, cart, fav, buy (got 'click')"]),
        ("a,12,3,pv,\na,7,3,,\n", ["2: age_seconds: is missing"]),
        ("a,7,3,,\na,8,x,,\n", ["3: category_id: must be a whole number, at least 1"]),
        ("a,7,3,,\na,8,,,\n", ["3: category_id: is missing"]),
        ("a,7,3,,\na,8,-3,,\n", ["3: category_id: must be at least 1"]),
        (f"a,{10**40},3,,\n", ["2: item_id: must be a whole number"]),
        ("a,12,3,pv,60\n", ["2: candidates: must have at least 1 item"]),
        ("a,12,3,pv,60\na,13,3,pv,90\na,7,3,,\n", ["2: history: events must stand oldest first"]),
        ("a,7,3\n", ["2: expected 5 values, found 3"]),
        ('a,7,"3,,\n', ["2: expected 5 values, found none: unexpected end of data"]),
        ("b,8,3,,\na,7,3,,\nb,9,3,,\n", ["4: request: 'b' has rows above, which were asked without these"]),
    ],
)
def test_bad_rows_are_named_by_line_and_column(predict: Predict, rows: str, says: list[str]) -> None:
    code, _, err = predict("rows.csv", CSV.splitlines()[0] + "\n" + rows)
    assert code == 1
    assert len(err) == len(says) + 1, err
    for found, expected in zip(err, says, strict=False):
        assert found.startswith(f"rows.csv:{expected}")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "item_id,category_id,behaviour\n", "a.csv:1: behaviour: unknown column; did you mean behavior?"),
        ("a.csv", "item_id,item_id,category_id\n", "a.csv:1: item_id: stands there twice"),
        ("a.csv", "item_id,behavior\n", "a.csv:1: the header lacks category_id; there may be request, item_id"),
        ("a.csv", "", "a.csv:1: the header lacks item_id, category_id"),
        ("a.json", "[1, 2", "a.json: not an impression"),
        ("a.json", '{"history": []}', "candidates: is missing"),
        ("a.txt", "", "a.txt: not an impression"),
    ],
)
def test_a_file_that_is_none_is_named(predict: Predict, name: str, content: str, says: str) -> None:
    code, out, err = predict(name, content)
    assert (code, out) == (1, "")
    assert says in "\n".join(err)


def test_what_the_server_refuses_is_said_with_its_line(predict: Predict) -> None:
    def before(number: int, context: Any) -> None:
        if number == 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "history_age is too old")

    with light_server(before=before) as server:
        predict.port = server.port
        code, out, err = predict("rows.csv", CSV, "--json", "--concurrency", "1")
    assert (code, len(out.splitlines())) == (1, 1)
    assert err[0] == f"rows.csv:2: 127.0.0.1:{server.port} refused the request: history_age is too old"
    assert err[1] == "error: no answer to 1 of 2 requests"


def test_a_server_that_is_gone_ends_the_command(predict: Predict) -> None:
    def before(number: int, context: Any) -> None:
        context.abort(grpc.StatusCode.NOT_FOUND, "ctr")

    with light_server(before=before) as server:
        predict.port = server.port
        code, out, err = predict("rows.csv", CSV)
    assert (code, out, len(err)) == (1, "", 1)
    assert "serves no such model" in err[0]


def test_the_first_problems_are_said_and_all_are_counted(predict: Predict) -> None:
    code, _, err = predict("many.jsonl", "{}\n" * 50)
    assert (code, len(err)) == (1, 22)
    assert err[-2:] == ["... and 80 more", "error: no answer to 50 of 50 requests"]


def test_a_candidate_is_explained(predict: Predict) -> None:
    two = {**ONE, "history": [{**EVENT, "category_id": 4}, EVENT]}
    (ranking,) = predict.rankings("one.json", json.dumps(two), "--explain")
    explanation = ranking["explanation"]
    assert (explanation["item_id"], explanation["logit"]) == (7, 1.0)
    assert [(event["category_id"], event["weight"]) for event in explanation["events"]] == [(4, 1.0), (3, 0.0)]
    code, out, _ = predict("one.json", json.dumps(two), "--explain", "9")
    assert code == 0
    lines = out.partition("what the history did for item 9\n")[2].splitlines()
    assert [line.split() for line in lines[-3:-1]] == [
        ["1", "12", "3", "pv", "3600", "+1.000"],
        ["0", "12", "4", "pv", "3600", "+0.000"],
    ]
    code, _, err = predict("one.json", json.dumps(two), "--explain", "5")
    assert (code, err[0]) == (1, "one.json: candidates: none is item 5, which --explain asks for")


SHOP = """\
header: true
columns: {user: u, item: i, category: c, time: t}
ids: {user: string, item: string}
"""
STRINGS = {
    "history": [{**EVENT, "item_id": "P1"}],
    "candidates": [{"item_id": "12", "category_id": 4}, {"item_id": "P2", "category_id": 3}],
}
STRINGS_CSV = "request,item_id,category_id,behavior,age_seconds\na,P1,3,pv,3600\na,12,4,,\na,P2,3,,\n"


@pytest.fixture
def of_shop(predict: Predict) -> tuple[str, str]:
    (predict.folder / "shop.yaml").write_text(SHOP)
    return "--dataset", str(predict.folder / "shop.yaml")


@pytest.mark.parametrize(
    ("name", "content"),
    [("one.json", json.dumps(STRINGS)), ("many.jsonl", json.dumps(STRINGS) + "\n"), ("rows.csv", STRINGS_CSV)],
)
def test_strings_are_asked_by_their_numbers_and_come_back(
    predict: Predict, of_shop: Any, name: str, content: str
) -> None:
    """A string of digits, too, which without a description is a number."""
    (ranking,) = predict.rankings(name, content, *of_shop, "--explain")
    found = [(candidate["item_id"], candidate["category_id"]) for candidate in ranking["candidates"]]
    assert found == [("P2", 3), ("12", 4)]
    assert ranking["explanation"]["item_id"] == "P2"
    assert [event["item_id"] for event in ranking["explanation"]["events"]] == ["P1"]
    _, table, _ = predict(name, content, *of_shop, "--explain", "12")
    assert [line.split()[1:3] for line in table.splitlines()[2:4]] == [["P2", "3"], ["12", "4"]]
    assert ["0", "P1", "3"] in [line.split()[:3] for line in table.partition("for item 12\n")[2].splitlines()]
    asked = [impression.impression for impression in _read(predict.folder / name, {"item_id"})]
    assert [[each.item_id for each in one.candidates] for one in asked] == [[id_of("12"), id_of("P2")]]


def _read(path: Path, string_ids: set[str]) -> list[Asked]:
    return [row for row in read_impressions(str(path), None, string_ids) if isinstance(row, Asked)]


@pytest.mark.parametrize("with_strings", [True, False])
def test_an_impression_of_a_run_has_the_strings_of_its_log(
    server: LightServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    with_strings: bool,
) -> None:
    events = [{**EVENT, "item_id": id_of("ring"), "category_id": 3}]
    candidates = [{"item_id": id_of("cup"), "category_id": 4}, {"item_id": id_of("ring"), "category_id": 3}]
    asked = Impression.model_validate({"history": events, "candidates": candidates})
    path = names_path(str(tmp_path), "item", 0)
    Path(path).parent.mkdir()
    (tmp_path / "Split-eval").mkdir()
    ids, strings = [id_of("ring"), id_of("cup"), id_of("vase")], [b"ring", b"cup", b"vase"]
    if with_strings:
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "name": pa.array(strings, pa.binary())}), path)
    monkeypatch.setattr(eval_impressions, "latest_output", lambda *_: str(tmp_path))
    monkeypatch.setattr(eval_impressions, "eval_impression", lambda *_: (asked, id_of("cup")))
    shown = (lambda name: name) if with_strings else (lambda name: str(id_of(name)))
    of_run = ["predict", "--output", str(tmp_path), "--model", "ctr", "--port", str(server.port)]

    assert cli.main([*of_run, "--explain", shown("cup")]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"{shown('cup')} +4 .*<- chosen\n", said)
    assert f"what the history did for item {shown('cup')}" in said
    assert {shown("ring"), shown("cup")} <= {*said.split()}
    assert cli.main([*of_run, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = {"ring", "cup"} if with_strings else {id_of("ring"), id_of("cup")}
    assert {candidate["item_id"] for candidate in answer["candidates"]} == expected
    assert answer["chosen_item_id"] == ("cup" if with_strings else id_of("cup"))
    assert cli.main([*of_run, "--explain", "plate"]) == 2
    assert "--explain plate: must be the number of an item" in capsys.readouterr().err


def test_what_is_no_string_is_named_as_ever(predict: Predict, of_shop: Any) -> None:
    wrong = {"history": [], "candidates": [{"item_id": "", "category_id": "x"}, 3]}
    code, _, err = predict("bad.jsonl", f"{json.dumps(wrong)}\n[]\n", *of_shop)
    assert code == 1
    for said in ("candidates.0.item_id: must be", "candidates.0.category_id: must be", "candidates.1: "):
        assert any(line.startswith(f"bad.jsonl:1: {said}") for line in err), (said, err)
    code, _, err = predict("one.json", json.dumps(STRINGS), *of_shop, "--explain", "P3")
    assert (code, err[0]) == (1, "one.json: candidates: none is item P3, which --explain asks for")
    code, _, err = predict("one.json", json.dumps(ONE), "--explain", "P3")
    assert (code, err[0].partition(";")[0]) == (2, "configuration: --explain P3: must be the number of an item")
    assert cli.main(["predict", "--output", "x", *of_shop]) == 2


def test_standard_input_is_answered_as_it_comes(server: LightServer) -> None:
    command = [sys.executable, "-c", _LOADED, "predict", "--impression", "-", "--port", str(server.port), "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for request, content in (("1", ONE), ("2", NEW)):
            process.stdin.write(json.dumps(content) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["request"] == request
        process.stdin.close()
        *_, loaded = process.stdout.read().splitlines()
    assert process.returncode == 0
    # What made up most of the command's start; each takes as long as the answer.
    slow = {"tensorflow", "rich", "yaml", "ctr.pipeline.settings.pipeline_config"}
    assert slow & set(loaded.split()) == set()
    assert {"grpc", "numpy", "pydantic"} <= set(loaded.split())


_LOADED = """
import sys
from ctr.__main__ import main
code = main()
print(*sys.modules)
sys.exit(code)
"""


def test_the_page_on_serving_shows_what_is_read_and_said(predict: Predict) -> None:
    page = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows, said = re.findall(r"^```text\n((?:request,|impressions\.csv:).*?)^```", page, re.M | re.S)
    asked = predict.rankings("impressions.csv", rows)
    assert [scores(ranking)[0] for ranking in asked] == ["anna", "new user"]
    assert [ranking["history_length"] for ranking in asked] == [2, 0]
    assert scores(asked[0])[1] == [(3830808, 1.0), (2576651, 0.0)]
    header, *lines = rows.splitlines()
    wrong = ["b,12,3,buyy,60", "b,7,x,,", *(f"{name},7,4,," for name in "cde")]
    code, _, err = predict("impressions.csv", "\n".join([header, *lines[:4], *wrong]), "--json")
    assert (code, err) == (1, said.splitlines())


@pytest.mark.parametrize(("labels", "chosen"), [((0, 1), 9), ((0, 0), None)])
def test_where_nothing_that_was_shown_was_clicked_nothing_was_chosen(
    labels: tuple[int, ...], chosen: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {**Impression.model_validate(ONE).features(), names.LABEL: [*labels]}
    monkeypatch.setattr(eval_impressions, "_events", lambda *_: [[record]])

    impression, found = eval_impressions.eval_impression("output", "ctr")

    assert found == chosen
    assert [candidate.item_id for candidate in impression.candidates] == [7, 9]


def test_a_feature_that_the_newest_run_has_not_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {**Impression.model_validate(ONE).features(), names.LABEL: [0, 1]}
    monkeypatch.setattr(eval_impressions, "_events", lambda *_: [[record]])
    columns = {"user": "u", "item": "i", "time": "t"}
    price = {"of": "item", "column": "price", "type": "number"}
    described = DatasetConfig.model_validate({"header": True, "columns": columns, "features": {"price": price}})
    names.declare_features(described.rows)

    impression, _ = eval_impressions.eval_impression("output", "ctr")

    assert math.isnan(impression.features()["candidate_price"][0])
