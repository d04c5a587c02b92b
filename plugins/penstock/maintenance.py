"""Maintenance of a project's tables: what registered models and consumers of changes need is kept."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.errors import NothingToDo, ServiceError, SpecError
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.maintenance import (
    SPARK,
    Keep,
    checkpoint,
    compact,
    compact_with_spark,
    find_removable,
    keep_history,
    removable_bytes,
    remove,
    size,
    writing_engine,
)
from penstock.lakehouse.records import latest_record
from penstock.online.offline import online_table, online_tables
from penstock.registry.compliance.own_environment import prune_environments
from penstock.registry.pins import pinned_versions
from penstock.spec.common import parse_duration
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

_SHORTEST = timedelta(days=7)


@dataclass(frozen=True)
class MaintainedTable:
    """A table after maintenance (before it, in a dry run): sizes in bytes, commits included.

    removed_files counts data files and commits. pinned names for each kept version the model that needs it.
    """

    table: str
    engine: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    removed_files: int
    pinned: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class MaintainedProject:
    """What maintenance did to a project's tables, or in a dry run would do.

    environments_removed: virtual environments of the check own_environment, of all projects on this machine.
    """

    project: str
    dry_run: bool
    tables: tuple[MaintainedTable, ...]
    environments_removed: tuple[str, ...] = ()

    @property
    def bytes_freed(self) -> int:
        """Bytes before less bytes after."""
        return sum(table.bytes_before - table.bytes_after for table in self.tables)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for XCom."""
        return {**asdict(self), "tables": [asdict(table) for table in self.tables], "bytes_freed": self.bytes_freed}

    def to_markdown(self) -> str:
        """A table of the tables."""
        lines = [
            f"### table_maintenance of {self.project}{' (dry run)' if self.dry_run else ''}",
            "",
            "| table | engine | files | bytes | removed | pinned versions | notes |",
            "|---|---|---|---|---|---|---|",
        ]
        for t in self.tables:
            pinned = ", ".join(f"{version} ({why})" for version, why in t.pinned.items())
            lines.append(
                f"| {t.table} | {t.engine} | {t.files_before:,} → {t.files_after:,} | {t.bytes_before:,} → "
                f"{t.bytes_after:,} | {t.removed_files:,} | {pinned} | {'; '.join(t.notes)} |"
            )
        if self.environments_removed:
            lines += ["", f"old environments of the check own_environment: {len(self.environments_removed)} removed"]
        return "\n".join(lines)


def maintain_project(
    workspace: Workspace, project: str, *, dry_run: bool = False, retention: timedelta | None = None
) -> MaintainedProject:
    """Joins small files of each of a project's own tables, then removes what is older than the retention.

    Never removed are the files of versions that a registered model was trained from, and those of changes that a
    feature table or an online store has not read yet. `retention` is the environment's by default. Virtual environments
    that the check own_environment has not used lately go, too. A dry run changes nothing and counts what would be
    removed without joining files first.

    Raises SpecError for a retention under 7 days that the environment does not allow, ServiceError where the
    registry or Spark does not answer, NothingToDo where there are no tables.
    """
    rules = workspace.environment.maintenance
    kept = rules.retention if retention is None else retention
    if kept < _SHORTEST and not rules.allow_short_retention:
        raise SpecError(
            f"a retention of {kept} takes files away from queries that still run: give 7d or more, or write "
            f"`maintenance: {{allow_short_retention: true}}` in include/environments/{workspace.environment.name}.yaml"
        )
    tables = _own_tables(workspace, project)
    if not tables:
        raise NothingToDo(f"{project} has no tables yet")
    pins = pinned_versions(workspace)
    unread = _unread_changes(workspace)
    done = []
    with ExitStack() as sessions:
        spark: SparkSession | None = None
        for name, path in tables.items():
            address = f"{project}.{name}"
            keep = Keep(kept, rules.log_retention, frozenset(pins.get(address, ())), unread.get(address))
            if spark is None and not dry_run and _engine(path) == SPARK:
                spark = sessions.enter_context(workspace.spark())
            reasons = {str(version): why for version, why in sorted(pins.get(address, {}).items())}
            done.append(_maintain(workspace, address, path, keep, reasons, spark, dry_run))
    return MaintainedProject(project, dry_run, tuple(done), tuple(prune_environments(dry_run=dry_run)))


def _maintain(
    workspace: Workspace, address: str, path: str, keep: Keep, pinned: dict[str, str],
    spark: "SparkSession | None", dry_run: bool,
) -> MaintainedTable:  # fmt: skip
    engine = _engine(path)
    files_before, bytes_before = size(path)
    notes: list[str] = []
    if not dry_run:
        try:
            _tidy(path, spark if engine == SPARK else None, _cluster_by(workspace, address))
        except ServiceError as error:
            notes.append(str(error))
    removal = find_removable(path, keep)
    removed = len(removal.files) + len(removal.commits)
    if dry_run:
        files_after, bytes_after = files_before - removed, bytes_before - removable_bytes(path, removal)
    else:
        remove(path, removal)
        files_after, bytes_after = size(path)
    return MaintainedTable(
        address, engine, files_before, files_after, bytes_before, bytes_after, removed, pinned,
        [*notes, *removal.notes],
    )  # fmt: skip


def _tidy(path: str, spark: "SparkSession | None", cluster_by: list[str]) -> None:
    """Joins files; `spark` for the tables that Spark writes."""
    keep_history(path, spark)
    if spark is not None:
        compact_with_spark(spark, path, cluster_by)
    else:
        compact(path, cluster_by)
        checkpoint(path)


def _engine(path: str) -> str:
    from deltalake import DeltaTable

    return writing_engine(DeltaTable(path))


def _own_tables(workspace: Workspace, project: str) -> dict[str, str]:
    """The project's tables that this environment writes, by name; those of read-only roots are their owner's."""
    addresses = workspace.addresses
    found = addresses.tables(project)
    return {name: path for name, path in found.items() if path == addresses.writable(f"{project}.{name}")}


def _cluster_by(workspace: Workspace, address: str) -> list[str]:
    table = workspace.declared_table(Address.parse(address))
    return table.cluster_by if table else []


def _unread_changes(workspace: Workspace) -> dict[str, int]:
    """By table, the oldest version that a feature table of any project, or an online store, has read up to."""
    unread: dict[str, int] = {}

    def note(address: str, version: int) -> None:
        unread[address] = min(version, unread.get(address, version))

    for project in [*workspace.project_names, *(given.name for given in workspace.inline)]:
        for table in workspace.project(project).spec.feature_tables:
            path = workspace.addresses.find(f"{project}.{table}")
            last = latest_record(path) if path is not None else None
            for name, version in (last.inputs if last else {}).items():
                note(str(Address.parse(name, project)), version)
        for table in online_tables(workspace, project):
            path = workspace.addresses.find(f"{project}.{table}")
            store = online_table(workspace, project, table).settings.store
            published = _published(workspace, f"{project}.{table}", store, path) if path is not None else None
            if published is not None:
                note(f"{project}.{table}", published)
    return unread


def _published(workspace: Workspace, address: str, store_name: str, path: str) -> int | None:
    """The version that is online; None where none is, or that of another table."""
    from deltalake import DeltaTable

    from penstock.online.store import open_store

    with open_store(workspace.environment, store_name) as store:
        position = store.position(address)
    same = position is not None and position.table_id == str(DeltaTable(path).metadata().id)
    return position.version if position is not None and same else None


def parse_retention(text: str | None) -> timedelta | None:
    """A duration such as 14d; None where none is given. Raises SpecError for a text that is none."""
    if not text:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"retention: {error}") from error
