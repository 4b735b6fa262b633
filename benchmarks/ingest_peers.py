"""DuckDB and Polars: the histories of the events that the ingest takes as targets, to Parquet.

Rows in the window, repeated ones once; validation and eval are the last 30 and 20 % of the events; of each user the
last 8 events of each split, each with the up to 50 events before it. Run by benchmarks/ingest.py, in the peers'
environment.
"""

from __future__ import annotations

import json
import sys
import time

THREADS, TARGETS, LENGTH = 2, 8, 50
COLUMNS = ("user", "item", "category", "behavior", "time")


def duckdb_histories(log: str, out: str, window: tuple[int, int]) -> None:
    """In SQL."""
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS})
    names = "{" + ", ".join(f"'{c}': '{'VARCHAR' if c == 'behavior' else 'BIGINT'}'" for c in COLUMNS) + "}"
    order = "ORDER BY time, item, behavior, category"
    columns = ("item", "category", "behavior", "time")
    connection.execute(
        f"""
        CREATE TEMP TABLE log AS SELECT DISTINCT * FROM read_csv('{log}', header=false, columns={names})
        WHERE time BETWEEN {window[0]} AND {window[1]}
        """  # noqa: S608
    )
    connection.execute(
        f"""
        COPY (
          WITH bounds AS (SELECT quantile_disc(time, 0.7) AS validation, quantile_disc(time, 0.8) AS eval FROM log),
          numbered AS (
            SELECT "user", item, category, behavior, time,
              row_number() OVER (PARTITION BY "user" {order}) AS place,
              row_number() OVER (
                PARTITION BY "user", (time >= validation)::INT + (time >= eval)::INT
                ORDER BY time DESC, item DESC, behavior DESC, category DESC
              ) AS back
            FROM log, bounds
          ),
          users AS (
            SELECT "user", {", ".join(f"list({c} ORDER BY place) AS {c}s" for c in columns)},
              list(place) FILTER (WHERE back <= {TARGETS} AND place > 1) AS places
            FROM numbered GROUP BY "user"
          ),
          targets AS (SELECT *, unnest(places) AS place FROM users)
          SELECT "user", {", ".join(f"{c}s[place] AS {c}" for c in columns)},
            {", ".join(f"{c}s[greatest(place - {LENGTH}, 1):place - 1] AS {c}s" for c in columns)}
          FROM targets
        ) TO '{out}/histories.parquet' (FORMAT parquet)
        """  # noqa: S608
    )


def polars_histories(log: str, out: str, window: tuple[int, int]) -> None:
    """With lazy frames."""
    import polars as pl

    order = ["user", "time", "item", "behavior", "category"]
    types = [pl.Int64, pl.Int64, pl.Int64, pl.String, pl.Int64]
    events = (
        pl.scan_csv(log, has_header=False, schema=dict(zip(COLUMNS, types, strict=True)))
        .filter(pl.col("time").is_between(*window))
        .unique()
        .sort(order)
        .collect()
    )
    bounds = [events["time"].quantile(share, "nearest") for share in (0.7, 0.8)]
    split = (pl.col("time") >= bounds[0]).cast(pl.Int8) + (pl.col("time") >= bounds[1]).cast(pl.Int8)
    columns = ["item", "category", "behavior", "time"]
    lists = events.lazy().group_by("user").agg([pl.col(c).alias(f"{c}s") for c in columns])
    start = pl.max_horizontal(pl.col("place") - LENGTH, 0)
    (
        events.lazy()
        .with_columns(split=split, place=pl.int_range(pl.len()).over("user"))
        .with_columns(back=pl.int_range(pl.len(), 0, -1).over("user", "split"))
        .filter((pl.col("back") <= TARGETS) & (pl.col("place") > 0))
        .join(lists, on="user")
        .select("user", *columns, *[pl.col(f"{c}s").list.slice(start, pl.col("place") - start) for c in columns])
        .sink_parquet(f"{out}/histories.parquet")
    )


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit("it is a work of another: .venv/bin/python -m benchmarks.ingest --only ingest,DuckDB,Polars")
    work, log, out, first, last = sys.argv[1:]
    begin = time.perf_counter()
    {"duckdb": duckdb_histories, "polars": polars_histories}[work](log, out, (int(first), int(last)))
    print(json.dumps({"seconds": time.perf_counter() - begin}))
