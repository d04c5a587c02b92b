"""Maintenance of one Delta table: small files are joined, files that nobody needs are removed, old commits forgotten.

Delta's own VACUUM knows only a time. Here the files of named versions are kept as well, and those since a version
whose changes somebody has not read yet.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.errors import ServiceError
from penstock.spec.sql import quote

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem
    from pyspark.sql.connect.session import SparkSession

DELTALAKE, SPARK = "deltalake", "spark"
_HISTORY, _FOR_GOOD = "delta.logRetentionDuration", "interval 3650 days"
_COMMIT = re.compile(r"(\d{20})\.(json|crc|checkpoint\..*parquet)")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


@dataclass(frozen=True)
class Keep:
    """What of a table's past stays: files of `versions`, and whatever changed after version `changes_since`."""

    retention: timedelta
    log_retention: timedelta
    versions: frozenset[int] = frozenset()
    changes_since: int | None = None


@dataclass(frozen=True)
class Removal:
    """What may go: data files and commits, with the reasons for what stays longer than the retention says."""

    files: list[str]
    commits: list[str]
    notes: list[str] = field(default_factory=list)


def writing_engine(table: "DeltaTable") -> str:
    """The engine that writes a table: by its property penstock.writer, else by its newest commit of data."""
    declared = table.metadata().configuration.get("penstock.writer")
    if declared:
        return str(declared)
    for commit in table.history():
        if commit.get("operation") not in ("CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES"):
            return SPARK if "Spark" in str(commit.get("engineInfo")) else DELTALAKE
    return DELTALAKE


def compact(path: str, cluster_by: Sequence[str]) -> None:
    """Joins a table's small files by deltalake, sorted along a Z-order curve of `cluster_by` if given.

    Raises ServiceError where a writer was faster.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    table = DeltaTable(path)
    try:
        if cluster_by and len(table.file_uris()) > 1:
            table.optimize.z_order(list(cluster_by))
        else:
            table.optimize.compact()
    except CommitFailedError as error:
        raise ServiceError(f"{path}: somebody wrote while its files were joined; run this again") from error


def compact_with_spark(spark: "SparkSession", path: str, cluster_by: Sequence[str]) -> None:
    """The same by Spark, for the tables that Spark writes."""
    from deltalake import DeltaTable

    quoted = ", ".join(map(quote, cluster_by))
    several = len(DeltaTable(path).file_uris()) > 1
    order = f" ZORDER BY ({quoted})" if cluster_by and several else ""
    spark.sql(f"OPTIMIZE delta.{quote(path)}{order}").collect()


def keep_history(path: str, spark: "SparkSession | None") -> None:
    """Has a table keep its commits, which writers otherwise forget after 30 days; nothing where that was decided.

    `spark` for the tables that Spark writes.
    """
    from deltalake import DeltaTable

    table = DeltaTable(path)
    if _HISTORY in table.metadata().configuration:
        return
    if spark is None:
        table.alter.set_table_properties({_HISTORY: _FOR_GOOD})
    else:
        spark.sql(f"ALTER TABLE delta.{quote(path)} SET TBLPROPERTIES ('{_HISTORY}' = '{_FOR_GOOD}')").collect()


def checkpoint(path: str) -> None:
    """Writes a table's state at its newest version into one file, from which readers start; Spark does so itself."""
    from deltalake import DeltaTable

    DeltaTable(path).create_checkpoint()


def find_removable(path: str, keep: Keep) -> Removal:
    """The files and commits that nobody needs; nothing is changed."""
    from deltalake import DeltaTable

    table = DeltaTable(path)
    readable, notes = _readable(path, keep.versions)
    retention = keep.retention
    if keep.changes_since is not None and keep.changes_since < table.version():
        unread = now() - _committed_at(table, keep.changes_since) + timedelta(hours=1)
        if unread > retention:
            notes.append(f"changes since version {keep.changes_since} have not been read by all: their files stay")
            retention = unread
    files = table.vacuum(
        retention_hours=-(-int(retention.total_seconds()) // 3600), dry_run=True, enforce_retention_duration=False,
        full=True, keep_versions=readable or None,
    )  # fmt: skip
    oldest = min([*keep.versions, *([] if keep.changes_since is None else [keep.changes_since]), table.version()])
    commits = _expired_commits(path, oldest, now() - keep.log_retention)
    return Removal(sorted(files), commits, notes)


def remove(path: str, removal: Removal) -> None:
    """Removes files and commits; what is gone already is passed over."""
    from pyarrow.fs import FileType

    system, inner = open_files(path)
    names = [*removal.files, *(f"_delta_log/{name}" for name in removal.commits)]
    for info in system.get_file_info([f"{inner}/{name}" for name in names]):
        if info.type == FileType.File:
            system.delete_file(info.path)


def removable_bytes(path: str, removal: Removal) -> int:
    """The bytes that removing would free."""
    system, inner = open_files(path)
    names = [*removal.files, *(f"_delta_log/{name}" for name in removal.commits)]
    return sum(int(info.size or 0) for info in system.get_file_info([f"{inner}/{name}" for name in names]))


def size(path: str) -> tuple[int, int]:
    """How many files a table's folder holds, and their bytes; commits included."""
    from pyarrow.fs import FileSelector, FileType

    system, inner = open_files(path)
    files = [f for f in system.get_file_info(FileSelector(inner, recursive=True)) if f.type == FileType.File]
    return len(files), sum(int(found.size or 0) for found in files)


def open_files(path: str) -> tuple["FileSystem", str]:
    """The file system of a table and the table's folder in it."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if "://" not in path:
        return LocalFileSystem(), path.rstrip("/")
    system, inner = FileSystem.from_uri(path)
    return system, str(inner).rstrip("/")


def _readable(path: str, versions: frozenset[int]) -> tuple[list[int], list[str]]:
    """The versions that can still be opened (their files are kept), and a note for each that cannot."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    readable, notes = [], []
    for version in sorted(versions):
        try:
            DeltaTable(path, version=version)
        except (DeltaError, OSError) as error:
            notes.append(f"version {version} is needed, but cannot be opened: {str(error).splitlines()[0][:150]}")
        else:
            readable.append(version)
    return readable, notes


def _committed_at(table: "DeltaTable", version: int) -> datetime:
    for commit in table.history():
        if commit.get("version") == version:
            return datetime.fromtimestamp(int(commit["timestamp"]) / 1000, UTC)
    return datetime.fromtimestamp(0, UTC)  # its commit is forgotten: keep everything


def _expired_commits(path: str, oldest_needed: int, before: datetime) -> list[str]:
    """Names in _delta_log of what was committed before a moment and before the checkpoint that readers start from.

    That is the newest checkpoint that is no younger than the oldest needed version, and older than the moment.
    """
    from pyarrow.fs import FileSelector

    system, inner = open_files(path)
    found = {info.base_name: info for info in system.get_file_info(FileSelector(f"{inner}/_delta_log"))}
    starts: list[int] = []
    for name, info in found.items():
        match = _CHECKPOINT.fullmatch(name)
        if match and int(match[1]) <= oldest_needed and _modified(info) < before:
            starts.append(int(match[1]))
    if not starts:
        return []
    matches = ((name, _COMMIT.fullmatch(name)) for name in found)
    return sorted(name for name, match in matches if match and int(match[1]) < max(starts))


def _modified(info: Any) -> datetime:
    return info.mtime.astimezone(UTC) if info.mtime is not None else now()
