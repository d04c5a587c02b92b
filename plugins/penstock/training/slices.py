"""Named groups of rows by a column's values: `carrier=UA`, `distance in (500, 1000]`, `carrier missing`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_VALUES = 20
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Slice:
    """Some rows of a frame: `mask` has a bool for each row, `column` and `value` say which rows they are."""

    name: str
    column: str
    value: str
    mask: "np.ndarray"

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self.mask.sum())


def slice_rows(
    frame: "pd.DataFrame", columns: Sequence[str], cuts: dict[str, Sequence[float]] | None = None
) -> list[Slice]:
    """The slices of a frame's rows by each of the columns; those of one column share no row and leave none out.

    Texts, booleans, and numbers of at most four values: a slice for each value, of at most 20, the most frequent
    ones (the rest is `column other`). Other numbers are cut at `cuts[column]`, by default at this frame's quartiles;
    an interval holds its upper end. Nulls are `column missing`. No slice is empty; none of a frame without rows.
    Raises TrainingError for a column that the frame lacks.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        known = ", ".join(map(str, frame.columns))
        raise TrainingError(f"no column {', '.join(missing)} to slice by: evaluation.slices may name {known}")
    found = (item for name in columns for item in _column(frame[name], name, (cuts or {}).get(name)))
    return [item for item in found if item.mask.any()]


def quartiles(values: "pd.Series") -> list[float]:
    """The quartiles, of four digits, at which a column of numbers is cut; fewer where they coincide."""
    import numpy as np

    known = values.dropna().to_numpy(dtype="float64")
    return sorted({float(f"{value:.4g}") for value in np.quantile(known, QUARTILES)}) if len(known) else []


def is_cut(values: "pd.Series") -> bool:
    """Whether a column is cut into intervals: it holds numbers, and more than four of them."""
    from pandas.api.types import infer_dtype

    kind = infer_dtype(values, skipna=True)
    return kind in ("integer", "floating", "mixed-integer-float", "decimal") and values.nunique() > len(QUARTILES) + 1


def _column(values: "pd.Series", name: str, cuts: Sequence[float] | None) -> Iterator[Slice]:
    found = _intervals(values, name, cuts) if cuts is not None or is_cut(values) else _values(values, name)
    yield from found
    yield Slice(f"{name} missing", name, "missing", values.isna().to_numpy(dtype=bool))


def _values(values: "pd.Series", name: str) -> Iterator[Slice]:
    import numpy as np

    counts = values.value_counts(dropna=True, sort=False)
    counts = counts[counts > 0]  # of a categorical column, also what does not occur is counted
    kept = sorted(counts.index, key=lambda value: (-counts[value], str(value)))[:MOST_VALUES]
    known, rest = values.notna().to_numpy(dtype=bool), np.zeros(len(values), dtype=bool)
    for value in sorted(kept, key=_order):
        mask = (values == value).fillna(False).to_numpy(dtype=bool)
        rest |= mask
        yield Slice(f"{name}={_text(value)}", name, _text(value), mask)
    yield Slice(f"{name} other", name, "other", known & ~rest)


def _intervals(values: "pd.Series", name: str, cuts: Sequence[float] | None) -> Iterator[Slice]:
    import numpy as np

    numbers = values.astype("float64").to_numpy(dtype="float64", na_value=np.nan)
    ends = list(quartiles(values) if cuts is None else cuts)
    for low, high in zip([None, *ends], [*ends, None], strict=True):
        mask = ~np.isnan(numbers)
        if low is not None:
            mask &= numbers > low
        if high is not None:
            mask &= numbers <= high
        yield Slice(_interval_name(name, low, high), name, _interval_name("", low, high).strip(), mask)


def _interval_name(name: str, low: float | None, high: float | None) -> str:
    if low is None:
        return name if high is None else f"{name} <= {_text(high)}"
    return f"{name} > {_text(low)}" if high is None else f"{name} in ({_text(low)}, {_text(high)}]"


def value_slice(column: str, value: Any) -> str:
    """The name of the slice of the rows with this value (a null is missing), of a column that is not cut."""
    import pandas as pd

    return f"{column} missing" if pd.isna(value) else f"{column}={_text(value)}"


def _text(value: Any) -> str:
    import numpy as np

    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def _order(value: Any) -> tuple[bool, Any]:
    return (True, str(value)) if isinstance(value, str) else (False, value)
