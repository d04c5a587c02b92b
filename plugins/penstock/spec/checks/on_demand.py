"""On-demand features: names, inputs and types. Functions are checked with all others."""

from collections.abc import Iterator

from penstock.spec.checks.scope import Scope, Table
from penstock.spec.faults import Fault, YamlPath, suggestion
from penstock.spec.names import PREDICTION_COLUMNS, TRAINING_SET_COLUMNS
from penstock.spec.project import ColumnType, Model

_PREDICTION_TIME = "prediction_time"
_NO_FEATURE = (ColumnType.DATE, ColumnType.TIMESTAMP)


def check_on_demand(scope: Scope, path: YamlPath, model: Model, entity: Table | None) -> Iterator[Fault]:
    """The faults of a model's on-demand features. `entity` is None where its table is not known."""
    looked_up = [lookup.output_name(feature) for lookup in model.lookups for feature in lookup.features]
    columns = list(entity.columns) if entity is not None else []
    taken = {name: "a looked-up feature" for name in looked_up}
    taken |= {name: f"a column of {model.entity.table}" for name in columns}
    taken |= {name: "a column of Penstock's own tables" for name in (*TRAINING_SET_COLUMNS, *PREDICTION_COLUMNS)}
    known = [*columns, *looked_up, _PREDICTION_TIME]
    for name, spec in model.on_demand.items():
        place = (*path, "on_demand", name)
        if name in taken:
            yield scope.fault(place, f"{name!r} is {taken[name]} already", "give the on-demand feature another name")
        if spec.type in _NO_FEATURE:
            yield scope.fault(
                (*place, "type"), f"a model sees no {spec.type}", "turn it into a number, such as days since a date"
            )
        yield from scope.repeated((*place, "inputs"), spec.inputs)
        for index, column in enumerate(spec.inputs):
            if column in model.on_demand:
                yield scope.fault(
                    (*place, "inputs", index),
                    f"{column!r} is itself computed on demand",
                    f"compute it within {spec.function}",
                )
            elif entity is not None and column not in known:
                yield scope.fault(
                    (*place, "inputs", index),
                    f"{column!r} is neither a column of {model.entity.table} nor a looked-up feature",
                    suggestion(column, known, "columns"),
                )
