"""Entity rows that a person gives as a DataFrame: checked, and kept as a table so that they can be read again."""

from typing import TYPE_CHECKING

from penstock.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def check_entities(
    entities: "pd.DataFrame", timestamp_key: str | None, label: str | None, where: str
) -> tuple["pa.Table", list[str]]:
    """The rows as an Arrow table with timestamps in UTC (microseconds), and what a person should know of them.

    Every row is kept, duplicates too. Raises TableError for a frame without rows or timestamps, for nulls among
    them, for timestamps without a zone, and for columns that a table cannot hold.
    """
    import pandas as pd

    if not isinstance(entities, pd.DataFrame):
        raise TableError(f"{where}: the rows must be a pandas DataFrame, not {type(entities).__name__}")
    names = [str(name) for name in entities.columns]
    check_columns(names, timestamp_key, label, where)
    if entities.empty:
        raise TableError(f"{where}: there is no entity row")
    frame = entities.set_axis(names, axis=1).reset_index(drop=True)
    for name in names:
        if name == timestamp_key or pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame[name] = _utc(frame[name], where, required=name == timestamp_key)
    return _to_arrow(frame, where), _warnings(frame)


def check_arrow(
    entities: "pa.Table", timestamp_key: str | None, label: str | None, where: str
) -> tuple["pa.Table", list[str]]:
    """The same for rows in an Arrow table: their values stay as they are, large integers too."""
    import pyarrow as pa
    import pyarrow.compute as compute

    check_columns(entities.column_names, timestamp_key, label, where)
    if not len(entities):
        raise TableError(f"{where}: there is no entity row")
    rows = entities.replace_schema_metadata(None)
    for place, found in enumerate(rows.schema):
        column = rows[found.name]
        if pa.types.is_timestamp(found.type):
            if found.type.tz is None:
                raise TableError(_naive(found.name, where, f"pyarrow.compute.assume_timezone({found.name}, 'UTC')"))
            # In UTC before anything else: local times are not one moment each when the clocks go back.
            column = compute.floor_temporal(column.cast(pa.timestamp(found.type.unit, "UTC")), unit="microsecond")
            column = column.cast(pa.timestamp("us", "UTC"))
        elif found.name == timestamp_key:
            raise TableError(f"{where}: {found.name} is of the type {found.type}, no timestamp")
        elif pa.types.is_dictionary(found.type):
            column = column.cast(found.type.value_type)
        elif pa.types.is_null(found.type):
            column = column.cast(pa.string())
        rows = rows.set_column(place, found.name, column)
    require_times(rows[timestamp_key].null_count, len(rows), str(timestamp_key), where)
    try:
        repeated = len(rows) - rows.group_by(rows.column_names).aggregate([]).num_rows
    except pa.ArrowNotImplementedError:  # a column of lists or structures cannot be compared
        repeated = 0
    return rows, repeats(repeated, len(rows))


def check_columns(names: list[str], timestamp_key: str | None, label: str | None, where: str) -> None:
    """Raises TableError where entity rows lack a column that is named, or have one twice or of a name that is taken."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(f"{where}: the entity rows have several columns named {', '.join(repeated)}")
    reserved = [name for name in names if name.startswith("__")]
    if reserved:
        raise TableError(f"{where}: rename {', '.join(reserved)}: names with two leading underscores are taken")
    if not timestamp_key or timestamp_key not in names:
        raise TableError(
            f"{where}: the entity rows have no timestamp column {timestamp_key or '(none given)'}; they have: "
            f"{', '.join(names)}. Name the column that says when each prediction is asked for as timestamp_key"
        )
    if label is not None and label not in names:
        raise TableError(f"{where}: the entity rows have no label column {label}; they have: {', '.join(names)}")


def require_times(nulls: int, rows: int, name: str, where: str) -> None:
    """Raises TableError where entity rows have no time."""
    if nulls:
        raise TableError(
            f"{where}: {nulls} of {rows} entity rows have no {name}: drop them, or say when their prediction is asked "
            "for"
        )


def repeats(repeated: int, rows: int) -> list[str]:
    """What a person should know of rows that are there several times."""
    return [f"{repeated} of {rows} entity rows repeat another one; each was kept"] if repeated else []


def _utc(column: "pd.Series", where: str, *, required: bool) -> "pd.Series":
    import pandas as pd

    if required:
        require_times(int(column.isna().sum()), len(column), str(column.name), where)
    if not pd.api.types.is_datetime64_any_dtype(column):
        column = _from_objects(column, where)
    if column.dt.tz is None:
        raise TableError(_naive(str(column.name), where))
    return column.dt.tz_convert("UTC").dt.floor("us").dt.as_unit("us")


def _from_objects(column: "pd.Series", where: str) -> "pd.Series":
    """Datetimes of several zones stand in a column of objects."""
    from datetime import datetime

    import pandas as pd

    strange = next((value for value in column if not isinstance(value, datetime)), None)
    if strange is not None:
        raise TableError(
            f"{where}: {column.name} holds {strange!r} ({type(strange).__name__}), no timestamp: "
            f"pandas.to_datetime(…, utc=True) makes timestamps of texts"
        )
    if any(value.tzinfo is None for value in column):
        raise TableError(_naive(str(column.name), where))
    return pd.to_datetime(column, utc=True)


def _naive(name: str, where: str, how: str | None = None) -> str:
    how = how or f"entities[{name!r}].dt.tz_localize('UTC')"
    return f"{where}: the timestamps in {name} have no time zone: say which by {how} (or 'America/New_York', …)"


def _to_arrow(frame: "pd.DataFrame", where: str) -> "pa.Table":
    import pandas as pd
    import pyarrow as pa

    arrays, names = [], []
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(column.cat.categories.dtype)
        try:
            array = pa.Array.from_pandas(column)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise TableError(f"{where}: the column {name} holds values of no one type: {error}") from error
        arrays.append(array.cast(pa.string()) if pa.types.is_null(array.type) else array)
        names.append(name)
    return pa.Table.from_arrays(arrays, names=names)


def _warnings(frame: "pd.DataFrame") -> list[str]:
    try:
        repeated = int(frame.duplicated().sum())
    except TypeError:  # a column of lists or mappings cannot be compared
        return []
    return repeats(repeated, len(frame))
