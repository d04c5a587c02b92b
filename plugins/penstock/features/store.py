"""The one client of the feature store, the same in a notebook, a task and a test.

    from penstock.features import FeatureStore
    store = FeatureStore("shop")

It stands above the packages that it leads to: lineage, the registry's models, the online store.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from penstock.clock import parse_as_of
from penstock.errors import TableError
from penstock.features.own_columns import add_columns, drop_columns
from penstock.features.own_tables import (
    TableDefinition,
    check_definition,
    create,
    describe_anew,
    infer_schema,
    open_own_table,
    parse_online,
    parse_schema,
    to_pandas,
)
from penstock.features.table_info import TableInfo, describe_table, find_tables
from penstock.features.writing import WriteMode, WrittenTable, check_rows, write_rows
from penstock.lakehouse.addresses import Address
from penstock.spec.faults import suggestion
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.session import SparkSession

    from penstock.features.kept_entities import Entities
    from penstock.features.training_records import TrainingSet
    from penstock.lineage.graph import Graph
    from penstock.online.publish import PublishedTable
    from penstock.spec.project import Lookup, OnDemand
    from penstock.training.given import GivenTrainingSet
    from penstock.training.register import RegisteredVersion


class FeatureStore:
    """Feature tables of an environment: found, made, written, read, joined, served, and traced.

    :param project: the project whose tables are named without it, and which own what is made here.
    :param workspace: an open workspace, or an environment's name; PENSTOCK_ENV by default.

    A table's name is `table` (of the project), `project.table`, or `root:project.table` for one read-only root.
    """

    def __init__(self, project: str | None = None, workspace: Workspace | str | None = None) -> None:
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
        self.project = project
        if project is not None:
            self.workspace.project(project)

    def create_table(
        self, name: str, primary_keys: str | Sequence[str], timestamp_key: str, *, df: Any = None,
        schema: Mapping[str, Any] | None = None, description: str = "", owner: str | None = None,
        tags: Mapping[str, str] | None = None, column_descriptions: Mapping[str, str] | None = None,
        inputs: Sequence[str] = (), online: bool | Mapping[str, Any] | None = None, exist_ok: bool = False,
    ) -> TableInfo:  # fmt: skip
        """Makes a feature table, and writes the rows of `df` where one is given. Answers its description.

        :param timestamp_key: the timestamp column with the moment from which a row's values may be used.
        :param df: a pandas or Spark DataFrame; without `schema`, its columns and types are the table's.
        :param schema: by column a type (`"double"`), or `{"type": …, "description": …}`.
        :param inputs: tables that `df` was made from, for the lineage.
        :param online: served online by `publish_table`: True, or its store and ttl (`{"store": "fast", "ttl": "6h"}`).
        :param exist_ok: a table that is there with the same keys and types is kept, `df` written into it, and what is
            given of description, owner, tags and column_descriptions taken over.

        Raises TableError for a name that is taken, keys that are missing, rows that do not fit: nothing is made then.
        """
        address = self._address(name)
        frame = to_pandas(df) if df is not None else None
        keys = (primary_keys,) if isinstance(primary_keys, str) else tuple(primary_keys)
        definition = TableDefinition(
            keys, timestamp_key, self._columns(name, frame, schema, column_descriptions or {}), description,
            owner or "", dict(tags or {}), parse_online(address, online, self.workspace.environment),
        )  # fmt: skip
        if frame is not None:
            check_definition(address, definition)
            check_rows(address, definition, frame)
        create(self.workspace, address, definition, exist_ok)
        if frame is not None:
            self.write_table(name, frame, inputs=inputs)
        return describe_table(self.workspace, address)

    def update_table(
        self, name: str, *, description: str | None = None, owner: str | None = None,
        tags: Mapping[str, str] | None = None, column_descriptions: Mapping[str, str] | None = None,
    ) -> TableInfo:  # fmt: skip
        """Changes what people read of a table of one's own; what is not given stays. `tags` replace all tags."""
        table = open_own_table(self.workspace, self._address(name))
        describe_anew(table, description, owner, tags, column_descriptions or {})
        return describe_table(self.workspace, table.address)

    def write_table(
        self, name: str, df: Any, mode: Literal["merge", "overwrite"] = "merge", *,
        as_of: datetime | str | None = None, inputs: Sequence[str] = (),
    ) -> WrittenTable:  # fmt: skip
        """Writes rows by primary keys and event time: `merge` adds and replaces, `overwrite` removes the others, too.

        A repeat changes nothing. What was replaced stays in `<table>_history`.

        :param as_of: when the values became known; the replay clock, or now.
        :param inputs: tables that the rows were made from (`table` or `table@version`), for the lineage.

        Raises TableError for null or repeated keys, unknown or missing columns, and other types.
        """
        table = open_own_table(self.workspace, self._address(name))
        try:
            chosen = WriteMode(mode)
        except ValueError as error:
            raise TableError(f"{mode!r} is no way to write: choose merge or overwrite") from error
        return write_rows(
            self.workspace, table, to_pandas(df), chosen, self._moment(as_of), dict(map(self._versioned, inputs))
        )

    def read_table(
        self, name: str, *, columns: Sequence[str] | None = None, version: int | None = None,
        as_of: datetime | str | None = None, spark: "SparkSession | None" = None,
    ) -> Any:  # fmt: skip
        """A table as a pandas DataFrame, timestamps in UTC; as a Spark DataFrame where a session is given.

        :param version: a version of the Delta table; the newest by default.
        :param as_of: the rows that were available then, with the values that were known then.
        """
        from penstock.features.reading import read_frame, read_spark

        if version is not None and as_of is not None:
            raise TableError(f"{name}: give a version or an as_of, not both")
        info = self.get_table(name)
        chosen = list(columns) if columns is not None else None
        moment = parse_as_of(as_of) if as_of is not None else None
        if spark is None:
            return read_frame(self.workspace, info, chosen, version, moment)
        return read_spark(self.workspace, spark, info, chosen, version, moment)

    @contextmanager
    def spark(self) -> Iterator["SparkSession"]:
        """A Spark session for `read_table(…, spark=…)`, closed on leaving."""
        with self.workspace.spark() as session:
            yield session

    def get_table(self, name: str) -> TableInfo:
        """What a table is: keys, event time, owner, tags, columns, version, rows, inputs, freshness.

        Raises TableError, with the closest names, where there is none.
        """
        return describe_table(self.workspace, self._address(name))

    def list_tables(self, project: str | None = None) -> list[TableInfo]:
        """The raw and feature tables of a project; of every project where this client has none."""
        chosen = project or self.project
        return find_tables(self.workspace, [chosen] if chosen else self.workspace.project_names)

    def search(
        self, text: str = "", *, tags: Mapping[str, str] | None = None, owner: str | None = None,
        project: str | None = None,
    ) -> list[TableInfo]:  # fmt: skip
        """Tables of every project (or of one) with all words of `text` in names, descriptions or columns."""
        projects = [project] if project else self.workspace.project_names
        return find_tables(self.workspace, projects, text, tags, owner)

    def add_columns(self, name: str, schema: Mapping[str, Any]) -> TableInfo:
        """Adds columns to a table of one's own; they are null in its rows.

        Raises TableError for a name that a column of another type has, or had: its old values are kept.
        """
        address = self._address(name)
        add_columns(self.workspace, open_own_table(self.workspace, address), parse_schema(schema))
        return describe_table(self.workspace, address)

    def drop_columns(self, name: str, columns: Sequence[str], *, force: bool = False) -> TableInfo:
        """Removes columns from a table of one's own. Raises TableError that names the models that need them."""
        from penstock.lineage.dependants import require_unneeded

        address = self._address(name)
        table = open_own_table(self.workspace, address)
        what = f"{address}.{', '.join(columns)}"
        drop_columns(
            self.workspace, table, list(columns),
            check=lambda: require_unneeded(self.workspace, address, columns, force, what),
        )  # fmt: skip
        return describe_table(self.workspace, address)

    def drop_table(self, name: str, *, force: bool = False, keep_files: bool = False) -> None:
        """Removes a table of one's own, or one that is declared no longer, with its history.

        :param keep_files: move it to `_dropped/` beside the project's tables, from where it can be brought back.

        Raises TableError for a table that is declared, and one that names the models and tables that need it.
        """
        from penstock.lineage.dropping import drop_table

        drop_table(self.workspace, self._address(name), keep_files=keep_files, force=force)

    def create_training_set(
        self, df: "Entities", lookups: "Sequence[Lookup | Mapping[str, Any]]", *, timestamp_key: str,
        label: str | None = None, exclude_columns: Sequence[str] = (), as_known: bool = False,
        as_of: datetime | str | None = None, name: str | None = None,
        on_demand: "Mapping[str, OnDemand | Mapping[str, Any]] | None" = None,
    ) -> "GivenTrainingSet":  # fmt: skip
        """The rows of `df` with features as of each row's time, stored as `<name>_training_set` with its record.

        :param df: a pandas or Spark DataFrame, an Arrow table, or the name of a table, whose newest version is read;
            rows of Spark and of a table stay there.
        :param lookups: `{"table": …, "keys": …, "features": […], "rename": {…}, "max_age": "3d"}`, or Lookups. `keys`
            maps each primary key to an expression over `df`, its own name by default; all features by default.
        :param timestamp_key: the column that says when each prediction is asked for, with a time zone.
        :param exclude_columns: columns that identify a row, but are no features.
        :param as_known: the values as they were known at each time, later corrections left out.
        :param as_of: feature rows after it do not count; the replay clock, or now.
        :param on_demand: features that functions of the project compute from columns of `df` and looked-up features:
            `{"part_of_day": {"function": "models.on_demand.part_of_day", "inputs": ["hour"], "type": "string"}}`.
        """
        from penstock.features.training_set import training_set_of
        from penstock.training.given import GivenTrainingSet, parse_lookups, parse_on_demand

        project = self._own_project("create_training_set")
        chosen, computed = parse_lookups(lookups, self.get_table), parse_on_demand(on_demand or {})
        made = training_set_of(
            self.workspace, project, df, chosen, timestamp_key=timestamp_key, label=label, as_known=as_known,
            as_of=self._moment(as_of), name=name, on_demand_features=computed,
        )  # fmt: skip
        return GivenTrainingSet(self.workspace, project, made, chosen, tuple(exclude_columns), computed)

    def training_sets(self, table: str | None = None) -> "list[TrainingSet]":
        """The recorded training sets of the project, oldest first; of one `<name>_training_set` where it is named."""
        from penstock.features.training_records import list_training_sets

        return list_training_sets(self.workspace, self._own_project("training_sets"), table)

    def get_training_set(self, identifier: str, *, exclude_columns: Sequence[str] = ()) -> "GivenTrainingSet":
        """A recorded training set by its id, such as `late_arrival_training_set@3`, to read and to fit a model on.

        :param exclude_columns: columns of given entity rows that are no features; of a declared model's they are known.

        Raises TableError, with the closest ids, where there is none.
        """
        from penstock.training.given import recorded_training_set

        project = self._own_project("get_training_set")
        return recorded_training_set(self.workspace, project, identifier, exclude_columns)

    def rebuild_training_set(self, identifier: str) -> "TrainingSet":
        """Builds a recorded training set again from the table versions that it was made from, as `<table>_rebuilt`.

        Raises TableError where such a version is no longer there, and where the rows are not those recorded.
        """
        from penstock.features.training_set import rebuild_training_set

        return rebuild_training_set(self.workspace, self._own_project("rebuild_training_set"), identifier)

    def log_model(
        self, model: Any, training_set: "GivenTrainingSet", name: str, *, flavor: str = "sklearn",
        task: str = "classification", requirements: Sequence[str] = (),
    ) -> "RegisteredVersion":  # fmt: skip
        """Logs a fitted model with its lookups to the active MLflow run (or one of its own), and registers it.

        :param name: the registered model: `model` (of this project) or `project.model`.
        """
        from penstock.spec.project import Task
        from penstock.training.given import log_given_model

        full = name if "." in name else f"{self._own_project('log_model')}.{name}"
        return log_given_model(
            model, training_set, full, flavor=flavor, task=Task(task), requirements=requirements
        )  # fmt: skip

    def score_batch(
        self, model: str, df: "pd.DataFrame", *, timestamp_key: str | None = None, with_features: bool = False,
        as_of: datetime | str | None = None,
    ) -> "pd.DataFrame":  # fmt: skip
        """The rows of `df`, keys and prediction times, with a column `prediction` (and the features).

        :param model: `project.model@production`, `project.model/3`, `models:/…` or `runs:/…`.
        """
        from penstock.inference.keys import score_keys

        return score_keys(
            self.workspace, model, df, self._moment(as_of), timestamp_key=timestamp_key, with_features=with_features
        )

    def publish_table(
        self, name: str, *, as_of: datetime | str | None = None, full: bool = False
    ) -> "PublishedTable":  # fmt: skip
        """Makes the online store hold the newest row of each key of a table that is `online`."""
        from penstock.online.publish import publish_table

        address = self._address(name)
        return publish_table(self.workspace, address.project, address.table, self._moment(as_of), full=full)

    def read_online(
        self, lookups: "Sequence[Lookup | Mapping[str, Any]]", keys: Sequence[Mapping[str, Any]],
        at: datetime | str | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """For each entry of `keys` the features of all lookups from the online store, in one call.

        They are what a training set has with `at` (now by default) as the prediction time: ages and defaults count.
        """
        from penstock.online.reading import read_features
        from penstock.training.given import parse_lookups

        chosen = parse_lookups(lookups, self.get_table)
        moment = None if at is None else self._moment(at)
        return read_features(self.workspace, self._own_project("read_online"), chosen, keys, moment)

    def mlflow(self) -> Any:
        """The module mlflow, pointed at this environment's server."""
        import mlflow

        self.workspace.mlflow()
        return mlflow

    def lineage(self, name: str) -> "Graph":
        """What a table, a column (`table.column`) or a model version (`model/3`) was made from, and what uses it."""
        from penstock.lineage.build import lineage_of

        return lineage_of(self.workspace, name, self.project)

    def _own_project(self, what: str) -> str:
        if self.project is None:
            raise TableError(f"{what} writes into a project: open the client with FeatureStore(project=…)")
        return self.project

    def _address(self, name: str) -> Address:
        if self.project is None and "." not in name:
            raise TableError(f"of which project is {name!r}? Write project.table, or FeatureStore(project=…)")
        return Address.parse(name, self.project)

    def _moment(self, as_of: datetime | str | None) -> datetime:
        return self.workspace.moment(as_of)

    def _versioned(self, name: str) -> tuple[str, int]:
        table, _, number = name.partition("@")
        info = self.get_table(table)
        if number and not number.isdecimal():
            raise TableError(f"{name!r}: write table@version, such as {table}@{info.version or 0}")
        return info.name, int(number) if number else info.version or 0

    def _columns(
        self, name: str, frame: "pd.DataFrame | None", schema: Mapping[str, Any] | None, comments: Mapping[str, str]
    ) -> Mapping[str, Any]:
        import pyarrow as pa

        if schema is None and frame is None:
            raise TableError(f"{name}: give df or schema, so that the columns and their types are known")
        if schema is None:
            try:
                found = infer_schema(pa.Table.from_pandas(frame, preserve_index=False), comments)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise TableError(f"{name}: a column holds values of several types: {error}") from error
        else:
            found = parse_schema(schema)
        unknown = [column for column in comments if column not in found]
        if unknown:
            hint = suggestion(unknown[0], found, "columns")
            raise TableError(f"{name}: column_descriptions names {unknown[0]!r}, which is no column: {hint}")
        return {
            column: about.model_copy(update={"description": comments.get(column, about.description)})
            for column, about in found.items()
        }
