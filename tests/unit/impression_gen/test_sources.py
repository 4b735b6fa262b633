"""Which files are logs, and that a name is a name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from ctr.components.impression_gen.sources import NoLogError, find_logs, list_sources

ROW = "1,2,3,pv,1511540000\n"
ODD_NAMES = ("log[1].csv", "log*.csv", "log?.csv", "{log}.csv", "a b.csv", "#1%.csv", "log\\1.csv", "lög.csv", "-r.csv")


def names(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_logs(str(folder)).files]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "[1]*"
    folder.mkdir()
    # What the name would match as a pattern.
    for file in (name, "log1.csv", "log.csv", "logs.csv"):
        (folder / file).write_text(ROW * len(file))
    assert find_logs(str(folder / name)).files == [str(folder / name)]
    assert name in names(folder)
    (source,) = list_sources([str(folder / name)])
    assert source.size == len(ROW) * len(name)


def test_a_folder_holds_logs_hidden_files_and_others(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "c.csv.zip", "LOG.CSV", "UP.Csv.Gz", "d.csv.bak", "e.txt"):
        (tmp_path / name).write_text(ROW)
    for name in (".x.csv", "._b.csv", "_SUCCESS", "_x.csv", ".b.csv.crc", ".DS_Store"):
        (tmp_path / name).write_text("hidden")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "deep.csv").write_text(ROW)
    assert names(tmp_path) == ["LOG.CSV", "UP.Csv.Gz", "a.csv.gz", "b.csv", "c.csv.zip"]
    assert find_logs(str(tmp_path)).ignored == ["d.csv.bak", "e.txt", "other"]
    assert find_logs(str(tmp_path / ".x.csv")).files == [str(tmp_path / ".x.csv")], "it was asked for by name"


def test_a_folder_that_spark_wrote_is_a_folder(tmp_path: Path) -> None:
    spark = tmp_path / "x.csv"
    spark.mkdir()
    for name in ("part-00001.csv", "part-00000.csv", "_SUCCESS", ".part-00000.csv.crc", "notes.txt"):
        (spark / name).write_text(ROW)
    (spark / "deeper.csv").mkdir()
    assert names(spark) == ["part-00000.csv", "part-00001.csv"]
    (tmp_path / "y.csv").write_text(ROW)
    assert names(tmp_path) == ["x.csv/part-00000.csv", "x.csv/part-00001.csv", "y.csv"]
    assert find_logs(str(tmp_path)).ignored == ["x.csv/notes.txt"]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROW)
    (tmp_path / "b.csv").symlink_to("gone.csv")
    for data in (tmp_path, tmp_path / "b.csv"):
        with pytest.raises(NoLogError, match=r"b\.csv is a link to gone\.csv, which does not exist"):
            find_logs(str(data))
    (tmp_path / "b.csv").unlink()
    (tmp_path / "b.csv").symlink_to("a.csv")
    (tmp_path / "notes.txt").symlink_to("gone.txt")
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_what_is_no_log_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(NoLogError, match=r"nowhere\.csv does not exist"):
        find_logs(str(tmp_path / "nowhere.csv"))
    with pytest.raises(NoLogError, match=r"holds no \.csv, \.csv\.gz, \.csv\.zip or \.csv\.zst file; it is empty"):
        find_logs(str(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"PAR1....")
    with pytest.raises(NoLogError, match=r"holds no .* file; it holds x\.parquet"):
        find_logs(str(tmp_path))
    with pytest.raises(
        NoLogError, match=r"x\.parquet is no \.csv.* by its first bytes it is Parquet: export it as CSV"
    ):
        find_logs(str(tmp_path / "x.parquet"))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(NoLogError, match=r"pipe\.csv is neither a file nor a folder"):
        find_logs(str(tmp_path / "pipe.csv"))


def test_members_of_an_archive_are_logs_of_their_own(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("day/", "")
        archive.writestr("day/2.csv", "b\n")
        archive.writestr("__MACOSX/day/2.csv", "shadow")
        archive.writestr("day/.hidden.csv", "hidden")
        archive.writestr("README.txt", "no log")
        archive.writestr("day/1.CSV", "a\n")
    sources = list_sources(find_logs(str(tmp_path)).files)
    assert [source.label for source in sources] == ["two.csv.zip:day/2.csv", "two.csv.zip:day/1.CSV"]
    with zipfile.ZipFile(tmp_path / "none.csv.zip", "w") as archive:
        archive.writestr("README.txt", "no log")
    with pytest.raises(ValueError, match=r"none\.csv\.zip: the archive holds no \.csv file; it holds README\.txt"):
        list_sources([str(tmp_path / "none.csv.zip")])


def test_a_label_is_printable_whatever_the_name_holds(tmp_path: Path) -> None:
    path = tmp_path / "a\tb\nc.csv"
    path.write_text(ROW)
    (source,) = list_sources([str(path)])
    assert source.label == "a\\tb\\x0ac.csv"
