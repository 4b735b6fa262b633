"""What is written in blocks is what is read, whatever impressions have in common, and damage is named."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from block_files import features_of, lists_of, rows_of, write_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.examples import blocks
from ctr.components.examples.impressions import parse
from ctr.components.trainer.input_pipeline import to_model_inputs
from ctr.models import impression as names
from ctr.models.errors import DataError

Row = dict[str, Any]
LENGTH = 5
PLUGIN = "history_depth_of_tests"


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Any:
    """A feature that nothing in the tree knows."""
    known = dict(names.FEATURES)
    names.register_feature(PLUGIN.removeprefix("history_"), "history", largest=70_000)(lambda fields: fields["age"])
    yield
    names.FEATURES.clear()
    names.FEATURES.update(known)
    names._derive()


def row(user: int, now: int, events: list[list[int]], candidates: list[list[int]]) -> Row:
    """An impression of events (item, behaviour, time, plugin's value) and candidates (item, label)."""
    items, behaviors, times, depths = ([*values] for values in zip(*events, strict=True)) if events else ([],) * 4
    shown, labels = ([*values] for values in zip(*candidates, strict=True))
    made: Row = {
        names.USER_ID: [user],
        names.TIMESTAMP: [now],
        names.NEGATIVE_SET: names.NEGATIVE_SETS[user % 4].encode(),
        names.TARGET_BEHAVIOR: [1 + user % 4],
        names.HISTORY_ITEM_ID: items,
        names.HISTORY_CATEGORY_ID: [1 + item % 7 for item in items],
        names.HISTORY_BEHAVIOR: behaviors,
        names.HISTORY_AGE: [now - time for time in times],
        PLUGIN: depths,
        names.CANDIDATE_ITEM_ID: shown,
        names.CANDIDATE_CATEGORY_ID: [1 + item % 7 for item in shown],
        names.LABEL: labels,
    }
    return made | {index: [2 + value % 1000 for value in made[id_]] for id_, index in names.INDEX_OF.items()}


NUMBERS = st.integers(1, 2**62)
EVENTS = st.lists(st.tuples(NUMBERS, st.integers(1, 4), st.integers(0, 3), st.integers(0, 70_000)), max_size=4)


@st.composite
def rows(draw: Callable[..., Any]) -> list[Row]:
    """Of users one after the other: of a log that grows, mostly; of which an event may change, or all."""
    made: list[Row] = []
    log: list[list[int]] = []
    now = 0
    for _ in range(draw(st.integers(1, 14))):
        if draw(st.integers(0, 5)) == 0:
            log = []
        if log and draw(st.integers(0, 5)) == 0:
            log[draw(st.integers(0, len(log) - 1))][3] = 5
        for item, behavior, later, depth in draw(EVENTS):
            log.append([item, behavior, now := now + later, depth])
        now += draw(st.integers(0, 2))
        candidates = draw(st.lists(st.tuples(NUMBERS, st.integers(0, 1)), min_size=1, max_size=3))
        made.append(row(1 + len(made), now + 1, log[-draw(st.integers(1, 6)) :], [*map(list, candidates)]))
    return made


def serialized(several: list[Row]) -> tf.Tensor:
    examples = []
    for each in several:
        example = tf.train.Example()
        for name, value in each.items():
            feature = example.features.feature[name]
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            else:
                feature.int64_list.value.extend(value)
        examples.append(example.SerializeToString())
    return tf.constant(examples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


@functools.cache
def graphs(prefix: bytes) -> tuple[blocks.Reader, Any, Any, Any]:
    """A reader, and what it does as graphs, which are traced once."""
    layout = blocks.Layout.parse(prefix)
    reader = blocks.Reader(layout, [column.name for column in layout.columns])
    as_graph = functools.partial(tf.function, reduce_retracing=True, autograph=False)

    @as_graph
    def dense(of: blocks.Table, before: blocks.Table, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return reader.dense(blocks.joined(before, of, padding=True), rows, LENGTH, None)

    def table(stored: tf.Tensor) -> blocks.Table:
        return reader.table(*tf.map_fn(reader.opened, stored, fn_output_signature=(tf.int32, tf.string)))

    return reader, as_graph(table), as_graph(reader.ragged), dense


@settings(max_examples=60)
@given(rows=rows(), rows_of_a_block=st.integers(1, 9), left=st.integers(1, 14))
def test_what_is_read_is_what_was_written(rows: list[Row], rows_of_a_block: int, left: int) -> None:
    encoded = blocks.encode(features_of(rows), rows=rows_of_a_block)
    reader, table_of, ragged, dense = graphs(blocks.Layout.parse(encoded[0]).prefix)
    table = table_of(tf.constant(encoded))
    assert [block.startswith(reader.layout.prefix) for block in encoded] == [True] * -(-len(rows) // rows_of_a_block)

    assert lists_of(ragged(table)) == rows

    # The way by which they came to a model while they were tf.Examples, and comes what is served.
    expected = to_model_inputs(parse(serialized(rows), names.MODEL_INPUTS), LENGTH)
    left = min(left, len(rows))
    part = blocks.last_rows(table, tf.constant(left))
    # Whole, the last ones, and all of them behind these.
    for of, before, places in (
        (table, reader.no_rows(), np.arange(len(rows))),
        (part, reader.no_rows(), np.arange(len(rows))[-left:]),
        (table, part, np.r_[np.arange(len(rows))[-left:], np.arange(len(rows))]),
    ):
        found = dense(of, before, tf.range(1, 1 + len(places)))
        for name in names.MODEL_INPUTS:
            wanted = expected[name].numpy()[places]
            np.testing.assert_array_equal(found[name], wanted[:, : found[name].shape[1]], name)
            assert not wanted[:, found[name].shape[1] :].any()
    padding = dense(table, reader.no_rows(), tf.zeros([2], tf.int32))
    assert not any(values.numpy().any() for values in padding.values())


def test_a_users_events_are_stored_once(folder: Path) -> None:
    log = [[10 + k, 1, 100 * k, k] for k in range(300)]
    several = [row(1, 100 * k, log[max(0, k - 200) : k], [[1, 1], [2, 0]]) for k in range(300)]
    file = write_blocks(folder / "once" / "shard", several, rows_of_a_block=100)

    counts = [blocks.reader_of([file], []).opened(each)[0].numpy() for each in tf.data.TFRecordDataset(file)]

    # Each block begins anew: with the 0, 100 and 200 events that its first impression has.
    assert np.array(counts).tolist() == [[100, 99, 200], [100, 199, 200], [100, 299, 200]]
    assert rows_of(folder / "once") == several


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (names.HISTORY_BEHAVIOR, [300], "history_behavior: 300 cannot be, its values are 0 to 255"),
        (
            names.HISTORY_ITEM_ID,
            [5, 6],
            "history_category_id: 1 values in impression 0 of a batch, expected 2, as many",
        ),
        (names.TIMESTAMP, [5, 6], "timestamp: 2 values in impression 0 of a batch, expected 1"),
        (names.NEGATIVE_SET, b"drawn", "negative_set: 'drawn' is none of mixed, uniform"),
    ],
)
def test_what_cannot_be_an_impression_is_not_written(folder: Path, name: str, value: Any, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        write_blocks(folder / "refused" / "shard", [row(1, 9, [[1, 1, 1, 1]], [[1, 1]]) | {name: value}])
    assert not (folder / "refused/shard").exists()


# --- damage --------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[str]:
    several = [row(1 + k, 9 + k, [[1, 1, 1, 1]], [[1, 1]]) for k in range(12)]
    return [write_blocks(folder / f"{name}", several, rows_of_a_block=3) for name in ("a", "b")]


def read_all(files: list[str]) -> None:
    with blocks.damage_named(files):
        for _ in blocks.read(files, [names.USER_ID]):
            pass


def with_flipped_bits(file: str) -> None:
    content = bytearray(Path(file).read_bytes())
    content[-20] ^= 255
    Path(file).write_bytes(content)


def with_other_blocks(change: Callable[[bytes], bytes]) -> Callable[[str], None]:
    """The last block is another one, and the file a sound TFRecord."""

    def write(file: str) -> None:
        *first, last = tf.data.TFRecordDataset(file).as_numpy_iterator()
        with tf.io.TFRecordWriter(file) as writer:
            for block in (*first, change(last)):
                writer.write(block)

    return write


def a_block_without_the_plugin(block: bytes) -> bytes:
    one = row(1, 9, [[1, 1, 1, 1]], [[1, 1]])
    features = {
        name: (np.array([len(value)]), np.array(value))
        for name, value in one.items()
        if name not in (PLUGIN, names.NEGATIVE_SET)
    }
    return blocks.encode(features)[0]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (with_flipped_bits, "b, block 3: corrupted record"),
        (lambda file: Path(file).write_bytes(Path(file).read_bytes()[:-10]), "b, block 3: truncated record"),
        (with_other_blocks(lambda block: block[:-9]), "b, block 3: Error -5 while decompressing"),
        (with_other_blocks(a_block_without_the_plugin), r"b, block 3: its columns are not those of the first block"),
        (
            with_other_blocks(lambda block: b"\n\x05hello"),
            r"b, block 3: it begins with b'\\n\\x05hello', expected b'ctr",
        ),
    ],
)
def test_a_damaged_block_is_named(tmp_path: Path, damage: Callable[[str], None], expected: str) -> None:
    first, second = files_of(tmp_path)
    read_all([first, second])
    damage(second)

    with pytest.raises(DataError, match=expected) as raised:
        read_all([first, second])

    assert "delete the output of ImpressionTransform that it lies in, and run again" in str(raised.value)


def test_a_file_of_an_older_version_is_named(tmp_path: Path) -> None:
    for options in ("GZIP", ""):
        path = str(tmp_path / f"old{options}")
        with tf.io.TFRecordWriter(path, options) as writer:
            writer.write(serialized([row(1, 9, [], [[1, 1]])]).numpy()[0])
        with pytest.raises(DataError, match=f"{path}, block 0: .* kept transformed impressions as tf.Examples"):
            read_all([path])


def test_another_failure_is_left_alone(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="of a model"), blocks.damage_named(files):
        raise tf.errors.InvalidArgumentError(None, None, "of a model")


def test_a_feature_that_is_not_there_is_named(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    with pytest.raises(DataError, match="a: no candidate_price, history_hour in its impressions; they were written by"):
        blocks.read(files, [names.USER_ID, "history_hour", "candidate_price"])


def test_files_without_impressions_are_read(tmp_path: Path) -> None:
    empty = write_blocks(tmp_path / "a", [])
    full = write_blocks(tmp_path / "b", [row(1, 9, [], [[1, 1]])])

    assert [*blocks.read([empty], [names.USER_ID, PLUGIN])] == []
    assert list(
        itertools.chain(*(each[names.USER_ID].numpy().ravel() for each in blocks.read([empty, full], [names.USER_ID])))
    ) == [1]
    assert all(each.shape[0] == 0 for each in blocks.none([names.USER_ID, names.NEGATIVE_SET, PLUGIN]).values())
