"""Incremental refresh of daily aggregates over 10 million orders, against the full recomputation.

Both refresh a filled table to the same moment, warm, through the same code: what is computed, compared with what is
there, checked and merged. The full recomputation is what a table without a grain gets. How long the first filling of
an empty table takes stands in the note. The orders lie as landing leaves them, a commit a day.

`python -m benchmarks.features.refresh` prints the rows; SCALE (1.0) shrinks the data.
"""

import os
import shutil
import tempfile
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import yaml
from deltalake import DeltaTable, write_deltalake

from benchmarks.features.server import spark_server
from penstock.features.merge import RefreshedTable, merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.lakehouse.small_tables import create_if_missing, to_arrow
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

ROWS, STORES, DAYS = 10_000_000, 1_000, 365
BAR = 0.10
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {
    "id": ColumnType.BIGINT, "store": ColumnType.INT, "at": ColumnType.TIMESTAMP, "amount": ColumnType.DOUBLE,
    "items": ColumnType.INT, "customer": ColumnType.INT, "known_at": ColumnType.TIMESTAMP,
}  # fmt: skip
SQL = """
SELECT store, date_trunc('DAY', at) + INTERVAL 1 DAY AS event_time, sum(amount) AS total, avg(amount) AS mean_amount,
       stddev_samp(amount) AS spread, max(amount) AS greatest, sum(items) AS items, count(*) AS orders
FROM orders GROUP BY 1, 2
"""
DECLARATION: dict[str, Any] = {
    "name": "shop", "description": "Orders of stores.", "owner": "bench@example.com",
    "sources": {"orders": {"description": "Orders.", "primary_keys": ["id"], "available_at": "known_at",
                           "columns": {name: str(kind) for name, kind in COLUMNS.items()}}},
    "feature_tables": {"store_daily": {
        "description": "A store's orders of a UTC day.", "primary_keys": ["store"], "inputs": ["orders"],
        "sql": "store_daily.sql",
        "grain": {"columns": ["store", "event_time"], "inputs": {"orders": {"expressions": {
            "store": "store", "event_time": "date_trunc('DAY', at) + INTERVAL 1 DAY"}}}},
        "columns": {"store": "int", "event_time": "timestamp", "total": "double", "mean_amount": "double",
                    "spread": "double", "greatest": "double", "items": "bigint", "orders": "bigint"},
    }},
}  # fmt: skip
ENVIRONMENT = """
name: dev
description: A benchmark's.
lakehouse:
  root: {root}
schedules: false
approval:
  mode: human
"""


def run() -> list[dict[str, Any]]:
    """The rows of the refresh's benchmark."""
    folder = Path(tempfile.mkdtemp(prefix="bench_refresh_"))
    try:
        with spark_server("2g"):
            return [measure(folder / place, place) for place in ("recent", "anywhere")]
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, late: str) -> dict[str, Any]:
    """One new day, and late rows in 1 % of the groups: of the last two weeks, or of any day of the year."""
    rows = int(ROWS * float(os.environ.get("SCALE", "1")))
    random = np.random.default_rng(7)
    workspace = make_workspace(folder)
    path = workspace.addresses.writable("shop.orders")
    create_if_missing(path, {name: Column(type=kind) for name, kind in COLUMNS.items()}, keys=[], description="orders")
    for day in range(DAYS):
        append(path, day_of_orders(random, day, rows // DAYS))
    whole = make_workspace(folder / "full", grain=False, lakehouse_of=workspace)
    reached = BEGIN + timedelta(days=DAYS)
    refresh(workspace, reached)
    begin = perf_counter()
    refresh(whole, reached)
    filling = perf_counter() - begin
    days = []
    for day in range(DAYS, DAYS + 4):
        reached, now = BEGIN + timedelta(days=day), BEGIN + timedelta(days=day + 1)
        append(path, day_of_orders(random, day, rows // DAYS))
        append(path, late_orders(random, late, STORES * DAYS // 100, reached))
        days.append((timed_refresh(workspace, now), timed_refresh(whole, now)))
    check_equal(workspace, whole)
    # The first day lets both ways run once on this server before they are measured; of the others the quietest counts.
    (incremental, changed), (full, recomputed) = (
        min((day[side] for day in days[1:]), key=lambda timed: timed[0]) for side in (0, 1)
    )
    return {
        "work": f"refresh of daily aggregates, {rows:,} rows: a new day, late rows in 1 % of the groups ({late})",
        "penstock_seconds": incremental, "reference": "full recomputation", "reference_seconds": full,
        "ratio": incremental / full, "bar": BAR, "met": incremental / full <= BAR,
        "note": f"{changed.mode}: {changed.rows:,} rows merged; {recomputed.mode}: {recomputed.why}; "
        f"filling an empty table took {filling:.1f} s",
    }  # fmt: skip


def timed_refresh(workspace: Workspace, as_of: datetime) -> tuple[float, RefreshedTable]:
    """A refresh, and its seconds."""
    begin = perf_counter()
    done = refresh(workspace, as_of)
    return perf_counter() - begin, done


def make_workspace(folder: Path, grain: bool = True, lakehouse_of: Workspace | None = None) -> Workspace:
    """A workspace with the project, with or without its grain; its raw tables are another's (`lakehouse_of`)."""
    project = folder / "include/projects/shop"
    project.mkdir(parents=True)
    declaration = deepcopy(DECLARATION)
    if not grain:
        del declaration["feature_tables"]["store_daily"]["grain"]
    (project / "project.yaml").write_text(yaml.safe_dump(declaration, sort_keys=False))
    (project / "store_daily.sql").write_text(SQL)
    environment = folder / "include/environments/dev.yaml"
    environment.parent.mkdir()
    environment.write_text(ENVIRONMENT.format(root=folder / "lakehouse"))
    if lakehouse_of is not None:
        raw = Path(lakehouse_of.addresses.readable("shop.orders"))
        (folder / "lakehouse/shop").mkdir(parents=True)
        (folder / "lakehouse/shop/orders").symlink_to(raw)
    return Workspace.open("dev", folder)


def refresh(workspace: Workspace, as_of: datetime) -> RefreshedTable:
    """Stages, validates and merges."""
    staged = stage_table(workspace, "shop", "store_daily", as_of)
    return merge_batch(workspace, validate_batch(workspace, staged))


def day_of_orders(random: np.random.Generator, day: int, rows: int) -> pd.DataFrame:
    """The orders of a day, known a minute later."""
    seconds = np.sort(random.integers(0, 86_340, rows))
    at = pd.Timestamp(BEGIN) + pd.to_timedelta(day, "D") + pd.to_timedelta(seconds, "s")
    return orders(random, random.integers(0, STORES, rows), at, at + pd.Timedelta(minutes=1))


def late_orders(random: np.random.Generator, late: str, groups: int, reached: datetime) -> pd.DataFrame:
    """Three late orders in each of some groups."""
    first = DAYS - 14 if late == "recent" else 0
    store, day = random.integers(0, STORES, groups), random.integers(first, DAYS, groups)
    at = pd.Timestamp(BEGIN) + pd.to_timedelta(np.repeat(day, 3), "D") + pd.Timedelta(hours=12)
    known = pd.DatetimeIndex([pd.Timestamp(reached) + pd.Timedelta(hours=5)] * (3 * groups))
    return orders(random, np.repeat(store, 3), at, known)


def orders(
    random: np.random.Generator, store: np.ndarray, at: pd.DatetimeIndex, known_at: pd.DatetimeIndex
) -> pd.DataFrame:
    """Orders of these stores and times."""
    size = len(store)
    return pd.DataFrame({
        "id": random.integers(0, 1 << 60, size), "store": store.astype("int32"), "at": at,
        "amount": random.gamma(2, 20, size).round(2), "items": random.integers(1, 9, size).astype("int32"),
        "customer": random.integers(0, 200_000, size).astype("int32"), "known_at": known_at,
    })  # fmt: skip


def append(path: str, frame: pd.DataFrame) -> None:
    """Appends to the raw table, as landing does."""
    write_deltalake(path, to_arrow(frame, COLUMNS, "orders"), mode="append")


def check_equal(one: Workspace, other: Workspace) -> None:
    """The incremental table is the full one: figures of a wrong table say nothing."""
    keys = ["store", "event_time"]
    found, expected = (
        DeltaTable(workspace.addresses.readable("shop.store_daily")).to_pyarrow_table().to_pandas()
        .drop(columns="_known_at").sort_values(keys, ignore_index=True)
        for workspace in (one, other)
    )  # fmt: skip
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


if __name__ == "__main__":
    for line in run():
        print(line)
