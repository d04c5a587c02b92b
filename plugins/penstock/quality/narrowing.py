"""Fewer rows and columns for Great Expectations' pandas engine, which copies the whole frame for each expectation.

Text columns are judged by their distinct values. Of bounds, nulls and pairs, numpy leaves out the rows that
hold; the library judges the others. So each verdict is still the library's own, on what decides it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.quality.suite import ExpectationSpec, Level

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# More distinct values than that gain nothing.
MOST_DISTINCT = 100_000
# These judge a value by itself, whatever stands in other rows.
BY_VALUE = frozenset(
    {
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
    }
)
_COUNTING = ("mostly", "row_condition")
PAIR = "either_value_is_missing"


@dataclass(frozen=True)
class Part:
    """Some expectations (by their places in the suite) and the rows that decide them.

    `locate` turns positions among these rows into positions in the batch, ascending.
    """

    places: tuple[int, ...]
    frame: "pd.DataFrame"
    locate: "Callable[[np.ndarray], np.ndarray]"


def parts(frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec]) -> Iterator[Part]:
    """Divides the work on a batch whose index is 0 to n-1; each place is in one part."""
    by_column: dict[str, list[int]] = {}
    suspects: dict[int, np.ndarray] = {}
    whole: list[int] = []
    for place, spec in enumerate(expectations):
        if spec.level is Level.TABLE or counts_rows(spec):
            whole.append(place)
        elif spec.type in BY_VALUE and spec.columns[0] in frame.columns:
            by_column.setdefault(spec.columns[0], []).append(place)
        elif (mask := _suspects(frame, spec)) is not None:
            suspects[place] = mask
        else:
            whole.append(place)
    for column, places in by_column.items():
        found = _distinct_values(frame, column, places)
        if found is None:
            whole += places
        else:
            yield found
    if suspects:
        yield _suspect_rows(frame, expectations, suspects)
    yield from _whole(frame, expectations, whole)


def counts_rows(spec: ExpectationSpec) -> bool:
    """Whether how many rows fail decides, so that all of them must be seen."""
    return any(name in spec.kwargs for name in _COUNTING)


def numeric_bounds(spec: ExpectationSpec) -> tuple[float | None, float | None] | None:
    """The bounds of an expectation of values between them; None where they are no numbers, or make no sense."""
    low, high = spec.kwargs.get("min_value"), spec.kwargs.get("max_value")
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds):
        return None
    return None if len(bounds) == 2 and bounds[0] > bounds[1] else (low, high)


def _distinct_values(frame: "pd.DataFrame", column: str, places: list[int]) -> Part | None:
    """The distinct texts of a column as rows; None where it holds something else, or too many."""
    import numpy as np
    import pyarrow as pa
    from pandas.api.types import is_object_dtype, is_string_dtype

    series = frame[column]
    if not (is_object_dtype(series.dtype) or is_string_dtype(series.dtype)):
        return None
    try:
        encoded: pa.DictionaryArray = pa.Array.from_pandas(series, type=pa.string()).dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    values = encoded.dictionary.to_pandas().astype(object)
    if len(values) > MOST_DISTINCT:
        return None
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Part(
        tuple(places), values.to_frame(column).reset_index(drop=True), lambda bad: np.flatnonzero(np.isin(codes, bad))
    )


def _suspects(frame: "pd.DataFrame", spec: ExpectationSpec) -> "np.ndarray | None":
    """Which rows may fail: all that do, and perhaps some more; None where that cannot be told here."""
    if any(name not in frame.columns for name in spec.columns):
        return None
    if spec.type == "expect_column_values_to_not_be_null":
        nulls: np.ndarray = frame[spec.columns[0]].isna().to_numpy()
        return nulls
    if spec.type == "expect_column_values_to_be_between":
        return _out_of_bounds(frame[spec.columns[0]], spec)
    if spec.type == "expect_column_pair_values_a_to_be_greater_than_b" and spec.kwargs["ignore_row_if"] == PAIR:
        return _not_greater(frame[spec.columns[0]], frame[spec.columns[1]])
    return None


def _out_of_bounds(series: "pd.Series", spec: ExpectationSpec) -> "np.ndarray | None":
    import numpy as np

    found = numeric_bounds(spec)
    if found is None or not _is_number(series):
        return None
    low, high = found
    # A value at a bound is left to the library: whether it holds depends on strict_min and strict_max.
    mask = np.zeros(len(series), dtype=bool)
    if low is not None:
        mask |= _true(series <= low)
    if high is not None:
        mask |= _true(series >= high)
    return mask


def _not_greater(one: "pd.Series", other: "pd.Series") -> "np.ndarray | None":
    from pandas.api.types import is_datetime64_any_dtype

    if not (_is_number(one) and _is_number(other)):
        moments = is_datetime64_any_dtype(one.dtype) and is_datetime64_any_dtype(other.dtype)
        if not moments or (getattr(one.dtype, "tz", None) is None) != (getattr(other.dtype, "tz", None) is None):
            return None
    return _true(one <= other)


def _is_number(series: "pd.Series") -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(series.dtype) and not is_bool_dtype(series.dtype)


def _true(compared: "pd.Series") -> "np.ndarray":
    found: np.ndarray = compared.fillna(False).to_numpy(dtype=bool)
    return found


def _suspect_rows(
    frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec], suspects: "dict[int, np.ndarray]"
) -> Part:
    import numpy as np

    positions = np.flatnonzero(np.logical_or.reduce(list(suspects.values())))
    columns = dict.fromkeys(column for place in suspects for column in expectations[place].columns)
    return Part(
        tuple(suspects), frame[list(columns)].iloc[positions].reset_index(drop=True), lambda bad: positions[bad]
    )


def _whole(frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec], places: list[int]) -> Iterator[Part]:
    """All rows: of the columns that are named, where that is all there is to know."""
    narrow = [place for place in places if _needs_named_columns_only(expectations[place])]
    wide = [place for place in places if place not in narrow]
    columns = dict.fromkeys(column for place in narrow for column in expectations[place].columns)
    known = [column for column in columns if column in frame.columns]
    if narrow:
        yield Part(tuple(narrow), frame[known or list(frame.columns[:1])], lambda bad: bad)
    if wide:
        yield Part(tuple(wide), frame, lambda bad: bad)


def _needs_named_columns_only(spec: ExpectationSpec) -> bool:
    of_table = spec.type.startswith("expect_table_") or spec.type == "expect_column_to_exist"
    return bool(spec.columns) and not of_table and "row_condition" not in spec.kwargs
