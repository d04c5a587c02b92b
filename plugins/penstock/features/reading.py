"""Reads a table for people: at a version, or as of a moment, with the values that were known then."""

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.errors import TableError
from penstock.features.histories import find_history
from penstock.features.inputs import sql_moment
from penstock.features.known import KNOWN_AT, KNOWN_UNTIL
from penstock.features.table_info import TableInfo
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.old_versions import is_readable, readable_versions
from penstock.spec.faults import suggestion
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


def read_frame(
    workspace: Workspace, info: TableInfo, columns: list[str] | None, version: int | None, as_of: datetime | None
) -> "pd.DataFrame":
    """A table as a pandas DataFrame: `version` of it, or what was available and known at as_of, or the newest.

    A bigint column with nulls is pandas' Int64: floats would round it.

    Raises TableError for an unknown column or version, and for a table without rows in any version.
    """
    from penstock.lakehouse.small_tables import exact_frame, read_arrow

    chosen = _columns(info, columns)
    path = check_version(info, version)
    if as_of is None:
        return exact_frame(read_arrow(path, version=version, columns=chosen))
    return exact_frame(_known_then(workspace, info, chosen, as_of))


def read_spark(
    workspace: Workspace, spark: "SparkSession", info: TableInfo, columns: list[str] | None, version: int | None,
    as_of: datetime | None,
) -> "DataFrame":  # fmt: skip
    """The same as a Spark DataFrame of a session."""
    chosen = [quote(name) for name in _columns(info, columns)]
    reader = spark.read.format("delta")
    path = check_version(info, version)
    if version is not None:
        reader = reader.option("versionAsOf", version)
    frame = reader.load(path)
    if as_of is None:
        return frame.select(*chosen)
    moment = sql_moment(as_of)
    frame = frame.where(f"{quote(_time(info))} <= {moment}")
    if KNOWN_AT in frame.columns:
        frame = frame.where(f"{KNOWN_AT} IS NULL OR {KNOWN_AT} <= {moment}")
    history = find_history(workspace, Address.parse(info.name))
    if history is None or KNOWN_AT not in frame.columns:
        return frame.select(*chosen)
    old = spark.read.format("delta").load(history).where(f"{quote(_time(info))} <= {moment}")
    old = old.where(f"coalesce({KNOWN_AT}, {quote(_time(info))}) <= {moment} AND {KNOWN_UNTIL} > {moment}")
    old = old.join(frame, [*info.primary_keys, _time(info), KNOWN_AT], "left_anti")
    there = [name for name in chosen if name.strip("`") in old.columns]
    return frame.select(*chosen).unionByName(old.select(*there), allowMissingColumns=True)


def check_version(info: TableInfo, version: int | None) -> str:
    """The table's path. Raises TableError where it was never filled, or has no such version (any more)."""
    if info.path is None or info.version is None:
        raise TableError(f"{info.name} is declared, but was never filled: run its pipeline first")
    if version is not None and not 0 <= version <= info.version:
        raise TableError(f"{info.name} has no version {version}: its newest is {info.version}")
    if version is not None and version != info.version and not is_readable(info.path, version):
        raise TableError(
            f"{info.name}@{version} cannot be read any more: maintenance removed its files. There are versions "
            f"{readable_versions(info.path, info.version)}. Kept are those within the environment's "
            "maintenance.retention, and those that a registered model was trained from"
        )
    return info.path


def _columns(info: TableInfo, columns: list[str] | None) -> list[str]:
    for name in columns or ():
        if name not in info.column_names:
            raise TableError(f"{info.name} has no column {name!r}: {suggestion(name, info.column_names, 'columns')}")
    return columns or info.column_names


def _time(info: TableInfo) -> str:
    if info.timestamp_key is None:
        raise TableError(f"{info.name} has no timestamp key, so it cannot be read as of a moment: give a version")
    return info.timestamp_key


def _known_then(workspace: Workspace, info: TableInfo, columns: list[str], as_of: datetime) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.dataset as dataset

    time, known, until = (dataset.field(name) for name in (_time(info), KNOWN_AT, KNOWN_UNTIL))
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    available = time <= moment
    versions = [*info.primary_keys, _time(info), KNOWN_AT]
    needed = list(dict.fromkeys([*columns, *versions]))
    current = _select(str(info.path), needed, available & (known.is_null() | (known <= moment)), available)
    history = find_history(workspace, Address.parse(info.name))
    if history is None:
        return current.select(columns)
    was_known = (known.is_null() | (known <= moment)) & (until > moment)
    schema = pa.schema([field.with_nullable(True) for field in current.schema])
    old = _select(history, needed, available & was_known, available).cast(schema)
    # a writer that died between the two tables left a row version in both
    old = old.join(current.select(versions), versions, join_type="left anti")
    return pa.concat_tables([current.cast(schema), old.select(needed)]).select(columns)


def _select(path: str, columns: list[str], rows: object, without_known: object) -> "pa.Table":
    """Rows and columns of a table; a column that it does not have (yet) is null."""
    import pyarrow as pa

    from penstock.lakehouse.small_tables import open_dataset, version

    found = open_dataset(path, version(path))
    names = found.schema.names
    table = found.to_table(
        columns=[name for name in columns if name in names], filter=rows if KNOWN_AT in names else without_known
    )
    for name in columns:
        if name not in names:
            table = table.append_column(name, pa.nulls(len(table)))
    return table.select(columns)
