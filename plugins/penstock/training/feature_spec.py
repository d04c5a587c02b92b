"""feature_spec.json: what a model needs to be asked, in a file beside it that any program can read."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from penstock.features.training_set import TrainingSet
from penstock.spec.loading import LoadedProject
from penstock.training.feature_columns import FeatureColumns

FILE_NAME = "feature_spec.json"
PATH_IN_MODEL = f"extra_files/{FILE_NAME}"  # where MLflow puts a model's extra files


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
