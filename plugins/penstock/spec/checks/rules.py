"""The rules of a model: training, promotion, inference, monitoring, retraining. Reads only the declaration."""

import re
from collections.abc import Iterator
from typing import Any

from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, YamlPath, suggestion
from penstock.spec.names import CLASSIFICATION_METRICS, REGRESSION_METRICS, TRAINING_METRIC_PREFIXES
from penstock.spec.project import (
    Bound,
    ColumnType,
    DriftMethod,
    Model,
    Schedules,
    SearchRange,
    Sink,
    Task,
    Training,
)

_CRON_FIELD = r"[\d*][\w*/,#\-]*|[A-Za-z]{3}[\w,\-]*|\?|L"
_CRON = re.compile(rf"(?:{_CRON_FIELD})(?:\s+(?:{_CRON_FIELD})){{4}}")
_PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")  # what pyarrow writes to
_SINK_FIELDS = {"parquet": ("path",), "csv": ("path",), "jdbc": ("url", "table")}


def check_rules(scope: Scope) -> Iterator[Fault]:
    """The faults of each model's rules, and of the project's schedules."""
    yield from _schedules(scope, scope.project.schedules)
    for path, _, model in scope.models:
        yield from _training(scope, (*path, "training"), model.training)
        yield from _evaluation(scope, (*path, "evaluation"), model)
        yield from _metric_names(scope, path, model)
        for name, bound in model.promotion.first_bounds.items():
            yield from _bound(scope, (*path, "promotion", "first_bounds", name), bound)
        for index, sink in enumerate(model.inference.sinks):
            yield from _sink(scope, (*path, "inference", "sinks", index), sink)
        yield from _feature_rules(scope, (*path, "monitoring", "feature_rules"), model)


def _schedules(scope: Scope, schedules: Schedules) -> Iterator[Fault]:
    for pipeline, schedule in schedules:
        if schedule is not None and schedule not in _PRESETS and not _CRON.fullmatch(schedule.strip()):
            yield scope.fault(
                ("schedules", pipeline),
                f"{schedule!r} is neither a cron expression nor a preset",
                f'write five fields, such as "0 6 * * *", or one of {", ".join(_PRESETS)}',
            )


def _training(scope: Scope, path: YamlPath, training: Training) -> Iterator[Fault]:
    if not training.hold_out:
        yield scope.fault((*path, "hold_out"), "is no time at all: nothing would be held out", "write 14d, say")
    if training.window is not None and training.window <= training.tune + training.hold_out:
        yield scope.fault(
            (*path, "window"), "leaves nothing to train on beside tune and hold_out", "make it longer than both"
        )
    elif training.window is not None and training.window <= training.folds * training.tune + training.hold_out:
        yield scope.fault(
            (*path, "folds"), f"{training.folds} folds leave nothing of the window to train on beside hold_out",
            "declare fewer folds, a shorter tune or a longer window",
        )  # fmt: skip
    for name, search in training.search.items():
        yield from _search(scope, (*path, "search", name), search)
    for index, option in enumerate(training.best):
        if option in training.best[:index]:
            yield scope.fault((*path, "best", index), "the same option stands above", "remove one of them")
        yield from _option(scope, (*path, "best", index), option, training)


def _option(scope: Scope, path: YamlPath, option: dict[str, Any], training: Training) -> Iterator[Fault]:
    for name in training.search:
        if name not in option:
            yield scope.fault(path, f"the option lacks {name!r}, which is searched for", f"add `{name}: …`")
    for name, value in option.items():
        if name not in training.search:
            hint = suggestion(name, training.search, "searched parameters")
            yield scope.fault((*path, name), f"{name!r} is not searched for", f"{hint}, or set it under parameters")
        elif not _lies_in(value, training.search[name]):
            yield scope.fault(
                (*path, name), f"{value!r} lies outside of the range that is searched",
                f"widen search.{name}, or correct the option",
            )  # fmt: skip


def _lies_in(value: Any, search: SearchRange) -> bool:
    if search.choice is not None:
        return value in search.choice
    low, high = search.integer or search.number or (0, 0)
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _search(scope: Scope, path: YamlPath, search: SearchRange) -> Iterator[Fault]:
    interval = search.integer or search.number
    if interval is None:
        if not search.choice:
            yield scope.fault((*path, "choice"), "has nothing to choose from", "give at least one value")
        if search.log:
            yield scope.fault((*path, "log"), "a choice has no logarithm", "remove log")
        return
    low, high = interval
    kind = "int" if search.integer else "float"
    if low > high:
        yield scope.fault((*path, kind), f"begins at {low}, above its end {high}", f"write [{high}, {low}]")
    if search.log and low <= 0:
        yield scope.fault(
            (*path, kind), f"log needs numbers above 0, not {low}", "raise the lower bound, or remove log"
        )


def _evaluation(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    evaluation, known = model.evaluation, [*model.entity.keys, *model.feature_names]
    yield from scope.repeated((*path, "slices"), evaluation.slices)
    for index, name in enumerate(evaluation.slices):
        if name not in known:
            hint = suggestion(name, known, "features and keys")
            message = f"{name!r} is neither a feature of the model nor a key of its entity"
            yield scope.fault((*path, "slices", index), message, hint)
    if evaluation.costs is not None and model.training.task is not Task.CLASSIFICATION:
        message = f"false positives and negatives do not fit the task {model.training.task}"
        yield scope.fault((*path, "costs"), message, "remove costs, or declare a metric of your own that counts them")
    if evaluation.resample_by is not None and not evaluation.resample_by:
        yield scope.fault((*path, "resample_by"), "is no time at all", "write 1d, or remove it to draw single rows")


def _metric_names(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    training = model.training
    is_classification = training.task is Task.CLASSIFICATION
    built_in = CLASSIFICATION_METRICS if is_classification else REGRESSION_METRICS
    unfit = REGRESSION_METRICS if is_classification else CLASSIFICATION_METRICS
    for name in training.metrics:
        yield from _own_name(scope, (*path, "training", "metrics", name), name)
    for place, name in _named_metrics(model):
        if name in built_in or name in training.metrics:
            continue
        message = f"there is no metric {name!r}"
        if name in unfit:
            message = f"the metric {name!r} does not fit the task {training.task}"
        hint = suggestion(name, [*built_in, *training.metrics], "metrics")
        yield scope.fault((*path, *place), message, f"{hint}, or declare it in training.metrics")
    for index, name in enumerate(training.lower_is_better):
        if name not in training.metrics:
            place = (*path, "training", "lower_is_better", index)
            hint = suggestion(name, training.metrics, "own metrics")
            yield scope.fault(place, f"{name!r} is none of the model's own metrics", hint)


def _own_name(scope: Scope, path: YamlPath, name: str) -> Iterator[Fault]:
    if name in (*CLASSIFICATION_METRICS, *REGRESSION_METRICS):
        yield scope.fault(path, f"{name!r} is a built-in metric", "give your own another name")
    prefix = next((prefix for prefix in TRAINING_METRIC_PREFIXES if name.startswith(prefix)), None)
    if prefix is not None:
        yield scope.fault(
            path,
            f"{name!r} would be neither compared nor shown: metrics that begin with {prefix} are training's own",
            f"give it another name, such as own_{name}",
        )


def _named_metrics(model: Model) -> Iterator[tuple[YamlPath, str]]:
    yield ("training", "metric"), model.training.metric
    yield ("promotion", "metric"), model.promotion.metric
    for name in model.promotion.first_bounds:
        yield ("promotion", "first_bounds", name), name
    for name in model.promotion.guard_metrics:
        yield ("promotion", "guard_metrics", name), name
    for index, rule in enumerate(model.monitoring.quality):
        yield ("monitoring", "quality", index, "metric"), rule.metric


def _bound(scope: Scope, path: YamlPath, bound: Bound) -> Iterator[Fault]:
    if bound.min is None and bound.max is None:
        yield scope.fault(path, "bounds nothing", "give min, max or both")
    elif bound.min is not None and bound.max is not None and bound.min > bound.max:
        yield scope.fault(path, f"no value is at least {bound.min} and at most {bound.max}", "exchange min and max")


def _sink(scope: Scope, path: YamlPath, sink: Sink) -> Iterator[Fault]:
    needed = _SINK_FIELDS[sink.kind]
    for field in ("path", "url", "table"):
        given = getattr(sink, field) is not None
        if given and field not in needed:
            yield scope.fault((*path, field), f"a {sink.kind} sink has no {field}", "remove it")
        if not given and field in needed:
            yield scope.fault(path, f"a {sink.kind} sink needs {field}", f"add `{field}: …`")
    scheme, is_url, _ = (sink.path or "").partition("://")
    if is_url and "${" not in scheme and scheme not in _STORES and "path" in needed:
        message = f"no file can be written to {scheme}://"
        yield scope.fault((*path, "path"), message, "write a folder, or s3://bucket/folder, say")


def _feature_rules(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    texts = _text_features(scope, model)
    for name, rule in model.monitoring.feature_rules.items():
        if name not in model.feature_names:
            hint = suggestion(name, model.feature_names, "features of the model")
            yield scope.fault((*path, name), f"the model has no feature {name!r}", hint)
        elif name in texts and rule.method is DriftMethod.WASSERSTEIN:
            message = f"wasserstein measures numbers, and {name!r} is a string"
            yield scope.fault((*path, name, "method"), message, "write psi or jensen_shannon")


def _text_features(scope: Scope, model: Model) -> set[str]:
    entity = scope.find(model.entity.table).table
    columns = entity.columns if entity is not None else {}
    texts = {name for name in model.entity.features if name in columns and columns[name].type is ColumnType.STRING}
    for lookup in model.lookups:
        table = scope.find(lookup.table).table
        columns = table.columns if table is not None else {}
        for name in lookup.features:
            if name in columns and columns[name].type is ColumnType.STRING:
                texts.add(lookup.output_name(name))
    return texts
