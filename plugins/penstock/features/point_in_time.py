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
from penstock.features.inputs import InputTable, quote
from penstock.features.known import history_name
from penstock.features.validity import FROM, UNTIL, valid_rows, valid_versions
from penstock.spec.project import Lookup

if TYPE_CHECKING:
    from pyspark.sql.connect.column import Column
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.types import DataType

PREDICTION_TIME = "prediction_time"
_AT = "__at"
_BUCKET = "__bucket"
_ROWS_IN_A_BUCKET = 8
_LARGEST_EXPANSION = 16
_OUTLIERS = 0.01
_BROADCAST_CELLS = 8_000_000
_INTEGERS = {"tinyint", "smallint", "int", "bigint"}


def join_features(
    spark: "SparkSession", entities: "DataFrame", lookups: Sequence[Lookup], tables: dict[str, InputTable],
    as_of: datetime, *, keep: Sequence[str] | None = None, time: str = PREDICTION_TIME, as_known: bool = False,
) -> "DataFrame":  # fmt: skip
    """Adds each lookup's features to entity rows whose moments are in the column `time`.

    The result has every row of `entities` once, the columns `keep` (all by default), the features by their
    output names (null, or the lookup's default, where there is no value, or none within its max_age), and for
    the lookup number i whether a row was found, as `matched(i)`. With `as_known` only row versions count that were
    known at the moment of the lookup; `tables` then also holds the tables of old versions (`<table>_history`).

    Raises TableError for a column that a table lacks and for a key of another type.
    """
    from pyspark.sql.connect import functions as F

    kept = list(entities.columns if keep is None else dict.fromkeys(keep))
    _refuse_taken(kept, lookups)
    keyed = entities.select(
        *(F.col(quote(name)) for name in dict.fromkeys([*kept, time])),
        *(
            F.expr(expression).alias(_key(number, place))
            for number, lookup in enumerate(lookups)
            for place, expression in enumerate(lookup.keys.values())
        ),
    )
    kinds = {field.name: field.dataType for field in keyed.schema.fields}
    joined = keyed
    for number, lookup in enumerate(lookups):
        joined = _join(spark, joined, kinds, number, lookup, tables, as_of, time, as_known)
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


def _join(
    spark: "SparkSession", entities: "DataFrame", kinds: dict[str, "DataType"], number: int, lookup: Lookup,
    tables: dict[str, InputTable], as_of: datetime, time: str, as_known: bool,
) -> "DataFrame":  # fmt: skip
    from pyspark.sql.connect import functions as F

    table = tables[lookup.table]
    rows = table.read(spark, as_of)
    _require(rows.columns, [*lookup.keys, table.available_at, *lookup.features], table)
    _require_types(kinds, {field.name: field.dataType for field in rows.schema.fields}, number, lookup, table)
    keys = list(lookup.keys)
    if as_known:
        history = tables.get(history_name(lookup.table))
        old = history.read(spark, as_of) if history is not None else None
        spans = valid_versions(rows, old, keys, table.available_at)
    else:
        spans = valid_rows(rows, keys, table.available_at)
    spans = _limited(spans, lookup.max_age, table.available_at)
    grid = _Grid.over(spans if as_known else rows.withColumn(FROM, F.col(quote(table.available_at))), keys)
    if grid is None:
        spans, grid = spans.limit(0), _Grid(1, 0, 0, 0)
    key_names = [f"__k{place}" for place in range(len(keys))]
    values = [f"__v{place}" for place in range(len(lookup.features))]
    buckets = F.explode(F.sequence(grid.bucket(F.col(FROM)), grid.last_bucket(F.col(UNTIL)))).alias(_BUCKET)
    right = spans.select(
        *(F.col(quote(name)).alias(key) for key, name in zip(key_names, keys, strict=True)), FROM, UNTIL,
        *(F.col(quote(name)).alias(value) for value, name in zip(values, lookup.features, strict=True)), buckets,
    )  # fmt: skip
    if grid.rows * (len(keys) + len(values) + 3) <= _BROADCAST_CELLS:
        right = F.broadcast(right)
    moment = F.col(quote(time)) - F.expr(f"INTERVAL {int(lookup.offset.total_seconds())} SECOND")
    left = entities.withColumn(_AT, moment).withColumn("__entity_bucket", grid.bucket(F.col(_AT)))
    same = F.col("__entity_bucket") == F.col(_BUCKET)
    for place, key in enumerate(key_names):
        same &= F.col(_key(number, place)) == F.col(key)
    within = (F.col(_AT) >= F.col(FROM)) & (F.col(UNTIL).isNull() | (F.col(_AT) < F.col(UNTIL)))
    defaults = {name: F.lit(value).cast(rows.schema[name].dataType) for name, value in lookup.defaults.items()}
    return left.join(right, same & within, "left").select(
        *map(quote, entities.columns),
        *(
            (F.coalesce(F.col(value), defaults[name]) if name in defaults else F.col(value)).alias(
                lookup.output_name(name)
            )
            for value, name in zip(values, lookup.features, strict=True)
        ),
        F.col(FROM).isNotNull().alias(matched(number)),
    )


def _limited(spans: "DataFrame", max_age: timedelta | None, time: str) -> "DataFrame":
    """Spans that end when the row is older than max_age: at that age itself it still counts."""
    from pyspark.sql.connect import functions as F

    if max_age is None:
        return spans
    micros = max_age // timedelta(microseconds=1) + 1
    expiry = F.timestamp_micros(F.unix_micros(F.col(quote(time))) + F.lit(micros))
    return spans.withColumn(UNTIL, F.least(F.col(UNTIL), expiry)).where(f"{FROM} < {UNTIL}")


@dataclass(frozen=True)
class _Grid:
    """Buckets of time: as many as give some two rows for each feature row.

    width: microseconds. first, last: the outer buckets, which also hold what lies beyond them. rows: how
    many there are, about, after each feature row stands in all of its buckets.
    """

    width: int
    first: int
    last: int
    rows: int

    @classmethod
    def over(cls, rows: "DataFrame", keys: Sequence[str]) -> "_Grid | None":
        """The grid for feature rows with their times in `__from`; None where there are none.

        The width is what a key's rows are apart on average, and less (down to 16 rows for each feature row) where
        one key has many more rows than others. The outermost hundredth of the times does not count: one row
        of 1970 for each key would make the buckets of all others too wide.
        """
        from pyspark.sql.connect import functions as F
        from pyspark.sql.connect.window import Window

        sizes = rows.select(
            F.unix_micros(FROM).alias("at"), F.count(F.lit(1)).over(Window.partitionBy(*map(quote, keys))).alias("n")
        )
        bounds = F.percentile_approx("at", [_OUTLIERS, 1 - _OUTLIERS], 1000)
        found = sizes.agg(
            F.count(F.lit(1)).alias("rows"), F.sum(1 / F.col("n")).alias("keys"), F.max("n").alias("most"),
            bounds.alias("bounds"),
        ).collect()[0]  # fmt: skip
        if not found["rows"]:
            return None
        low, high = found["bounds"]
        count, reach = found["rows"], max(high - low, 1)
        spacing = reach * round(found["keys"]) / count
        width = max(1, int(max(min(spacing, _ROWS_IN_A_BUCKET * reach / found["most"]), spacing / _LARGEST_EXPANSION)))
        return cls(width, low // width, high // width, count + int(reach / width * found["keys"]))

    def bucket(self, moment: "Column") -> "Column":
        """The bucket of a moment."""
        from pyspark.sql.connect import functions as F

        number = F.floor(F.unix_micros(moment) / F.lit(self.width)).cast("bigint")
        return F.least(F.greatest(number, F.lit(self.first)), F.lit(self.last)).cast("bigint")

    def last_bucket(self, until: "Column") -> "Column":
        """The last bucket of a span that ends at `until`; null: never."""
        from pyspark.sql.connect import functions as F

        return F.when(until.isNull(), F.lit(self.last).cast("bigint")).otherwise(self.bucket(until))


def _require(columns: list[str], wanted: list[str], table: InputTable) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise TableError(
            f"{table.address}@{table.version} has no column(s) {', '.join(missing)}; it has: {', '.join(columns)}"
        )


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
