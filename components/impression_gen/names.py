"""The strings that a log's ids are hashes of: gathered while it is read, and looked for two of one id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr.components.dataset import ID_FIELDS, IdField
from ctr.components.examples import summary
from ctr.components.examples.names import names_path
from ctr.components.files import create_file
from ctr.components.impression_gen.hashing import id_hash, part_of, split_by
from ctr.models.arrays import Int64Array
from ctr.models.errors import DataError


def pack_names(field: IdField, ids: Int64Array, strings: pa.Array, parts: int) -> Iterator[tuple[int, bytes]]:
    """What one block sends to each range of a field's ids: its key, and the ids and strings of it, packed."""
    first = ID_FIELDS.index(field) * parts
    rows = np.arange(len(ids)).astype([("row", "<i8")])
    for part, chosen in split_by(part_of(id_hash(ids), parts), rows):
        yield first + part, _packed(pa.table({"id": ids[chosen["row"]], "name": strings.take(pa.array(chosen["row"]))}))


def merged_names(field: IdField, packed: Iterable[bytes]) -> pa.Table:
    """Ids and strings, each pair once, by id.

    Raises:
      DataError: if two strings have one id.
    """
    table = pa.concat_tables([_unpacked(part) for part in packed]).combine_chunks()
    encoded = table["name"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    pairs = np.empty(len(table), [("id", "<i8"), ("name", "<i4")])
    pairs["id"], pairs["name"] = table["id"].to_numpy(), encoded.indices.to_numpy()
    pairs = np.unique(pairs)
    strings = encoded.dictionary.take(pa.array(pairs["name"]))
    again = np.flatnonzero(pairs["id"][1:] == pairs["id"][:-1])
    if len(again):
        first, second = (strings[int(again[0]) + step].as_py().decode("utf-8", "replace") for step in (0, 1))
        raise DataError(
            f"data: {field} {first!r} and {field} {second!r} have one hash, {pairs['id'][again[0]]}, and cannot be "
            f"told apart ({len(again)} such pairs); write one of them in another way, or give whole numbers as ids"
        )
    return pa.table({"id": pairs["id"], "name": strings})


def write_names(uri: str, field: IdField, shard: int, packed: Iterable[bytes]) -> tuple[str, int]:
    """Writes a file of a catalogue artifact; the number of strings under the name of its count."""
    table = merged_names(field, packed)
    with closing(create_file(names_path(uri, field, shard))) as file:
        pq.write_table(table, file)
    return summary.key("names", field), len(table)


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(packed: bytes) -> pa.Table:
    with pa.ipc.open_stream(packed) as reader:
        return reader.read_all()
