"""What tables are declared as: sources and feature tables, with their columns and grain."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from penstock.spec.common import DottedName, Duration, Expression, Name, Spec, Text


class ColumnType(StrEnum):
    """The types a column may have, by their Spark SQL names."""

    STRING = "string"
    BOOLEAN = "boolean"
    INT = "int"
    BIGINT = "bigint"
    FLOAT = "float"
    DOUBLE = "double"
    DATE = "date"
    TIMESTAMP = "timestamp"


def _or_type_alone(schema: dict[str, Any]) -> None:
    """Lets an editor accept the short form of a column."""
    mapping = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"enum": [str(kind) for kind in ColumnType]}, mapping]


class Column(Spec):
    """A column: written as its type alone (`carrier: string`), or with a description."""

    model_config = ConfigDict(json_schema_extra=_or_type_alone)

    type: ColumnType = Field(description="Spark SQL type")
    description: str = Field(default="", description="meaning and unit, for people")
    personal: bool = Field(
        default=False, description="personal data: no model may use the column, not even through features made from it"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


class Source(Spec):
    """A raw table. `land` fills it; without it, others do.

    `available_at` is the column that says when a row became known: nothing later than as_of is read.
    """

    description: Text = Field(description="what a row is, for people")
    owner: Text | None = Field(default=None, description="who answers for it; the project's owner by default")
    primary_keys: Annotated[list[Name], Field(min_length=1)] = Field(description="columns that identify a row")
    available_at: Name = Field(description="timestamp column: when a row became known, UTC")
    columns: Annotated[dict[Name, Column], Field(min_length=1)] = Field(description="every column, by name")
    land: DottedName | None = Field(
        default=None,
        description="function(after, until) -> pandas.DataFrame: the rows with after < available_at <= until "
        "(after=None: from the beginning)",
    )
    watch: Duration | None = Field(
        default=None,
        description="for a table that others fill: how often to look for a new version, which starts feature_refresh",
    )
    cluster_by: list[Name] = Field(
        default_factory=list,
        description="columns that queries filter by: table_maintenance sorts the files along them",
    )
    expectations: Text | None = Field(
        default=None, description="file with the suite that each landed batch must pass; needs `land`"
    )

    @model_validator(mode="after")
    def _filled_by_one(self) -> "Source":
        if self.land is not None and self.watch is not None:
            raise ValueError("has both land and watch: remove one of them (its own landing would start it for ever)")
        return self


class GrainJoin(Spec):
    """Another input that a changed row is joined with, to find the output rows that it touches."""

    input: Name = Field(description="the other input")
    using: Annotated[list[Name], Field(min_length=1)] = Field(description="columns that both inputs have")


class GrainInput(Spec):
    """How the rows of one input map to the grain: an expression for each of the grain's columns."""

    expressions: dict[Name, Expression] = Field(
        description="for each column of the grain, an expression over a row of the input; with a join, columns of "
        "the joined input are written `input.column`"
    )
    join: GrainJoin | None = Field(default=None, description="what to join a changed row with first")


class Grain(Spec):
    """Which rows of a feature table a changed input row touches, so that only those are computed again.

    `columns` is a subset of the output's primary keys and event time that decides what must be computed
    together; rows of an input without an entry in `inputs` touch the whole table.
    """

    columns: Annotated[list[Name], Field(min_length=1)] = Field(
        description="some of the primary keys, and the event time"
    )
    inputs: dict[Name, GrainInput] = Field(description="by input, how its rows map to these columns")


class Online(Spec):
    """Where the newest values of a table's keys are served from, and for how long."""

    store: Name = Field(default="default", description="one of the environment's online_stores")
    ttl: Duration | None = Field(
        default=None,
        description="values with an older event time count as missing and are removed; kept for good, if not given",
    )


class FeatureTable(Spec):
    """A feature table: a transformation of raw and other feature tables, with keys and an event time.

    `event_time` is the column with the moment from which a row's values may be used. Exactly one of `sql` and
    `function` computes the whole table from its inputs, which end at as_of.
    """

    description: Text = Field(description="what a row is, for people")
    owner: Text | None = Field(default=None, description="who answers for it; the project's owner by default")
    primary_keys: Annotated[list[Name], Field(min_length=1)] = Field(
        description="columns that, with the event time, identify a row"
    )
    event_time: Name = Field(
        default="event_time", description="timestamp column: from when a row's values may be used, UTC"
    )
    inputs: Annotated[list[str], Field(min_length=1)] = Field(
        description="tables that it reads: table, project.table or root:project.table"
    )
    sql: Text | None = Field(
        default=None,
        description="file with one SELECT over the inputs, by these names (a root before a dot: root.project.table)",
    )
    function: DottedName | None = Field(
        default=None, description="function(inputs) -> Spark DataFrame; inputs maps each input's name to its DataFrame"
    )
    grain: Grain | None = Field(
        default=None, description="how changed input rows map to output rows; without it the whole table is computed"
    )
    columns: Annotated[dict[Name, Column], Field(min_length=1)] = Field(
        description="every column of the output, by name"
    )
    cluster_by: list[Name] = Field(
        default_factory=list,
        description="columns that queries filter by: table_maintenance sorts the files along them",
    )
    expectations: Text | None = Field(default=None, description="file with the suite that each staged batch must pass")
    online: bool | Online = Field(
        default=False,
        description="whether the newest value of each key is also kept in an online store: true, or its store and ttl",
    )

    @property
    def online_settings(self) -> Online | None:
        """Where and for how long the table is served online; None where it is not."""
        return (Online() if self.online else None) if isinstance(self.online, bool) else self.online

    @property
    def key_columns(self) -> list[str]:
        """The columns that identify a row: primary keys and event time."""
        return [*self.primary_keys, self.event_time]

    @property
    def value_columns(self) -> list[str]:
        """The features: every column that is neither key nor event time."""
        return [name for name in self.columns if name not in self.key_columns]
