"""From when until when each row of a feature table is the answer to a lookup of its key.

At most one row of a key is valid at any moment, so a point-in-time join is a join on key and range.
"""

from typing import TYPE_CHECKING

from penstock.features.known import KNOWN_AT, KNOWN_UNTIL
from penstock.features.spark_types import plain_strings
from penstock.spec.sql import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame

FROM = "__from"
UNTIL = "__until"
_TIME, _KNOWN, _GONE = "__time", "__known", "__gone"


def valid_rows(rows: "DataFrame", keys: list[str], time: str) -> "DataFrame":
    """Rows with `__from` (their event time) and `__until`, the next event time of the key; null: never ends.

    Of rows of one key and event time one counts; rows without a key never.
    """
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    following = Window.partitionBy(*map(quote, keys)).orderBy(quote(time))
    spans = _keyed(rows, keys).select(
        "*", F.col(quote(time)).alias(FROM), F.lead(quote(time)).over(following).alias(UNTIL)
    )
    return spans.where(f"{UNTIL} IS NULL OR {FROM} < {UNTIL}")


def valid_versions(rows: "DataFrame", history: "DataFrame | None", keys: list[str], time: str) -> "DataFrame":
    """As `valid_rows`, of all versions of the rows: what the table would have answered at each moment.

    A version takes part from the later of event time and `_known_at` until `_known_until`. Of those that take
    part the greatest event time wins, then the greatest `_known_at`. After a removal an older row is the
    answer again.
    """
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    versions = _keyed(_versions(rows, history, keys, time), keys).where(f"{_GONE} IS NULL OR {FROM} < {_GONE}")
    key = [quote(name) for name in keys]
    successor = F.lead(_KNOWN).over(Window.partitionBy(*key, _TIME).orderBy(_KNOWN))
    removed = F.col(_GONE).isNotNull() & (successor.isNull() | (successor > F.col(_GONE)))
    greater = Window.partitionBy(*key).orderBy(F.desc(_TIME), F.desc(_KNOWN)).rowsBetween(
        Window.unboundedPreceding, -1
    )  # fmt: skip
    spans = (
        versions.withColumn("__removed", removed)
        .withColumn("__removed", F.max("__removed").over(Window.partitionBy(*key)))
        .withColumn(UNTIL, F.least(F.col(_GONE), F.min(FROM).over(greater)))
    )
    simple = spans.where("NOT __removed").where(f"{UNTIL} IS NULL OR {FROM} < {UNTIL}")
    if history is not None:
        schema = spans.schema
        swept = spans.where("__removed").groupBy(*key).applyInArrow(_sweep, schema)
        simple = simple.unionByName(plain_strings(swept, schema))
    return simple.drop(_TIME, _KNOWN, _GONE, "__removed")


def _keyed(rows: "DataFrame", keys: list[str]) -> "DataFrame":
    return rows.dropna(subset=list(keys))


def _versions(rows: "DataFrame", history: "DataFrame | None", keys: list[str], time: str) -> "DataFrame":
    from pyspark.sql.connect import functions as F

    known = F.col(KNOWN_AT) if KNOWN_AT in rows.columns else F.lit(None).cast("timestamp")
    current = _timed(rows.withColumn(KNOWN_AT, known).withColumn(_GONE, F.lit(None).cast("timestamp")), time)
    if history is None:
        return current
    old = _timed(history.withColumnRenamed(KNOWN_UNTIL, _GONE), time)
    # a writer that died between the two tables left a row version in both: it is the present one
    version = [*map(quote, keys), _TIME, _KNOWN]
    old = old.join(current.select(*version), [*keys, _TIME, _KNOWN], "left_anti")
    return current.unionByName(old, allowMissingColumns=True)


def _timed(versions: "DataFrame", time: str) -> "DataFrame":
    from pyspark.sql.connect import functions as F

    return (
        versions.withColumn(_TIME, F.col(quote(time)))
        .withColumn(_KNOWN, F.coalesce(F.col(KNOWN_AT), F.col(_TIME)))
        .withColumn(FROM, F.greatest(_TIME, _KNOWN))
    )


def _sweep(versions: "pa.Table") -> "pa.Table":
    """The spans of one key's versions, by going through the moments at which one begins or ends.

    Runs on the server, where this library need not be: it uses nothing of it.
    """
    import heapq

    import pyarrow as pa

    forever = 2**63 - 1

    def micros(name: str) -> list[int]:
        return versions[name].cast(pa.int64()).fill_null(forever).to_pylist()  # type: ignore[no-any-return]

    begin, end, time, known = micros("__from"), micros("__gone"), micros("__time"), micros("__known")
    waiting = sorted(range(len(begin)), key=lambda row: begin[row], reverse=True)
    active: list[tuple[int, int, int]] = []
    winners: list[int] = []
    moments = sorted({*begin, *end} - {forever})
    for moment in moments:
        while waiting and begin[waiting[-1]] <= moment:
            row = waiting.pop()
            heapq.heappush(active, (-time[row], -known[row], row))
        while active and end[active[0][2]] <= moment:
            heapq.heappop(active)
        winners.append(active[0][2] if active else -1)
    spans = [
        (row, start, until)
        for row, start, until in zip(winners, moments, [*moments[1:], None], strict=True)
        if row >= 0
    ]
    found = versions.take(pa.array([row for row, _, _ in spans], pa.int64()))
    for name, values in (("__from", [span[1] for span in spans]), ("__until", [span[2] for span in spans])):
        kind = versions.schema.field(name).type
        found = found.set_column(found.schema.get_field_index(name), name, pa.array(values, pa.int64()).cast(kind))
    return found
