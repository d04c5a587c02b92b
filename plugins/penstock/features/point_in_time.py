"""Point-in-time joins: to each row the newest feature values that could be used at its prediction time.

Spark's own as-of joins compare all pairs. Here each feature row gets the span of time in which it is the
answer, the span is cut into buckets of time (some two rows for each feature row), and entity rows find
theirs by an equality join on key and bucket. Where the feature side is small it is sent to every worker, so that
the entity rows are neither sorted nor moved.
A feature row with the prediction time itself counts (event_time <= prediction time).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from penstock.errors import TableError
from penstock.features.grids import Grid, grid_by_spark, grid_here
from penstock.features.inputs import InputTable
from penstock.features.known import history_name
from penstock.features.validity import FROM, UNTIL, valid_rows, valid_versions
from penstock.spec.project import Lookup
from penstock.spec.sql import quote

if TYPE_CHECKING:
    from pyspark.sql.connect.column import Column
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.types import DataType

PREDICTION_TIME = "prediction_time"
_AT = "__at"
_BUCKET = "__bucket"
_ENTITY_BUCKET = "__entity_bucket"
_HASH = "__hash"
_ENTITY_HASH = "__entity_hash"
_MICROSECOND = timedelta(microseconds=1)
BROADCAST_CELLS = 8_000_000
_INTEGERS = {"tinyint", "smallint", "int", "bigint"}


def join_features(
    spark: "SparkSession", entities: "DataFrame", lookups: Sequence[Lookup], tables: dict[str, InputTable],
    as_of: datetime, *, keep: Sequence[str] | None = None, time: str = PREDICTION_TIME, as_known: bool = False,
    broadcast_cells: int = BROADCAST_CELLS,
) -> "DataFrame":  # fmt: skip
    """Adds each lookup's features to entity rows whose moments are in the column `time`.

    The result has every row of `entities` once, the columns `keep` (all by default), the features by their
    output names (null, or the lookup's default, where there is no value, or none within its max_age), and for
    the lookup number i whether a row was found, as `matched(i)`. With `as_known` only row versions count that were
    known at the moment of the lookup; `tables` then also holds the tables of old versions (`<table>_history`).
    broadcast_cells: how many values (rows, each in its buckets, times columns) a feature side may have to be sent to
    every worker; with a larger one both sides are shuffled.

    Raises TableError for a column that a table lacks and for a key of another type.
    """
    from pyspark.sql.connect import functions as F

    kept = list(entities.columns if keep is None else dict.fromkeys(keep))
    _refuse_taken(kept, lookups)
    joined = entities.select(
        *(F.col(quote(name)) for name in dict.fromkeys([*kept, time])),
        *(
            F.expr(expression).alias(_key(number, place))
            for number, lookup in enumerate(lookups)
            for place, expression in enumerate(lookup.keys.values())
        ),
    )
    kinds = {field.name: field.dataType for field in joined.schema.fields}
    sides = [
        _FeatureSide.of(spark, number, lookup, tables, as_of, kinds, as_known) for number, lookup in enumerate(lookups)
    ]
    for side in sides:
        joined = side.join(joined, time, broadcast_cells)
    looked_up = [lookup.output_name(name) for lookup in lookups for name in lookup.features]
    return joined.select(*map(quote, [*kept, *looked_up]), *map(matched, range(len(lookups))))


def matched(number: int) -> str:
    """The column that says whether the lookup with this number found a row."""
    return f"__matched_{number}"


def _key(number: int, place: int) -> str:
    return f"__key_{number}_{place}"


def _refuse_taken(kept: Sequence[str], lookups: Sequence[Lookup]) -> None:
    taken = dict.fromkeys(kept, "a column of the entity rows")
    for lookup in lookups:
        for feature in lookup.features:
            name = lookup.output_name(feature)
            if name in taken:
                raise TableError(
                    f"the feature {feature} of {lookup.table} would be named {name}, which is {taken[name]}: "
                    "give it a name of its own by `rename`"
                )
            taken[name] = f"a feature of {lookup.table}"


@dataclass(frozen=True)
class _FeatureSide:
    """The rows of one lookup's table: columns `__k0`, … (keys), `__from`, `__until`, `__v0`, … (features).

    `__from` and `__until` are microseconds since 1970, which compare faster than timestamps are computed with.
    """

    number: int
    lookup: Lookup
    types: dict[str, "DataType"]
    spans: "DataFrame"
    grid: Grid

    @classmethod
    def of(
        cls, spark: "SparkSession", number: int, lookup: Lookup, tables: dict[str, InputTable], as_of: datetime,
        kinds: dict[str, "DataType"], as_known: bool,
    ) -> "_FeatureSide":  # fmt: skip
        """Raises TableError where the table does not have what the lookup needs, or keys of other types."""
        from pyspark.sql.connect import functions as F

        table = tables[lookup.table]
        time, keys = table.available_at, list(lookup.keys)
        table.require([*keys, time, *lookup.features])
        rows = table.read(spark, as_of)
        types = {field.name: field.dataType for field in rows.schema.fields}
        _require_types(kinds, types, number, lookup, table)
        history = tables.get(history_name(lookup.table)) if as_known else None
        if as_known:
            old = history.read(spark, as_of) if history is not None else None
            spans = valid_versions(rows, old, keys, time)
        else:
            spans = valid_rows(rows, keys, time)
        spans = _limited(spans, lookup.max_age, time).select(
            *(_comparable(F.col(quote(name)), types[name]).alias(f"__k{place}") for place, name in enumerate(keys)),
            F.unix_micros(FROM).alias(FROM), F.unix_micros(UNTIL).alias(UNTIL),
            *(F.col(quote(name)).alias(f"__v{place}") for place, name in enumerate(lookup.features)),
        )  # fmt: skip
        grid = grid_here([table, *([history] if history is not None else [])], keys, as_of)
        return cls(number, lookup, types, spans, grid or grid_by_spark(spans, len(keys)))

    def join(self, entities: "DataFrame", time: str, broadcast_cells: int) -> "DataFrame":
        """Entity rows with the features and whether a row was found."""
        from pyspark.sql.connect import functions as F

        grid, keys = self.grid, range(len(self.lookup.keys))
        buckets = F.sequence(grid.bucket(F.col(FROM)), grid.last_bucket(F.col(UNTIL)))
        right = self.spans.select("*", F.explode(buckets).alias(_BUCKET))
        right = right.withColumn(_HASH, F.xxhash64(_BUCKET, *(f"__k{place}" for place in keys)))
        if grid.rows * (len(keys) + len(self.lookup.features) + 4) <= broadcast_cells:
            right = F.broadcast(right)
        moment = F.unix_micros(F.col(quote(time))) - F.lit(self.lookup.offset // _MICROSECOND)
        left = entities.withColumn(_AT, moment).withColumn(_ENTITY_BUCKET, grid.bucket(F.col(_AT)))
        pairs = [
            (F.col(_ENTITY_BUCKET), F.col(_BUCKET)),
            *((self._mine(place), F.col(f"__k{place}")) for place in keys),
        ]
        left = left.withColumn(_ENTITY_HASH, F.xxhash64(*(mine for mine, _ in pairs)))
        condition = F.col(_ENTITY_HASH) == F.col(_HASH)
        for mine, theirs in pairs:
            condition &= (mine >= theirs) & (mine <= theirs)
        condition &= (F.col(_AT) >= F.col(FROM)) & (F.col(UNTIL).isNull() | (F.col(_AT) < F.col(UNTIL)))
        joined = left.join(right, condition, "left").select("*", F.col(FROM).isNotNull().alias(matched(self.number)))
        found = {self.lookup.output_name(name): self._value(place) for place, name in enumerate(self.lookup.features)}
        return joined.withColumns(found).drop(
            _AT, _ENTITY_BUCKET, _ENTITY_HASH, _BUCKET, _HASH, FROM, UNTIL, *(f"__k{place}" for place in keys),
            *(f"__v{place}" for place in range(len(self.lookup.features))),
        )  # fmt: skip

    def _mine(self, place: int) -> "Column":
        """The entity rows' key, to be compared with `__k<place>`."""
        from pyspark.sql.connect import functions as F

        return _comparable(F.col(_key(self.number, place)), self.types[list(self.lookup.keys)[place]])

    def _value(self, place: int) -> "Column":
        from pyspark.sql.connect import functions as F

        value, name = F.col(f"__v{place}"), self.lookup.features[place]
        if name not in self.lookup.defaults:
            return value
        return F.coalesce(value, F.lit(self.lookup.defaults[name]).cast(self.types[name]))


def _comparable(key: "Column", kind: "DataType") -> "Column":
    """A key of this type in the table; integers as bigint, since the hash of a number depends on its type."""
    return key.cast("bigint") if kind.simpleString() in _INTEGERS else key


def _limited(spans: "DataFrame", max_age: timedelta | None, time: str) -> "DataFrame":
    """Spans that end when the row is older than max_age: at that age itself it still counts."""
    from pyspark.sql.connect import functions as F

    if max_age is None:
        return spans
    micros = max_age // timedelta(microseconds=1) + 1
    expiry = F.timestamp_micros(F.unix_micros(F.col(quote(time))) + F.lit(micros))
    return spans.withColumn(UNTIL, F.least(F.col(UNTIL), expiry)).where(f"{FROM} < {UNTIL}")


def _require_types(
    entity: dict[str, "DataType"], feature: dict[str, "DataType"], number: int, lookup: Lookup, table: InputTable
) -> None:
    """Keys must be of one type: Spark would compare, say, a text with a number by turning one into the other."""
    for place, (key, expression) in enumerate(lookup.keys.items()):
        mine, theirs = entity[_key(number, place)].simpleString(), feature[key].simpleString()
        if mine != theirs and not {mine, theirs} <= _INTEGERS:
            raise TableError(
                f"the key {key} of {table.address} is {theirs}, but {expression!r} of the entity rows is {mine}: "
                f"write CAST({expression} AS {theirs}), or declare both alike"
            )
