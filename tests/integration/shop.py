"""A small project whose raw tables a test writes itself: orders of stores, by day and by region."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from deltalake import DeltaTable, write_deltalake

from penstock.features.merge import RefreshedTable, merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.lakehouse.small_tables import create_if_missing, read, to_arrow
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

SHOP = "shop"
END_OF_DAY = "date_trunc('DAY', {at}) + INTERVAL 1 DAY"
STORE_DAILY = (
    "SELECT store, date_trunc('DAY', at) + INTERVAL 1 DAY AS event_time, sum(amount) AS total, count(*) AS orders "
    "FROM orders GROUP BY 1, 2"
)
REGION_DAILY = (
    "SELECT s.region, date_trunc('DAY', o.at) + INTERVAL 1 DAY AS event_time, sum(o.amount) AS total "
    "FROM orders o JOIN stores s USING (store) GROUP BY 1, 2"
)
ORDERS = {"id": "int", "store": "string", "at": "timestamp", "amount": "double", "known_at": "timestamp"}
STORES = {"store": "string", "region": "string", "known_at": "timestamp"}


def declaration() -> dict[str, Any]:
    """The project's project.yaml as a mapping."""
    day = END_OF_DAY.format(at="at")
    return {
        "name": SHOP, "description": "Orders of stores.", "owner": "shop@example.com",
        "sources": {
            "orders": {"description": "Orders.", "primary_keys": ["id"], "available_at": "known_at",
                       "columns": dict(ORDERS)},
            "stores": {"description": "Stores.", "primary_keys": ["store"], "available_at": "known_at",
                       "columns": dict(STORES)},
        },
        "feature_tables": {
            "store_daily": {
                "description": "A store's orders of a UTC day.", "primary_keys": ["store"], "inputs": ["orders"],
                "sql": "store_daily.sql",
                "grain": {"columns": ["store", "event_time"],
                          "inputs": {"orders": {"expressions": {"store": "store", "event_time": day}}}},
                "columns": {"store": "string", "event_time": "timestamp", "total": "double", "orders": "bigint"},
            },
            "region_daily": {
                "description": "A region's orders of a UTC day.", "primary_keys": ["region"],
                "inputs": ["orders", "stores"], "sql": "region_daily.sql",
                "grain": {
                    "columns": ["event_time"],
                    "inputs": {
                        "orders": {"expressions": {"event_time": day}},
                        "stores": {"join": {"input": "orders", "using": ["store"]},
                                   "expressions": {"event_time": END_OF_DAY.format(at="orders.at")}},
                    },
                },
                "columns": {"region": "string", "event_time": "timestamp", "total": "double"},
            },
        },
    }  # fmt: skip


@dataclass
class Shop:
    """The project's folder, its workspace, and its raw tables."""

    folder: Path
    workspace: Workspace

    def write_spec(self, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """Writes project.yaml, changed."""
        spec = declaration()
        change(spec)
        (self.folder / "project.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def path(self, table: str) -> str:
        """The path of a table, whether it exists or not."""
        return self.workspace.addresses.writable(f"{SHOP}.{table}")

    def add(self, table: str, *rows: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> None:
        """Appends rows to a raw table, made where it is missing."""
        declared = columns or (ORDERS if table == "orders" else STORES)
        types = {name: ColumnType(kind) for name, kind in declared.items()}
        create_if_missing(self.path(table), {n: Column(type=t) for n, t in types.items()}, keys=[], description=table)
        frame = pd.DataFrame(list(rows), columns=list(types))
        write_deltalake(self.path(table), to_arrow(frame, types, table), mode="append")

    def raw(self, table: str) -> DeltaTable:
        """A raw table, to change."""
        return DeltaTable(self.path(table))

    def refresh(self, table: str, as_of: datetime) -> RefreshedTable:
        """Stages, validates and merges one feature table."""
        staged = stage_table(self.workspace, SHOP, table, as_of)
        return merge_batch(self.workspace, validate_batch(self.workspace, staged))

    def rows(self, table: str, keys: list[str]) -> pd.DataFrame:
        """A table's rows, sorted; none where it does not exist."""
        if not DeltaTable.is_deltatable(self.path(table)):
            return pd.DataFrame(columns=keys)
        return read(self.path(table)).sort_values(keys, ignore_index=True)


def open_shop(make_workspace: Callable[..., Workspace], folder: Path) -> Shop:
    """A shop without rows in a folder of its own."""
    project = folder / "root/include/projects/shop"
    project.mkdir(parents=True)
    environment = folder / "root/include/environments/dev.yaml"
    environment.parent.mkdir()
    environment.write_text(
        (Path(__file__).resolve().parents[1] / "second_root/include/environments/dev.yaml").read_text()
    )
    (project / "store_daily.sql").write_text(STORE_DAILY)
    (project / "region_daily.sql").write_text(REGION_DAILY)
    shop = Shop(project, make_workspace(folder / "root", folder / "lakehouse"))
    shop.write_spec()
    return shop
