"""Files at addresses: as an object store has them, by way of Beam, whose own look-up takes patterns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem

from ctr.components.dataset import DatasetConfig
from ctr.components.examples.log_content import LogContent
from ctr.components.files import MissingPackage, checksum, create_file, list_folder, open_file, remove_folder, stat
from ctr.components.impression_gen.content import hashed
from ctr.components.impression_gen.readers import reader_of
from ctr.components.impression_gen.sources import find_logs, list_sources
from ctr.components.impression_gen.spans import find_span

_ROOT: list[Path] = []


class _Store(LocalFileSystem):
    """``shelf://`` below a folder: objects alone, listed by the beginning of their names, as Google's and Amazon's."""

    @classmethod
    def scheme(cls) -> str:
        return "shelf"

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(_ROOT[0].rglob("*")):
            address = f"shelf://{path.relative_to(_ROOT[0])}"
            if path.is_file() and address.startswith(prefix):
                yield FileMetadata(address, path.stat().st_size, path.stat().st_mtime)

    def exists(self, path: str) -> bool:
        return (_ROOT[0] / path.removeprefix("shelf://")).is_file()

    def metadata(self, path: str) -> FileMetadata:
        found = (_ROOT[0] / path.removeprefix("shelf://")).stat()
        return FileMetadata(path, found.st_size, found.st_mtime)

    def checksum(self, path: str) -> str:
        if not self.exists(path):
            raise BeamIOError(f"{path} is not there")
        # Of some files a store knows nothing, and gives their size, as Beam says of a file of this machine.
        size = str(self.metadata(path).size_in_bytes)
        return size if "log1" in path else f"crc-{size}"

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        return (_ROOT[0] / path.removeprefix("shelf://")).open("rb")

    def create(self, path: str, *arguments: Any, **options: Any) -> Any:
        return (_ROOT[0] / path.removeprefix("shelf://")).open("wb")

    def delete(self, patterns: list[str]) -> None:
        for found in self.match(patterns):
            for metadata in found.metadata_list:
                (_ROOT[0] / metadata.path.removeprefix("shelf://")).unlink()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    _ROOT[:] = [tmp_path]
    for name in ("b/log[1].csv", "b/log1.csv", "b/x.csv/part-0.csv", "b/x.csv/_SUCCESS", "b/.h.csv", "b/d/deep.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_name_is_a_name_at_an_address(store: Path) -> None:
    assert find_logs("shelf://b/log[1].csv").files == ["shelf://b/log[1].csv"]
    assert stat("shelf://b/log[1].csv").size == len("b/log[1].csv")
    with open_file("shelf://b/log[1].csv") as file:
        assert file.read() == b"b/log[1].csv"
    with pytest.raises(FileNotFoundError, match="none"):
        stat("shelf://b/none.csv")


def test_the_content_at_an_address_is_what_its_store_says(store: Path) -> None:
    assert checksum("shelf://b/log[1].csv") == "crc-12"
    assert checksum("shelf://b/log1.csv") is None
    with pytest.raises(OSError, match=r"shelf://b/none\.csv: its checksum"):
        checksum("shelf://b/none.csv")
    with hashed("shelf://b", find_logs("shelf://b").files) as files:
        found = files()
    assert [(f.name, f.size, f.sha256, f.checksum) for f in found] == [
        ("log1.csv", 10, None, None),
        ("log[1].csv", 12, None, "crc-12"),
        ("x.csv/part-0.csv", 18, None, "crc-18"),
    ]
    of_some = [LogContent(path="shelf://b", span=0, version=None, files=files) for files in (found, found[1:])]
    assert [content.digest.partition(":")[0] for content in of_some] == ["unknown", "checksum"]


def test_a_folder_at_an_address(store: Path) -> None:
    assert list_folder("shelf://b/") == {
        "log[1].csv": False,
        "log1.csv": False,
        "x.csv": True,
        ".h.csv": False,
        "d": True,
    }
    expected = ["shelf://b/log1.csv", "shelf://b/log[1].csv", "shelf://b/x.csv/part-0.csv"]
    assert find_logs("shelf://b").files == expected
    assert find_logs("shelf://b/x.csv").files == expected[-1:]
    assert find_span("shelf://b/x.csv/part-{SPAN}.csv", None).path == expected[-1]


def test_a_described_log_at_an_address_is_read_as_a_local_one(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b" / "log" / "kind=buy" / "day=1"
    folder.mkdir(parents=True)
    table = pa.table({"u": [*"abb"], "i": [7, 8, 9], "t": [1, 2, 3]})
    pq.write_table(table, folder / "p.parquet", row_group_size=2)
    dataset = DatasetConfig.model_validate(
        {
            "format": "parquet",
            "columns": {"user": "u", "item": "i", "behavior": "kind", "time": "t"},
            "ids": {"user": "string"},
            "behaviors": {"buy": "buy"},
        }
    )
    reader, found = reader_of(dataset), {}
    for data in ("shelf://b/log", str(tmp_path / "b" / "log")):
        sources = list_sources(find_logs(data, dataset).files, dataset)
        blocks = [block for task in reader.tasks(sources, 1) for block in reader.blocks(sources[0], task, 1)]
        rows = [row for block in blocks for row in reader.parse(sources[0], block, (0, 9)).events.tolist()]
        found[data] = [source.label for source in sources], rows
    assert found["shelf://b/log"] == found[str(tmp_path / "b" / "log")]
    assert [row[1:5] for row in found["shelf://b/log"][1]] == [(7, 1, 4, 1), (8, 1, 4, 2), (9, 1, 4, 3)]


def test_what_is_written_is_read(store: Path, tmp_path: Path) -> None:
    for path in ("shelf://b/new.tsv.gz", str(tmp_path / "deep" / "new[1].tsv.gz")):
        with create_file(path) as file:
            file.write(b"as it is")
        with open_file(path) as file:
            assert file.read() == b"as it is"
    assert os.path.exists(tmp_path / "deep" / "new[1].tsv.gz")


def test_a_folder_is_removed_and_no_other(store: Path, tmp_path: Path) -> None:
    for name in ("s[1]/a", "s1/a"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    remove_folder("shelf://s[1]")
    remove_folder("shelf://none")
    assert not (tmp_path / "s[1]" / "a").exists()
    assert (tmp_path / "s1" / "a").exists()
    remove_folder(str(tmp_path / "s[1]"))
    remove_folder(str(tmp_path / "none"))
    assert not (tmp_path / "s[1]").exists()
    assert (tmp_path / "s1").exists()


@pytest.mark.parametrize("ask", [stat, list_folder, open_file, create_file, checksum, remove_folder, find_logs])
def test_a_bucket_of_s3_needs_a_package_that_is_named(ask: Any) -> None:
    with pytest.raises(MissingPackage, match=r"s3://shop/logs.*: reading s3:// needs boto3, .*: pip install boto3"):
        ask("s3://shop/logs")


def test_a_store_is_asked_with_beams_default_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    with pytest.raises(ValueError, match="hdfs_host is not set"):
        stat("hdfs://shop/logs")
    assert FileSystems._pipeline_options is not None
