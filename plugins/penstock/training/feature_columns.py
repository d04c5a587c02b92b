"""Feature columns as a model sees them: their order, types and categories, fixed by the training block."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock.lakehouse.addresses import Address
from penstock.spec.project import Column, ColumnType, Model
from penstock.training.errors import ScoringError, TrainingError
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_NO_INPUT = {ColumnType.DATE, ColumnType.TIMESTAMP}
_NUMBERS = {"integer", "floating", "boolean", "decimal", "mixed-integer-float", "empty"}
_TEXTS = {"string", "empty"}
ENTITY = "entity"
ON_DEMAND = "on demand"


@dataclass(frozen=True)
class Feature:
    """One feature: its type in the lakehouse, where it comes from: `entity`, `table.column` or `on demand: function`.

    categories: the values of a string feature in the training block, sorted; None for other types.
    """

    name: str
    type: ColumnType
    source: str
    categories: tuple[str, ...] | None = None

    @property
    def is_category(self) -> bool:
        """Whether the model gets the feature as a pandas category; else it is a float64."""
        return self.type is ColumnType.STRING


@dataclass(frozen=True)
class FeatureColumns:
    """A model's features in order. Turns raw columns into what the model was fitted on."""

    features: tuple[Feature, ...]

    @classmethod
    def from_list(cls, items: Sequence[dict[str, Any]]) -> "FeatureColumns":
        """From the `features` of a feature_spec.json."""
        return cls(tuple(
            Feature(
                item["name"], ColumnType(item["type"]), item["source"],
                None if item["categories"] is None else tuple(item["categories"]),
            )
            for item in items
        ))  # fmt: skip

    def to_list(self) -> list[dict[str, Any]]:
        """The reverse of `from_list`: JSON values."""
        return [{**asdict(feature), "type": str(feature.type)} for feature in self.features]

    @property
    def names(self) -> list[str]:
        """The features' names in order."""
        return [feature.name for feature in self.features]

    @property
    def categorical(self) -> list[str]:
        """The names of the string features."""
        return [feature.name for feature in self.features if feature.is_category]

    def prepare(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The model's input: the features in order, numbers as float64, strings as fixed categories.

        Other columns of `frame` are left out. A string that the training block does not have becomes null.
        Raises ScoringError that names a missing column, or one that holds another type.
        """
        import pandas as pd

        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise ScoringError(
                f"missing feature column(s) {', '.join(missing)}; given: {', '.join(map(str, frame.columns))}"
            )
        columns = {
            feature.name: _categories(frame[feature.name], feature)
            if feature.is_category
            else _numbers(frame[feature.name], feature)
            for feature in self.features
        }
        return pd.DataFrame(columns, index=frame.index, copy=False)


def fit_columns(workspace: Workspace, project: str, model: Model, training: "pd.DataFrame") -> FeatureColumns:
    """A model's feature columns, with the categories of the training block.

    Types are those that the tables' projects declare; of a column that none declares, what the data hold.
    Raises TrainingError for a date or timestamp, and for a column that the training set lacks.
    """
    features = []
    for name, source, declared in _declared(workspace, project, model):
        if name not in training.columns:
            raise TrainingError(
                f"the training set of {project} has no column {name} ({source}): build it again after a "
                "change of entity.features or lookups"
            )
        features.append(_feature(name, source, declared.type if declared else _type_of(training[name]), training[name]))
    return FeatureColumns(tuple(features))


def columns_of_frame(
    frame: "pd.DataFrame", sources: Mapping[str, str], declared: Mapping[str, ColumnType]
) -> FeatureColumns:
    """The columns `sources` (name -> where it comes from) of a frame as features, with the types that are declared, or
    else those that they hold.

    Raises TrainingError for a date or timestamp.
    """
    return FeatureColumns(
        tuple(
            _feature(name, source, declared.get(name) or _type_of(frame[name]), frame[name])
            for name, source in sources.items()
        )
    )


def _feature(name: str, source: str, kind: ColumnType, values: "pd.Series") -> Feature:
    if kind in _NO_INPUT:
        raise TrainingError(
            f"feature {name} ({source}) is a {kind}: a model sees numbers, booleans and strings. "
            "Turn it into one in the feature table, such as days since a date"
        )
    return Feature(name, kind, source, _found(values, name, kind))


def _declared(workspace: Workspace, project: str, model: Model) -> list[tuple[str, str, Column | None]]:
    """Each feature's name, source and declared column (None where no project declares it)."""
    own = [(name, ENTITY, _column(workspace, project, model.entity.table, name)) for name in model.entity.features]
    looked_up = [
        (lookup.output_name(name), f"{lookup.table}.{name}", _column(workspace, project, lookup.table, name))
        for lookup in model.lookups
        for name in lookup.features
    ]
    computed = [
        (name, f"{ON_DEMAND}: {spec.function}", Column(type=spec.type)) for name, spec in model.on_demand.items()
    ]
    return [*own, *looked_up, *computed]


def _column(workspace: Workspace, project: str, table: str, name: str) -> Column | None:
    declared = workspace.declared_table(Address.parse(table, project))
    return declared.columns.get(name) if declared else None


def _type_of(series: "pd.Series") -> ColumnType:
    import pandas as pd

    kind = pd.api.types.infer_dtype(series, skipna=True)
    types = {"boolean": ColumnType.BOOLEAN, "integer": ColumnType.BIGINT, "date": ColumnType.DATE}
    if kind.startswith("datetime"):
        return ColumnType.TIMESTAMP
    return types.get(kind, ColumnType.DOUBLE if kind in _NUMBERS else ColumnType.STRING)


def _found(series: "pd.Series", name: str, kind: ColumnType) -> tuple[str, ...] | None:
    if kind is not ColumnType.STRING:
        return None
    values = series.dropna().unique()
    strange = next((value for value in values if not isinstance(value, str)), None)
    if strange is not None:
        raise TrainingError(f"feature {name} is declared as a string, but holds {strange!r} ({type(strange).__name__})")
    return tuple(sorted(values))


def _numbers(series: "pd.Series", feature: Feature) -> "np.ndarray":
    import numpy as np
    import pandas as pd

    if series.dtype == object or not pd.api.types.is_numeric_dtype(series.dtype):
        kind = pd.api.types.infer_dtype(series, skipna=True)
        if kind not in _NUMBERS:
            raise ScoringError(_unfit(series, feature, kind))
        series = series.astype(object)
        series = series.where(series.notna(), None)
        return np.array(series.to_list(), dtype="float64")
    return series.to_numpy(dtype="float64", na_value=np.nan)


def _categories(series: "pd.Series", feature: Feature) -> "pd.Categorical":
    import pandas as pd

    values = series.cat.categories if isinstance(series.dtype, pd.CategoricalDtype) else series
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in _TEXTS and series.notna().any():
        raise ScoringError(_unfit(series, feature, kind))
    if kind not in _TEXTS:
        series = pd.Series([None] * len(series), index=series.index, dtype=object)
    return pd.Categorical(series, categories=list(feature.categories or ()))


def _unfit(series: "pd.Series", feature: Feature, kind: str) -> str:
    example = next(iter(series[series.notna()].head(1)), None)
    return f"feature {feature.name} is a {feature.type}, but the column holds {kind} values such as {example!r}"
