"""What a computed table and the stored one differ in: the rows to insert, to update and to delete."""

from typing import TYPE_CHECKING

from penstock.features.known import KNOWN_AT
from penstock.features.staging import CHANGE, PREVIOUS, Change, stored_names
from penstock.spec.project import FeatureTable
from penstock.spec.sql import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame


def difference(output: "DataFrame", current: "DataFrame | None", spec: FeatureTable) -> "DataFrame":
    """Rows of `output` that `current` lacks or has otherwise, and rows that only `current` has, by their change.

    All rows of a key that `output` has several times are among them, so that the gate sees them as a first fill's.
    Columns: the table's, `_known_at`, `_change`, and `_previous`: the row version that is replaced or removed.
    """
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    names = stored_names(spec)
    if current is None:
        types = ", ".join(f"{quote(name)}: {column.type}" for name, column in spec.columns.items())
        nothing = F.lit(None).cast(f"struct<{types}, {KNOWN_AT}: timestamp>")
        return output.withColumn(CHANGE, F.lit(str(Change.INSERT))).withColumn(PREVIOUS, nothing)
    same_key = [F.col(f"new.{quote(key)}") == F.col(f"old.{quote(key)}") for key in spec.key_columns]
    of_key = Window.partitionBy(*map(quote, spec.key_columns))  # the join needs them together, too: it costs no shuffle
    both = (
        output.withColumn("__new", F.count(F.lit(1)).over(of_key)).alias("new")
        .join(current.withColumn("__old", F.lit(True)).alias("old"), same_key, "full_outer")
    )  # fmt: skip
    gone, new = F.col("__new").isNull(), F.col("__old").isNull()
    same = ~gone & ~new & (F.col("__new") == 1)
    for name in spec.columns:
        same &= F.col(f"new.{quote(name)}").eqNullSafe(F.col(f"old.{quote(name)}"))
    previous = [F.col(f"old.{quote(name)}").alias(name) for name in spec.columns]
    known = F.coalesce(F.col(f"old.{KNOWN_AT}"), F.col(f"old.{quote(spec.event_time)}")).alias(KNOWN_AT)
    return both.where(~same).select(
        *(
            F.when(gone, F.col(f"old.{quote(name)}")).otherwise(F.col(f"new.{quote(name)}")).alias(name)
            for name in names
        ),
        F.when(gone, str(Change.DELETE)).when(new, str(Change.INSERT)).otherwise(str(Change.UPDATE)).alias(CHANGE),
        F.when(~new, F.struct(*previous, known)).alias(PREVIOUS),
    )


def difference_here(output: "pa.Table", current: "pa.Table", spec: FeatureTable) -> "pa.Table":
    """The same of rows that are in this process; keys are no floating-point numbers."""
    import pyarrow as pa
    import pyarrow.compute as compute

    keys, names = spec.key_columns, stored_names(spec)
    current = current.select(names)
    output = output.select(names).cast(pa.schema([pa.field(name, current.schema.field(name).type) for name in names]))
    both = _numbered(output.select(keys), "__new").join(
        _numbered(current.select(keys), "__old"), keys, join_type="full outer"
    )
    new, old = output.take(both["__new"]), current.take(both["__old"])
    gone, is_new = compute.is_null(both["__new"]), compute.is_null(both["__old"])
    same = compute.invert(compute.or_(compute.or_(gone, is_new), _repeated(both["__old"])))
    for name in spec.columns:
        same = compute.and_(same, _equal(new[name], old[name]))
    change = compute.if_else(gone, str(Change.DELETE), compute.if_else(is_new, str(Change.INSERT), str(Change.UPDATE)))
    known = compute.coalesce(old[KNOWN_AT], old[spec.event_time])
    previous = pa.StructArray.from_arrays(
        [*(old[name].combine_chunks() for name in spec.columns), known.combine_chunks()], names,
        mask=is_new.combine_chunks(),
    )  # fmt: skip
    columns = {name: compute.if_else(gone, old[name], new[name]) for name in names}
    return pa.table({**columns, CHANGE: change, PREVIOUS: previous}).filter(compute.invert(same))


def _numbered(rows: "pa.Table", name: str) -> "pa.Table":
    import pyarrow as pa

    return rows.append_column(name, pa.array(range(len(rows)), pa.int64()))


def _repeated(positions: "pa.ChunkedArray") -> "pa.Array":
    """Where a position occurs that occurs more than once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as compute

    found = compute.fill_null(positions, -1).to_numpy()
    times = np.bincount(found + 1, minlength=1)
    return pa.array((times[found + 1] > 1) & (found >= 0))


def _equal(one: "pa.ChunkedArray", other: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Equality as of Spark's <=>: null equals null, and not-a-number itself."""
    import pyarrow as pa
    import pyarrow.compute as compute

    equal = compute.equal(one, other)
    if pa.types.is_floating(one.type):
        equal = compute.or_kleene(equal, compute.and_(compute.is_nan(one), compute.is_nan(other)))
    return compute.or_(compute.fill_null(equal, False), compute.and_(compute.is_null(one), compute.is_null(other)))
