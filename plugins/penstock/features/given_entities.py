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
        raise TableError(f"{where}: entities must be a pandas DataFrame, not {type(entities).__name__}")
    names = [str(name) for name in entities.columns]
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
    if entities.empty:
        raise TableError(f"{where}: there is no entity row")
    frame = entities.set_axis(names, axis=1).reset_index(drop=True)
    for name in names:
        if name == timestamp_key or pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame[name] = _utc(frame[name], where, required=name == timestamp_key)
    return _to_arrow(frame, where), _warnings(frame)


def _utc(column: "pd.Series", where: str, *, required: bool) -> "pd.Series":
    import pandas as pd

    nulls = int(column.isna().sum())
    if nulls and required:
        raise TableError(
            f"{where}: {nulls} of {len(column)} entity rows have no {column.name}: drop them, or say when their "
            "prediction is asked for"
        )
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


def _naive(name: str, where: str) -> str:
    return (
        f"{where}: the timestamps in {name} have no time zone: say which by "
        f"entities[{name!r}].dt.tz_localize('UTC') (or 'America/New_York', …)"
    )


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
    return [f"{repeated} of {len(frame)} entity rows repeat another one; each was kept"] if repeated else []
