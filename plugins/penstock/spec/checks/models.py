"""Models: entity, label, lookups and the names of features. Reads nothing but the declarations."""

from collections.abc import Iterator

from penstock.spec.checks.compliance import check_model_compliance
from penstock.spec.checks.on_demand import check_on_demand
from penstock.spec.checks.scope import Scope, Table
from penstock.spec.faults import Fault, Severity, YamlPath, suggestion
from penstock.spec.names import PREDICTION_COLUMNS, TRAINING_SET_COLUMNS
from penstock.spec.project import ColumnType, FeatureTable, Lookup, Model, Source

_WHOLE, _NUMBER = (int,), (int, float)
_VALUES: dict[ColumnType, tuple[type, ...]] = {
    ColumnType.STRING: (str,), ColumnType.BOOLEAN: (bool,), ColumnType.INT: _WHOLE, ColumnType.BIGINT: _WHOLE,
    ColumnType.FLOAT: _NUMBER, ColumnType.DOUBLE: _NUMBER,
}  # fmt: skip
_RESERVED = (*TRAINING_SET_COLUMNS, *PREDICTION_COLUMNS)


def check_models(scope: Scope) -> Iterator[Fault]:
    """The faults of what each model is about and what it sees."""
    for path, _, model in scope.models:
        found = scope.find(model.entity.table)
        if found.problem is not None:
            yield scope.fault((*path, "entity", "table"), *found.problem)
        if found.table is not None:
            yield from _entity(scope, path, model, found.table)
        yield from _label(scope, (*path, "label"), model, found.table)
        for index, lookup in enumerate(model.lookups):
            yield from _lookup(scope, (*path, "lookups", index), lookup)
        yield from check_on_demand(scope, path, model, found.table)
        yield from _feature_names(scope, path, model)
        yield from check_model_compliance(scope, path, model)


def _entity(scope: Scope, path: YamlPath, model: Model, table: Table) -> Iterator[Fault]:
    entity, path, keep = model.entity, (*path, "entity"), (*path, "inference", "keep")
    for field, columns in (("keys", entity.keys), ("features", entity.features)):
        yield from scope.repeated((*path, field), columns)
        yield from scope.unknown_columns((*path, field), columns, table, entity.table)
    yield from scope.repeated(keep, model.inference.keep)
    yield from scope.unknown_columns(keep, model.inference.keep, table, entity.table)
    time = (*path, "prediction_time")
    if entity.prediction_time not in table.columns:
        yield scope.unknown_column(time, entity.prediction_time, table.columns, entity.table)
    yield from scope.not_a_timestamp(time, entity.prediction_time, table)
    given = (*entity.keys, entity.prediction_time)
    missing = [key for key in table.primary_keys if key in table.columns and key not in given]
    if missing:
        yield scope.fault(
            (*path, "keys"),
            f"keys and prediction_time lack {', '.join(missing)}, by which rows of {entity.table} differ",
            f"add {', '.join(missing)}, unless there is one row for each key and prediction time",
            Severity.WARNING,
        )


def _label(scope: Scope, path: YamlPath, model: Model, entity: Table | None) -> Iterator[Fault]:
    label, time = model.label, model.entity.prediction_time
    found = scope.find(label.table)
    if found.problem is not None:
        yield scope.fault((*path, "table"), *found.problem)
        return
    if found.table is None:
        return
    if not isinstance(found.table, Source):
        yield scope.fault(
            (*path, "table"),
            f"{label.table} is a feature table, which does not say when a label became known",
            suggestion("", scope.project.sources, "sources"),
        )
        return
    for key in model.entity.keys:
        if entity is not None and key not in entity.columns:
            continue  # a fault of its own
        if key not in found.table.columns:
            yield scope.fault(
                (*path, "table"),
                f"{label.table} lacks the entity's key {key!r}",
                f"choose a source that has the columns {', '.join(model.entity.keys)}",
            )
        elif entity is not None and entity.columns[key].type != found.table.columns[key].type:
            yield scope.fault(
                (*path, "table"),
                f"the key {key!r} is a {found.table.columns[key].type} in {label.table}, "
                f"but a {entity.columns[key].type} in {model.entity.table}",
                "declare both alike",
            )
    told = [key for key in (entity.primary_keys if entity is not None else ()) if key != time]  # by _entity
    further = [key for key in found.table.primary_keys if key not in (*model.entity.keys, *told)]
    if further:
        yield scope.fault(
            (*path, "table"),
            f"rows of {label.table} also differ by {', '.join(further)}, which the entity's keys lack: of an entity's "
            "rows only the newest counts",
            f"add {', '.join(further)} to entity.keys, unless the others are corrected ones",
            Severity.WARNING,
        )


def _lookup(scope: Scope, path: YamlPath, lookup: Lookup) -> Iterator[Fault]:
    found = scope.find(lookup.table)
    if found.problem is not None:
        yield scope.fault((*path, "table"), *found.problem)
        return
    table = found.table
    if table is None:
        return
    if not isinstance(table, FeatureTable):
        hint = suggestion(lookup.table, scope.project.feature_tables, "feature tables")
        yield scope.fault((*path, "table"), f"{lookup.table} is a source, not a feature table", hint)
        return
    yield from _lookup_keys(scope, (*path, "keys"), lookup, table)
    yield from scope.repeated((*path, "features"), lookup.features)
    for index, feature in enumerate(lookup.features):
        if feature not in table.value_columns:
            hint = suggestion(feature, table.value_columns, "features")
            yield scope.fault((*path, "features", index), f"{lookup.table} has no feature {feature!r}", hint)
    for feature in lookup.rename:
        if feature not in lookup.features:
            hint = suggestion(feature, lookup.features, "features of this lookup")
            yield scope.fault((*path, "rename", feature), f"{feature!r} is none of the lookup's features", hint)
    yield from _defaults(scope, (*path, "defaults"), lookup, table)


def _defaults(scope: Scope, path: YamlPath, lookup: Lookup, table: FeatureTable) -> Iterator[Fault]:
    for feature, value in lookup.defaults.items():
        if feature not in lookup.features:
            hint = suggestion(feature, lookup.features, "features of this lookup")
            yield scope.fault((*path, feature), f"{feature!r} is none of the lookup's features", hint)
        elif feature in table.columns and type(value) not in _VALUES.get(table.columns[feature].type, ()):
            yield scope.fault(
                (*path, feature),
                f"the default {value!r} is no {table.columns[feature].type}, as which {feature} is declared",
                f"write a value of that type, or remove the default of {feature}",
            )


def _lookup_keys(scope: Scope, path: YamlPath, lookup: Lookup, table: FeatureTable) -> Iterator[Fault]:
    for key in lookup.keys:
        if key not in table.primary_keys:
            hint = suggestion(key, table.primary_keys, "primary keys")
            yield scope.fault((*path, key), f"{key!r} is no primary key of {lookup.table}", hint)
    for key in table.primary_keys:
        if key not in lookup.keys:
            yield scope.fault(
                path,
                f"the primary key {key!r} of {lookup.table} is not given",
                f"add `{key}: <expression over the entity's row>`",
            )


def _feature_names(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    if not model.feature_names:
        yield scope.fault(path, "the model sees no features", "name entity.features, or lookups")
    taken = {key: "a key of the entity" for key in model.entity.keys}
    taken |= {column: "a column of Penstock's own tables" for column in _RESERVED}
    for index, feature in enumerate(model.entity.features):
        if feature in _RESERVED:
            yield scope.fault(
                (*path, "entity", "features", index),
                f"{feature!r} is the name of {taken[feature]}",
                "rename the column in the source",
            )
        taken.setdefault(feature, "a feature of the entity")
    for index, lookup in enumerate(model.lookups):
        for feature in lookup.features:
            name = lookup.output_name(feature)
            place = (*path, "lookups", index, *(("rename", feature) if feature in lookup.rename else ("features",)))
            if name in taken and lookup.features.count(feature) == 1:
                yield scope.fault(
                    place,
                    f"the feature {feature!r} would be named {name!r}, which is {taken[name]} already",
                    f"give it a name of its own: rename: {{{feature}: {lookup.table.rpartition('.')[2]}_{feature}}}",
                )
            taken[name] = f"a feature from {lookup.table}"
    for index, column in enumerate(model.inference.keep):
        if column in taken:
            message = f"predictions hold {column!r} anyway: it is {taken[column]}"
            yield scope.fault((*path, "inference", "keep", index), message, "remove it, or rename the column")
