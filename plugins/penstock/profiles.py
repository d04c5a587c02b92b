"""The profile of a data set: each column's distribution in a few figures, kept with a model.

A model's training data is too large, and often too private, to keep for every later drift check. Its
profile is not: bins with their shares, quantiles, the share of missing values. A later sample is put into
the same bins (`bin_shares`), and the two lists of shares are compared (`penstock.monitoring.drift`).
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.errors import TableError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike

QUANTILE_LEVELS = tuple(step / 100 for step in range(101))
"""The levels of `NumericProfile.quantiles`: 0, 0.01, … 1."""

MOST_VALUE_BINS = 10
"""A number column with at most so many distinct values gets a bin for each value instead of deciles."""

MOST_CATEGORIES = 50
"""Categories beyond the most frequent ones are counted together as `other`."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumericProfile(_Part):
    """A column of numbers (booleans are 0 and 1; timestamps are seconds since 1970).

    `edges` cut the line into len(edges) + 1 bins, each open below and closed above; the outer two are
    unbounded, so every value of a later sample falls into one, infinite ones too. `shares` are those of
    the values that are not missing, and add up to 1 (all 0 where every value is missing). mean, std (of the
    population), min, max and `quantiles` (at QUANTILE_LEVELS) are of the finite values, and None or empty
    where there is none.
    """

    kind: Literal["numeric"] = "numeric"
    count: int = Field(ge=0, description="values that are not missing")
    missing_share: float = Field(ge=0, le=1, description="share of all rows; 0 where there are no rows")
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    edges: list[float] = Field(default_factory=list)
    shares: list[float]
    quantiles: list[float] = Field(default_factory=list)

    @property
    def bins(self) -> list[str]:
        """A name for each share: the bin's interval."""
        if not self.edges:
            return ["any"]
        texts = [f"{edge:.6g}" if abs(edge) > 1e-300 else "0" for edge in self.edges]  # 0, or just below it
        inner = [low if low == high else f"{low} to {high}" for low, high in pairwise(texts)]
        return [f"up to {texts[0]}", *inner, f"over {texts[-1]}"]

    @property
    def share_list(self) -> list[float]:
        """The shares in the order of `bin_shares`."""
        return self.shares


class CategoricalProfile(_Part):
    """A column of categories: the shares of the most frequent ones, and of all others together.

    Shares are those of the values that are not missing. Values are written as text; whole numbers without
    a point, however the column happens to be stored.
    """

    kind: Literal["categorical"] = "categorical"
    count: int = Field(ge=0, description="values that are not missing")
    missing_share: float = Field(ge=0, le=1, description="share of all rows; 0 where there are no rows")
    distinct: int = Field(ge=0, description="different values, the ones in `other` included")
    shares: dict[str, float]
    other: float = 0.0

    @property
    def bins(self) -> list[str]:
        """A name for each share: the category, and at the end `(other)`."""
        return [*self.shares, "(other)"]

    @property
    def share_list(self) -> list[float]:
        """The shares in the order of `bin_shares`."""
        return [*self.shares.values(), self.other]


ColumnProfile = Annotated[NumericProfile | CategoricalProfile, Field(discriminator="kind")]


class Profile(_Part):
    """What a model was trained on: its columns, its prediction, and the metrics that it promised."""

    rows: int = Field(ge=0)
    columns: dict[str, ColumnProfile]
    prediction: NumericProfile | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    window: tuple[str, str] | None = Field(None, description="first and last prediction time, ISO 8601 UTC")

    def to_json(self) -> str:
        """The profile as JSON text."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Profile":
        """The reverse of `to_json`. Raises TableError where the text is no profile."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise TableError(
                f"this is no profile of training data: {error}. Write it again with penstock.profiles.build_profile"
            ) from error

    def save(self, path: str | Path) -> None:
        """Writes the profile as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Profile":
        """Reads what `save` wrote."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def build_profile(
    frame: "pd.DataFrame",
    categorical: Collection[str] | None = None,
    prediction: "ArrayLike | None" = None,
    metrics: Mapping[str, float] | None = None,
    window: tuple[str, str] | None = None,
) -> Profile:
    """The profile of every column of a DataFrame.

    frame: the feature columns, as raw as the lakehouse has them (nulls, texts, whole numbers).
    categorical: the columns to count by value; by default those that hold text or pandas categories.
    prediction: what the model says of the same rows (or of others), one number each.
    metrics: what is promised; figures that are not finite are left out.
    window: first and last prediction time of the rows, ISO 8601.

    Raises TableError where `categorical` names a column that is not there, or where a column that is
    not categorical holds something else than numbers.
    """
    import math

    import pandas as pd

    if categorical is None:
        categorical = [name for name in frame.columns if _holds_text(frame[name])]
    unknown = sorted(set(categorical) - set(frame.columns))
    if unknown:
        raise TableError(
            f"cannot profile the categorical column(s) {', '.join(unknown)}: "
            f"the data has {', '.join(map(str, frame.columns))}"
        )
    columns: dict[str, NumericProfile | CategoricalProfile] = {}
    for name in frame.columns:
        build = profile_categories if name in categorical else profile_numbers
        columns[str(name)] = build(frame[name])
    return Profile(
        rows=len(frame),
        columns=columns,
        prediction=None if prediction is None else profile_numbers(pd.Series(prediction, name="prediction")),
        metrics={name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)},
        window=window,
    )


def profile_numbers(series: "pd.Series") -> NumericProfile:
    """The profile of one column of numbers. Raises TableError where it holds something else."""
    import numpy as np

    values = as_numbers(series)
    present = values[~np.isnan(values)]
    finite = present[np.isfinite(present)]
    missing = _share(len(values) - len(present), len(values))
    if not len(finite):
        return NumericProfile(count=len(present), missing_share=missing, shares=[1.0 if len(present) else 0.0])
    quantiles = np.quantile(finite, QUANTILE_LEVELS)
    edges = _edges(finite, quantiles)
    return NumericProfile(
        count=len(present),
        missing_share=missing,
        mean=float(finite.mean()),
        std=float(finite.std()),
        min=float(finite.min()),
        max=float(finite.max()),
        edges=edges.tolist(),
        shares=_numeric_shares(present, edges).tolist(),
        quantiles=quantiles.tolist(),
    )


def profile_categories(series: "pd.Series", most: int = MOST_CATEGORIES) -> CategoricalProfile:
    """The profile of one column of categories; those beyond the `most` frequent ones count as `other`."""
    counts = _category_counts(series)
    # equal counts are ordered by name, so that the same data give the same profile
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values())
    return CategoricalProfile(
        count=total,
        missing_share=_share(len(series) - total, len(series)),
        distinct=len(counts),
        shares={name: count / total for name, count in ranked[:most]},
        other=_share(sum(count for _, count in ranked[most:]), total),
    )


def bin_shares(column: NumericProfile | CategoricalProfile, series: "pd.Series") -> "np.ndarray":
    """The shares of a new sample in the profile's bins: float64, in the order of `column.share_list`.

    Of the values that are not missing; all 0 where there is none. Categories that the profile does not
    name count as other. Raises TableError where a column of numbers holds something else.
    """
    import numpy as np

    if isinstance(column, NumericProfile):
        values = as_numbers(series)
        return _numeric_shares(values[~np.isnan(values)], np.array(column.edges, dtype="float64"))
    counts = _category_counts(series)
    total = sum(counts.values())
    named = [_share(counts.get(name, 0), total) for name in column.shares]
    others = total - sum(counts.get(name, 0) for name in column.shares)
    return np.array([*named, _share(others, total)], dtype="float64")


def missing_share(series: "pd.Series") -> float:
    """The share of missing values (null or NaN) among all rows; 0 where there are no rows."""
    return _share(int(series.isna().sum()), len(series))


def _edges(finite: "np.ndarray", quantiles: "np.ndarray") -> "np.ndarray":
    """Where to cut: after each value where there are few, else at the deciles.

    A value that fills more than a decile would vanish in a bin with its neighbours (a column that is
    constant but for a few rows): it gets a bin of its own by a second cut just below it.
    """
    import numpy as np

    # 101 quantiles of few values may be interpolated between them: look at the values themselves
    distinct = np.unique(finite) if len(np.unique(finite[:10_000])) <= MOST_VALUE_BINS else None
    if distinct is not None and len(distinct) <= MOST_VALUE_BINS:
        return np.concatenate(([np.nextafter(distinct[0], -np.inf)], distinct))
    cuts, repeats = np.unique(quantiles[10:100:10], return_counts=True)
    return np.unique(np.concatenate((cuts, np.nextafter(cuts[repeats > 1], -np.inf))))


def _numeric_shares(present: "np.ndarray", edges: "np.ndarray") -> "np.ndarray":
    import numpy as np

    # a bin is (lower edge, upper edge]: the number of values <= each edge, then differences
    counts = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1)
    return counts / len(present) if len(present) else np.zeros(len(edges) + 1)


def as_numbers(series: "pd.Series") -> "np.ndarray":
    """A column as float64, NaN where missing: booleans are 0 and 1, timestamps seconds since 1970.

    Raises TableError where it holds something else.
    """
    import numpy as np
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        utc = pd.to_datetime(series, utc=True)
        seconds = (utc - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
        return np.asarray(seconds.to_numpy(dtype="float64"))
    try:
        if series.dtype == object:
            series = pd.to_numeric(series)
        return np.asarray(series.to_numpy(dtype="float64", na_value=np.nan))
    except (ValueError, TypeError) as error:
        raise TableError(
            f"column {series.name} is profiled as numbers but holds something else ({str(error)[:200]}); "
            f"name it in `categorical`, or declare it as a string"
        ) from error


def _category_counts(series: "pd.Series") -> dict[str, int]:
    """How often each value occurs that is not missing, by its text."""
    found: dict[str, int] = {}
    for value, count in series.value_counts(dropna=True).items():
        name = _category_name(value)
        if count:
            found[name] = found.get(name, 0) + int(count)
    return found


def _category_name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _holds_text(series: "pd.Series") -> bool:
    import pandas as pd

    if isinstance(series.dtype, (pd.CategoricalDtype, pd.StringDtype)):
        return True
    return bool(series.dtype == object and series.map(lambda value: isinstance(value, str)).any())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
