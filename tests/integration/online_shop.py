"""Helpers: a project with one feature table of every type, written by deltalake, and online stores to publish it to."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import arrow_schema, create_if_missing, upsert
from penstock.spec.environment import Environment
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Project
from penstock.workspace import Workspace

PROJECT, TABLE = "shop", "customers"
KEYS = ["customer", "shelf"]
COLUMNS = {
    "customer": "string", "shelf": "int", "event_time": "timestamp", "vip": "boolean", "items": "int",
    "points": "bigint", "score": "float", "spent": "double", "note": "string", "born": "date", "seen": "timestamp",
}  # fmt: skip


def at(day: int, hour: int = 0) -> datetime:
    """A moment of January 2024, UTC."""
    return datetime(2024, 1, day, hour, tzinfo=UTC)


def open_shop(folder: Path, store: dict[str, Any], columns: dict[str, str] = COLUMNS, **online: Any) -> Workspace:
    """The project in a lakehouse of its own, with `store` as the environment's online store."""
    tables = {
        name: {
            "description": "A customer.", "primary_keys": KEYS, "inputs": ["orders"], "sql": "never.sql",
            "columns": columns, "online": online or True,
        }
        for name in (TABLE, "visitors", "suppliers")
    }  # fmt: skip
    orders = {"description": "d", "primary_keys": ["id"], "available_at": "t",
              "columns": {"id": "bigint", "t": "timestamp"}}  # fmt: skip
    spec = Project.model_validate(
        {"name": PROJECT, "description": "d", "owner": "o", "sources": {"orders": orders}, "feature_tables": tables}
    )
    environment = Environment.model_validate(
        {"name": "dev", "description": "d", "lakehouse": {"root": str(folder / "lakehouse")}, "schedules": False,
         "approval": {"mode": "automatic"}, "online_stores": {"default": store}}
    )  # fmt: skip
    return Workspace(folder, environment, inline=(LoadedProject(spec, folder),))


def row(customer: str, event_time: datetime, **values: Any) -> dict[str, Any]:
    """A row of the table; what is not given is null."""
    return {**dict.fromkeys(COLUMNS), "customer": customer, "shelf": 1, "event_time": event_time, **values}


def put(workspace: Workspace, rows: list[dict[str, Any]], as_of: datetime, table: str = TABLE) -> int:
    """Merges rows by keys and event time. Answers the version."""
    spec = workspace.project(PROJECT).spec.feature_tables[table]
    path = workspace.addresses.writable(f"{PROJECT}.{table}")
    create_if_missing(path, spec.columns, keys=spec.key_columns, description="d")
    schema = arrow_schema({name: column.type for name, column in spec.columns.items()}, spec.key_columns)
    return upsert(path, pa.Table.from_pylist(rows, schema), spec.key_columns, record(as_of))


def delete(workspace: Workspace, condition: str, table: str = TABLE) -> None:
    """Removes rows."""
    DeltaTable(workspace.addresses.readable(f"{PROJECT}.{table}")).delete(condition)


MakeShop = Callable[..., Workspace]
