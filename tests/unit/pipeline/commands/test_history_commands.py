"""``runs``, ``compare`` and ``lineage`` as they are typed."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import pytest
from hand_made_store import Store, past_run
from test_answers import documented
from test_first_words import run as typed

from ctr.pipeline.commands import cli
from ctr.pipeline.output.layout import Layout

FIRST, SECOND = "20260101-100000-000000-din", "20260102-100000-000000-dnn"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run that was pushed and one that was not, of the same data."""
    layout = Layout(str(tmp_path / "output"))
    store = Store(Path(layout.metadata_db))
    past_run(store, layout, FIRST, version=100, auc=0.89)
    past_run(store, layout, SECOND, cached=("ImpressionGen",), blessed=False, auc=0.88, changes=("model.name=dnn",))
    return tmp_path / "output"


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_list_fits_and_says_what_it_leaves_out(
    width: int, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = answered(capsys, "runs", "--output", str(output))
    assert max(map(len, text.splitlines())) <= width
    assert text.splitlines()[1] == "2 runs"
    assert re.search(r"not blessed *0\.8800 \[0\.8700, 0\.9000\]", text)
    assert ("preset" in text.splitlines()[2]) == (width == 140)
    assert ("Left out, as they do not fit: " in text) == (width < 140)
    if width == 140:
        first, second = (line.split() for line in text.splitlines()[3:])
        assert first[:6] == [FIRST, "blessed", "0.8900", "[0.8800,", "0.9100]", "100"]
        assert first[7:12] == ["0", "of", "5", "din", "demo"]
        assert (second[6], second[8:11]) == ("-", ["1", "of", "5"])


def test_of_many_runs_the_newest_are_asked_for(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = answered(capsys, "runs", "--output", str(output), "--last", "1")
    assert FIRST not in text
    assert SECOND in text
    assert "Not listed: 1 earlier." in text


def test_a_comparison_shows_differences_and_metrics(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = answered(capsys, "compare", "100", SECOND, "--output", str(output))
    assert f"A: {FIRST}, din, preset demo: blessed, version 100" in text
    assert "- model.name: din -> dnn" in text
    assert "- Trainer: code of din -> code of dnn" in text
    (line,) = re.findall(r"^ *AUC, contemporaneous .*$", text, re.MULTILINE)
    assert line.split()[2:] == ["0.8900", "[0.8800,", "0.9100]", "0.8800", "[0.8700,", "0.9000]", "-0.0100"]
    assert "On the same impressions." in text
    assert text.count("No difference.") == 2


def test_different_impressions_are_said_to_be(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(str(output))
    past_run(Store(Path(layout.metadata_db)), layout, "20260103-din", digest="7a" * 32)
    text = " ".join(answered(capsys, "compare", FIRST, "20260103", "--output", str(output)).split())
    assert "measured on different impressions: their numbers cannot be compared" in text
    assert f"- content: sha256:{'5f' * 32} -> sha256:{'7a' * 32}" in text


def test_the_lineage_shows_data_code_and_settings(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = answered(capsys, "lineage", "100", "--output", str(output))
    for said in (
        f"Run: {FIRST}, din, preset demo: blessed",
        "Trained by ctr-pipeline 0.1.0, commit 0123456789ab",
        "tensorflow 2.16.2",
        "/data/log.csv, span 17503",
        f"sha256:{'5f' * 32}",
        "- preset: demo",
    ):
        assert said in text
    assert re.search(r"^ *Trainer +2 +2 +code of din +3$", text, re.MULTILINE)
    assert "came from the cache" not in text


@pytest.mark.parametrize(
    ("title", "arguments"),
    [
        ("key of a listed run", ("runs",)),
        ("key of a comparison", ("compare", FIRST, SECOND)),
        ("key of a lineage", ("lineage", "100")),
    ],
)
def test_documents_have_the_keys_of_their_page(
    title: str, arguments: tuple[str, ...], output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(answered(capsys, *arguments, "--output", str(output), "--json"))
    assert set(document["runs"][0] if arguments[0] == "runs" else document) == documented(title)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "nope", FIRST), "'nope' is no run and no pushed version; there are "),
        (("compare", "2026", FIRST), "is the beginning of several runs"),
        (("lineage", "7"), "no run pushed version 7; there is 100"),
    ],
)
def test_a_wrong_name_is_an_error_that_says_what_there_is(
    arguments: tuple[str, ...], says: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--output", str(output)]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("runs", "--last", "0"), ("lineage", "one"), ("compare", "100"), ("lineage",)])
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("command", ["runs", f"compare {FIRST} {SECOND}", "lineage 100"])
def test_no_tensorflow_is_loaded_and_no_time_is_lost(command: str, output: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = typed(*command.split(), cwd=output.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
