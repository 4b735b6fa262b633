"""Descriptions of logs: what is refused, in which words, and at which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.settings import IngestConfig
from ctr.models.errors import ConfigError
from ctr.pipeline.settings.datasets import located, read_dataset
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

GOOD = """\
format: csv
header: true
columns:
  user: customer
  item: sku
  category: null
  behavior: what
  time: at
ids: string
behaviors: {view: pv, sale: buy}
targets: [buy]
time:
  unit: ms
  zone: Europe/Berlin
window: all
"""


def test_a_description_is_read_and_stands_for_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(GOOD)
    dataset = read_dataset(str(file))
    assert dataset.string_ids == ("user", "item")
    assert dataset.kinds == ("pv", "buy")
    config = load_preset("demo", ["ingest.dataset.time.unit=s", "data=x"], dataset=str(file))
    assert config.ingest.dataset.time.unit == "s"
    assert config.ingest.target_kinds == ("buy",)
    assert config.ingest.window[0] == -3600
    assert PipelineConfig.from_json(config.changes_json()) == config
    assert PipelineConfig.from_json(config.to_json()) == config


def test_the_public_log_is_the_default_and_keeps_its_window() -> None:
    assert read_dataset("public") == PUBLIC_LOG == IngestConfig().dataset
    assert PUBLIC_LOG.is_public_form
    assert IngestConfig().window == (1511539200, 1512316799)
    assert IngestConfig().of_path("{YYYY}-{MM}-{DD}.csv").window_days == 9
    everything = IngestConfig(dataset=PUBLIC_LOG.model_copy(update={"window": None}))
    assert everything.of_path("{YYYY}-{MM}-{DD}.csv").window_days is None
    assert everything.dataset.is_public_form, "what rows are used for is no part of their form"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("format: csv", "format: excel", "line 1: format: must be one of csv, json, parquet, bigquery (got 'excel')"),
        ("  user: customer\n", "", "line 3: columns.user: is missing"),
        ("  user: customer", "  user: 1", "line 4: columns.user: give the column's name, as the log has names (got 1)"),
        ("header: true\n", "", "line 3: columns.user: without a header give the column's place, counted from 1"),
        ("item: sku", "item: 0", "line 5: columns.item"),
        ("ids: string", "ids: {user: text}", "line 9: ids.user: must be one of integer, string"),
        ("ids: string", "ids: {category: string}", "line 9: ids.category: there is no column of categories"),
        ("{view: pv, sale: buy}", "{view: look}", "line 10: behaviors"),
        ("{view: pv, sale: buy}", "{view: null}", "line 10: behaviors: name at least one kind of pv, cart, fav, buy"),
        ("targets: [buy]", "targets: [cart]", "line 11: targets: no event becomes cart; there are pv, buy"),
        ("unit: ms", "unit: ms\n  format: iso", "line 12: time: unit is of numbers and format of text"),
        ("unit: ms", "format: '%H:%M'", "line 13: time.format: does not say the day; it needs e.g. %Y, %m and %d"),
        ("Europe/Berlin", "Berlin", "line 14: time.zone: is no time zone of the IANA database"),
        (
            "window: all",
            "window: {start: 2024-01-02, end: 2024-01-01}",
            "line 15: window.end must be after window.start",
        ),
        ("window: all", "windows: all", "line 15: windows: unknown key; did you mean window?"),
        ("header: true", "header: true\nencoding: utf-16", "line 3: encoding: does not hold line ends as ASCII does"),
        ("format: csv\nheader: true", "format: json\nseparator: ';'", "line 2: separator is of format csv alone"),
        ("  behavior: what", "  behavior: null", "line 10: behaviors: there is no column to read it from"),
        ("behaviors: {view: pv, sale: buy}\n", "", "line 7: columns.behavior is read by behaviors"),
        (
            "  behavior: what",
            "  behavior: what\n  request: page",
            "line 8: columns.request: belongs to a log of exposures",
        ),
        ("targets: [buy]", "exposures: {max_candidates: 9}", "line 11: exposures: nothing says what was clicked"),
        ("  behavior: what", "  behavior: what\n  clicked: hit", "line 12: targets: of a log of exposures"),
        ("targets: [buy]", "exposures: {clicked: {click: true}}", "line 11: exposures.clicked: name what is true and"),
        ("targets: [buy]", "exposures: {max_candidates: 1}", "line 11: exposures.max_candidates: must be"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    file = tmp_path / "shop.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        read_dataset(str(file))
    assert f"{file}, {says}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("publick", None, "did you mean public"),
        ("none.yaml", None, "cannot be read"),
        ("a.yaml", "a: [", "is not valid YAML"),
        ("a.yaml", "", "holds no settings"),
    ],
)
def test_what_is_no_description_is_refused(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_dataset(str(tmp_path / name) if name.endswith(".yaml") else name)


def test_an_error_that_names_a_setting_gets_its_line(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(GOOD)
    message = "log.csv: ingest.dataset.columns.item is 'sku'; there are a, b"
    assert located(message, str(file)) == f"{message}\n({file}, line 5)"
    for text, name in (("another", str(file)), (message, "gone.yaml")):
        assert located(text, name) == text


def test_one_feature_can_be_taken_out_and_a_position_is_served_as_the_first() -> None:
    whole = load_preset("demo", dataset="exposures").ingest.dataset
    without = load_preset("demo", ["ingest.dataset.features.price=null"], dataset="exposures").ingest.dataset
    assert set(whole.features) - set(without.features) == {"price"}
    (position,) = (row for row in whole.rows if row.declared == "position")
    assert (position.name, position.served) == ("candidate_position", 1)
    assert position.encoding is not None
    assert position.encoding.largest == whole.exposures.max_candidates + 1  # type: ignore[union-attr]
    assert "position" not in {row.declared for row in read_dataset("public").rows}


def test_files_are_logs_by_suffix_or_by_pattern() -> None:
    def of(**values: Any) -> DatasetConfig:
        columns = {"user": "u", "item": "i", "time": "t"}
        return DatasetConfig.model_validate(
            {"columns": columns, "header": values.get("format", "csv") == "csv"} | values
        )

    assert [of(files="part-*").is_log(name) for name in ("a/part-0", "part", "a/part-x/b.csv")] == [True, False, False]
    assert of(separator="\t").suffixes[0:2] == (".csv", ".csv.gz")
    assert of(separator="\t").is_log("A.TSV.GZ")
    assert not of().is_log("a.tsv")
    assert of(format="parquet").suffixes == (".parquet", ".pq")
    assert of(compression="gzip", files="*").compression_of("part-0") == "gzip"
    assert of().compression_of("a.csv.zst") == "zstd"
