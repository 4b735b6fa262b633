from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctr.components.examples.catalogue import Catalogue
from ctr.components.impression_gen.counts import ITEM_COUNT

COUNTS = np.array(
    [
        (5, 70, 2),
        (5, 60, 2),
        (5, 50, 1),
        (6, 70, 0),
        (7, 50, 3),
        (4, 50, 5),
    ],
    ITEM_COUNT,
)


def columns(catalogue: Catalogue) -> list[list[int]]:
    names = ("item_ids", "item_categories", "item_counts", "category_ids", "category_counts")
    return [getattr(catalogue, name).tolist() for name in names]


def test_counts_of_the_train_split_in_order() -> None:
    # Item 6 is not in train; item 5's categories 60 and 70 tie in train, so the smaller id wins.
    assert columns(Catalogue.from_counts(COUNTS)) == [[4, 5, 7], [50, 60, 50], [5, 5, 3], [50, 60, 70], [9, 2, 2]]


def test_files_and_bytes(tmp_path: Path) -> None:
    catalogue = Catalogue.from_counts(COUNTS)
    catalogue.write(str(tmp_path))
    assert (tmp_path / "items.tsv").read_bytes() == b"4\t50\t5\n5\t60\t5\n7\t50\t3\n"
    assert (tmp_path / "categories.tsv").read_bytes() == b"50\t9\n60\t2\n70\t2\n"
    assert columns(Catalogue.read(str(tmp_path))) == columns(catalogue)
    assert columns(Catalogue.from_bytes(catalogue.to_bytes())) == columns(catalogue)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    Catalogue.from_counts(COUNTS).write(str(tmp_path))
    (tmp_path / "items.tsv").write_bytes(b"4\tfifty\t5\n")
    with pytest.raises(ValueError, match=r"items\.tsv: expected tab-separated integers item_id, category_id, count"):
        Catalogue.read(str(tmp_path))
