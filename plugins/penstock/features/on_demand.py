"""Features that a project's own functions compute from a row: once declared, the same wherever rows are.

In training sets Spark's Python workers call the function on batches of rows, so that a large set stays on the
server; in batch scoring and online this process does. A server need not have the project's files: its
functions and this module are sent with the query. It needs the packages that they import (pandas among them).

The function always gets numbers and booleans as float64 (NaN for null), timestamps in UTC, all else as objects
(None for null).
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import TableError
from penstock.features.spark_types import plain_strings
from penstock.spec.faults import suggestion
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import ColumnType, OnDemand

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame

_MARK = "on-demand feature "


@dataclass(frozen=True)
class OnDemandFeature:
    """An on-demand feature with its function loaded; where: its dotted name."""

    name: str
    where: str
    function: "Callable[[pd.DataFrame], pd.Series]"
    inputs: tuple[str, ...]
    type: "pa.DataType"


def load(project: LoadedProject, specs: Mapping[str, OnDemand]) -> list[OnDemandFeature]:
    """The on-demand features of a model, ready to be computed. Raises SpecError for a function that is not there."""
    from penstock.lakehouse.small_tables import arrow_schema

    return [
        OnDemandFeature(
            name, spec.function, load_function(project, spec.function), tuple(spec.inputs),
            arrow_schema({name: spec.type}).field(name).type,
        )
        for name, spec in specs.items()
    ]  # fmt: skip


def check_inputs(where: str, specs: Mapping[str, OnDemand], columns: Sequence[str], looked_up: Sequence[str]) -> None:
    """Raises TableError for a feature whose name is taken, whose type no model sees, or whose input is not there.

    columns: those of the entity rows; looked_up: the features of the lookups, by their output names.
    """
    known = [*columns, *looked_up]
    for name, spec in specs.items():
        if name in known or name.startswith("_"):
            raise TableError(f"{where}: on-demand feature {name}: the rows have that column; give it another name")
        if spec.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
            raise TableError(
                f"{where}: on-demand feature {name}: a model sees no {spec.type}; turn it into a number, such as days"
            )
        for column in spec.inputs:
            if column not in known:
                raise TableError(
                    f"{where}: on-demand feature {name}: its input {column!r} is no column of the entity rows, and "
                    f"no looked-up feature: {suggestion(column, known, 'columns')}"
                )


def apply(frame: "pd.DataFrame", features: list[OnDemandFeature]) -> "pd.DataFrame":
    """A frame (rows in any number, index kept) with the on-demand features added.

    Raises TableError where an input is missing, a function fails, or its values are of another number or type.
    """
    try:
        columns = {feature.name: _compute(frame, feature).to_pandas() for feature in features}
    except ValueError as error:
        raise TableError(str(error)) from error
    return frame.assign(**{name: column.set_axis(frame.index) for name, column in columns.items()})


def add(frame: "DataFrame", features: list[OnDemandFeature]) -> "DataFrame":
    """A Spark DataFrame with the on-demand features added, computed by the server's Python workers."""
    if not features:
        return frame
    from pyspark import cloudpickle
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import StructType

    packages = {sys.modules[feature.function.__module__.partition(".")[0]] for feature in features}
    for module in (sys.modules[__name__], *packages):
        cloudpickle.register_pickle_by_value(module)
    schema = StructType(list(frame.schema.fields))
    for feature in features:
        schema = schema.add(feature.name, from_arrow_type(feature.type))
    return plain_strings(frame.mapInArrow(_on_batches(features), schema), schema)


@contextmanager
def named_failures() -> Iterator[None]:
    """Raises TableError where a query within fails on the server because of an on-demand feature's function."""
    try:
        yield
    except Exception as error:
        lines = [line for line in str(error).splitlines() if _MARK in line]
        if not lines:
            raise
        raise TableError(_MARK + lines[-1].partition(_MARK)[2]) from error


def _on_batches(
    features: list[OnDemandFeature],
) -> "Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]":
    plain = [(f.name, f.where, f.function, f.inputs, f.type) for f in features]

    def on_batches(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        needed = sorted({name for _, _, _, inputs, _ in plain for name in inputs})
        for batch in batches:
            frame = pa.Table.from_batches([batch]).select(needed).to_pandas()
            arrays = [_values(frame, *parts) for parts in plain]
            names = [name for name, *_ in plain]
            yield pa.RecordBatch.from_arrays([*batch.columns, *arrays], [*batch.schema.names, *names])

    return on_batches


def _compute(frame: "pd.DataFrame", feature: OnDemandFeature) -> "pa.Array":
    return _values(frame, feature.name, feature.where, feature.function, feature.inputs, feature.type)


def _values(
    frame: "pd.DataFrame", name: str, where: str, function: Callable[..., Any], inputs: tuple[str, ...],
    kind: "pa.DataType",
) -> "pa.Array":  # fmt: skip
    import pandas as pd
    import pyarrow as pa

    missing = [column for column in inputs if column not in frame.columns]
    if missing:
        raise ValueError(f"on-demand feature {name}: the rows have no column(s) {', '.join(missing)}")
    given = pd.DataFrame({column: _plain(frame[column]) for column in inputs}).reset_index(drop=True)
    try:
        values = function(given)
    except Exception as error:  # a team's own code may raise anything
        raise ValueError(f"on-demand feature {name}: {where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(values, pd.Series) or len(values) != len(given):
        found = f"{len(values)} values" if isinstance(values, pd.Series) else type(values).__name__
        raise ValueError(
            f"on-demand feature {name}: {where} must return a pandas Series of {len(given)} values, not {found}"
        )
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    try:
        return pa.Array.from_pandas(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"on-demand feature {name}: {where} gives values that are no {kind}: {error}") from error


def _plain(column: "pd.Series") -> "pd.Series":
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        return column.dt.tz_localize("UTC") if column.dt.tz is None else column.dt.tz_convert("UTC")
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    objects = column.astype(object)
    kinds = {type(value) for value in objects.dropna().head(1)}
    if kinds and kinds <= {bool, int, float}:
        return pd.to_numeric(objects, errors="coerce").astype("float64")
    return objects.where(objects.notna(), None)
