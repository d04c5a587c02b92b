"""The tables that a transformation, a training set or a score reads: at a version, up to as_of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.features.histories import find_history
from penstock.features.known import history_name
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.session import read_version
from penstock.spec.project import Lookup
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


@dataclass(frozen=True)
class InputTable:
    """A raw or feature table at one version; `available_at` is the column that as_of cuts, `id` Delta's own."""

    name: str
    address: str
    path: str
    available_at: str
    version: int
    id: str = ""

    @cached_property
    def opened(self) -> "DeltaTable":
        """The table at its version; its log is read once."""
        from deltalake import DeltaTable

        return DeltaTable(self.path, version=self.version)

    def read(self, spark: "SparkSession", as_of: datetime, after: datetime | None = None) -> "DataFrame":
        """The rows that were available at as_of (and, with `after`, not yet at that moment)."""
        frame = read_version(spark, self.path, self.version)
        return self._cut(frame, as_of, after)

    def changes(self, spark: "SparkSession", since_version: int, as_of: datetime) -> "DataFrame":
        """The rows that commits after `since_version` inserted, updated (both images) or deleted."""
        frame = (
            spark.read.format("delta").option("readChangeFeed", "true")
            .option("startingVersion", since_version + 1).option("endingVersion", self.version).load(self.path)
        )  # fmt: skip
        return self._cut(frame.drop("_change_type", "_commit_version", "_commit_timestamp"), as_of, None)

    def has_rows(self, after: datetime, until: datetime) -> bool:
        """Whether rows became available in (after, until]."""
        from penstock.lakehouse.small_tables import read_arrow

        bounds = [(self.available_at, ">", after), (self.available_at, "<=", until)]
        return len(read_arrow(self.path, version=self.version, columns=[self.available_at], filters=bounds)) > 0

    def may_exceed(self, version: int, column: str, moment: datetime) -> bool:
        """Whether a version may hold values of a timestamp column after a moment, by the log's statistics alone."""
        import pyarrow as pa
        import pyarrow.compute as compute
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            actions = pa.table(DeltaTable(self.path, version=version).get_add_actions(flatten=True))
        except DeltaError:
            return True  # that version's log was cleaned up
        if not actions.num_rows:
            return False
        if f"max.{column}" not in actions.column_names:
            return True
        greatest = actions[f"max.{column}"].cast(pa.timestamp("us", tz="UTC"))
        rounded = pa.scalar(moment - timedelta(milliseconds=1), greatest.type)  # Spark's statistics are cut to these
        return bool(compute.any(compute.fill_null(compute.greater(greatest, rounded), True)).as_py())

    def nulls(self, column: str) -> int:
        """How many rows have no value in a column, as far as the log's statistics say."""
        import pyarrow as pa
        import pyarrow.compute as compute

        if not any(field.nullable for field in self.opened.schema().fields if field.name == column):
            return 0
        actions, name = pa.table(self.opened.get_add_actions(flatten=True)), f"null_count.{column}"
        return int(compute.sum(actions[name]).as_py() or 0) if name in actions.column_names else 0

    def require(self, wanted: Iterable[str]) -> None:
        """Raises TableError where the table lacks one of these columns."""
        columns = [field.name for field in self.opened.schema().fields]
        missing = [name for name in dict.fromkeys(wanted) if name not in columns]
        if missing:
            raise TableError(
                f"{self.address}@{self.version} has no column(s) {', '.join(missing)}; it has: {', '.join(columns)}"
            )

    def has_change_feed(self) -> bool:
        """Whether the table's commits say which rows they changed."""
        return self.opened.metadata().configuration.get("delta.enableChangeDataFeed") == "true"

    def _cut(self, frame: "DataFrame", as_of: datetime, after: datetime | None) -> "DataFrame":
        frame = frame.where(f"`{self.available_at}` <= {sql_moment(as_of)}")
        return frame if after is None else frame.where(f"`{self.available_at}` > {sql_moment(after)}")


def open_lookups(
    workspace: Workspace, project: str, lookups: Sequence[Lookup], as_known: bool
) -> dict[str, InputTable]:
    """The tables of lookups by name; with `as_known` those of their old row versions, where there are any."""
    from penstock.lakehouse.small_tables import version

    found = {lookup.table: open_input(workspace, project, lookup.table) for lookup in lookups}
    for name, table in list(found.items()) if as_known else ():
        address = Address.parse(name, project)
        path = find_history(workspace, address)
        if path is not None:
            old = str(Address(address.project, history_name(address.table), address.root))
            history = InputTable(history_name(name), old, path, table.available_at, version(path))
            found[history.name] = history
    return found


def open_input(workspace: Workspace, project: str, name: str) -> InputTable:
    """The table `name` (of the project, or `project.table`) at its newest version.

    Raises TableError where it is not declared or does not exist yet.
    """
    from deltalake import DeltaTable

    address = Address.parse(name, project)
    path = workspace.addresses.readable(address)
    table = DeltaTable(path)
    return InputTable(
        name, str(address), path, available_at(workspace, address), table.version(), str(table.metadata().id)
    )


def unused_rows(table: InputTable, *times: str) -> list[str]:
    """What a person should know of rows that are never read: those without available_at or one of these times."""
    found = {column: table.nulls(column) for column in dict.fromkeys([table.available_at, *times])}
    return [f"{count} row(s) of {table.address} have no {name}: unused" for name, count in found.items() if count]


def available_at(workspace: Workspace, address: Address) -> str:
    """The column that says when a row of a table may be used.

    A table that no project.yaml declares says so itself (FeatureStore.create_table).
    Raises TableError where it does not.
    """
    spec = workspace.project(address.project).spec
    if address.table in spec.sources:
        return spec.sources[address.table].available_at
    if address.table in spec.feature_tables:
        return spec.feature_tables[address.table].event_time
    event_time = _own_event_time(workspace.addresses.find(address))
    if event_time is None:
        raise TableError(
            f"{address} is neither a source nor a feature table of project {address.project}, and has no event time "
            "of its own: declare it in project.yaml, or make it by FeatureStore.create_table with a timestamp_key"
        )
    return event_time


def _own_event_time(path: str | None) -> str | None:
    from deltalake import DeltaTable

    return DeltaTable(path).metadata().configuration.get("penstock.event_time") if path else None


def sql_moment(moment: datetime) -> str:
    """A UTC moment as a SQL literal."""
    return f"TIMESTAMP '{to_text(moment)}'"
