"""feature_spec.json: what a model needs to be asked, in a file beside it that any program can read."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from penstock.clock import parse_as_of
from penstock.errors import ClockError
from penstock.features.training_set import TrainingSet
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Entity, Lookup, OnDemand, Task
from penstock.training.feature_columns import FeatureColumns

FILE_NAME = "feature_spec.json"
PATH_IN_MODEL = f"extra_files/{FILE_NAME}"  # where MLflow puts a model's extra files


def _moment(text: str) -> str:
    try:
        parse_as_of(text)
    except ClockError as error:
        raise ValueError(str(error)) from error
    return text


class _Entity(BaseModel):
    table: str | None = None
    keys: list[str]
    prediction_time: str
    features: list[str]


class _FeatureSpec(BaseModel):
    """What is read of the file; its `features` are read by FeatureColumns. Defaults are for files of old."""

    project: str
    task: Task
    entity: _Entity
    lookups: list[Lookup]
    on_demand: dict[str, OnDemand] = {}
    as_known: bool = False
    inputs: dict[str, int] = {}
    trained_until: Annotated[str, AfterValidator(_moment)]
    label_mean: float | None = None


def feature_spec(
    project: LoadedProject, model_name: str, columns: FeatureColumns, training_set: TrainingSet, trained_until: str,
    label_mean: float,
) -> dict[str, Any]:  # fmt: skip
    """JSON values: entity, label, lookups, on-demand features, features with types, and what it was trained from.

    label_mean: of the training block, what the default heuristic answers.
    """
    model = project.model(model_name)
    return {
        "project": project.name,
        "model": model_name,
        "task": str(model.training.task),
        "entity": spec_values(model.entity),
        "label": spec_values(model.label),
        "lookups": [spec_values(lookup) for lookup in model.lookups],
        "on_demand": {name: spec_values(spec) for name, spec in model.on_demand.items()},
        "features": columns.to_list(),
        "as_known": training_set.as_known,
        "inputs": training_set.inputs,
        "as_of": training_set.as_of,
        "trained_until": trained_until,
        "label_mean": label_mean,
    }


def spec_as_asked(spec: dict[str, Any], declared: Entity) -> dict[str, Any]:
    """A feature_spec as a declared model's version is asked by it, in batches and by the gates.

    Entity rows that a person gave have no table: then it is the declared entity's, of which the version takes its
    own features.
    """
    if spec["entity"].get("table") is not None:
        return spec
    return {**spec, "entity": {**spec_values(declared), "features": spec["entity"]["features"]}}


def check_feature_spec(values: Any) -> None:
    """Raises ValueError where the values of a feature_spec.json are not those by which a model is asked.

    The text names up to three places.
    """
    try:
        _FeatureSpec.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3]]
        raise ValueError("; ".join(faults)) from error


def trained_as_known(spec: dict[str, Any]) -> bool:
    """Whether a model learned from values as they were known then, and has to be asked so (records of old: no)."""
    return bool(spec.get("as_known", False))


def spec_values(part: BaseModel) -> dict[str, Any]:
    """A part of a spec as JSON values that `model_validate` reads again."""
    values = part.model_dump(by_alias=True)
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"  # the specs' own way to write a duration
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
