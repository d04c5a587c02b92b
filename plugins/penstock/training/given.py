"""Training sets of a person's own entity rows, and models that are fitted on them in a notebook.

A model logged here carries the same feature_spec.json as one that the training pipeline makes: it can be scored by
keys, and its lineage is known.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import penstock
from penstock.errors import TableError
from penstock.features.entities import LABEL_KNOWN_AT
from penstock.features.training_records import require_training_set
from penstock.features.training_set import TrainingSet, read_training_set, require_rows
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.git import code_state
from penstock.lakehouse.session import read_version
from penstock.spec.faults import suggestion
from penstock.spec.project import ColumnType, Lookup, OnDemand, Task, Training
from penstock.training.errors import TrainingError
from penstock.training.feature_columns import ENTITY, ON_DEMAND, FeatureColumns, columns_of_frame
from penstock.training.feature_spec import spec_values
from penstock.training.model_files import EXAMPLE_ROWS, ModelParts, log_native_model
from penstock.training.origins import code_tags
from penstock.training.register import RegisteredVersion
from penstock.training.run_inputs import log_inputs
from penstock.training.runs import experiment_id, to_json, tracking
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from pyspark.sql.connect.session import SparkSession


@dataclass(frozen=True)
class GivenTrainingSet:
    """Entity rows with their features, stored as `record.table`@`record.version`.

    keys: columns of the entity rows that only identify them, so that no model sees them. on_demand: features that
    the project's functions compute, by name.
    """

    workspace: Workspace
    project: str
    record: TrainingSet
    lookups: tuple[Lookup, ...]
    keys: tuple[str, ...]
    on_demand: Mapping[str, OnDemand] = field(default_factory=dict)

    def load_df(self, *, spark: "SparkSession | None" = None) -> Any:
        """The rows as a pandas DataFrame, sorted by time; where a session is given, as its DataFrame, in no order.

        Raises TableError where maintenance removed them.
        """
        if spark is None:
            return self._frame.copy()
        require_rows(self.record)
        return read_version(spark, self.record.path, self.record.version)

    def features_and_label(self) -> "tuple[pd.DataFrame, pd.Series]":
        """What a model is fitted on: numbers as float64, strings as categories; and the label as float64.

        Raises TrainingError for a training set without labels.
        """
        if self.record.label is None:
            raise TrainingError(f"{self.record.id} has no label: name it in create_training_set(label=…)")
        return self.columns.prepare(self._frame), self._frame[self.record.label].astype("float64")

    @cached_property
    def columns(self) -> FeatureColumns:
        """The features in order: those of the entity rows, then each lookup's, then those on demand."""
        looked_up = {
            lookup.output_name(name): f"{lookup.table}.{name}" for lookup in self.lookups for name in lookup.features
        }
        made = looked_up | {name: f"{ON_DEMAND}: {spec.function}" for name, spec in self.on_demand.items()}
        apart = {*self.keys, self.record.timestamp_key, self.record.label}
        sources = {name: made.get(name, ENTITY) for name in self._frame.columns if name not in apart}
        return columns_of_frame(self._frame, sources, self._declared_types())

    def _declared_types(self) -> dict[str, ColumnType]:
        """Of the looked-up features that a project declares, and of those on demand: nulls turn integers to floats."""
        found = {name: spec.type for name, spec in self.on_demand.items()}
        for lookup in self.lookups:
            table = self.workspace.declared_table(Address.parse(lookup.table, self.project))
            declared = table.columns if table else {}
            found |= {lookup.output_name(name): declared[name].type for name in lookup.features if name in declared}
        return found

    @cached_property
    def _frame(self) -> "pd.DataFrame":
        return read_training_set(self.record)

    def feature_spec(self, name: str, task: Task) -> dict[str, Any]:
        """feature_spec.json of a model that was fitted on these rows."""
        entity = [feature.name for feature in self.columns.features if feature.source == ENTITY]
        return {
            "project": self.project, "model": name.rpartition(".")[2], "task": str(task),
            "entity": {"table": None, "keys": list(self.keys), "prediction_time": self.record.timestamp_key,
                       "features": entity},
            "label": {"name": self.record.label}, "lookups": [spec_values(lookup) for lookup in self.lookups],
            "on_demand": {item: spec_values(spec) for item, spec in self.on_demand.items()},
            "features": self.columns.to_list(), "inputs": self.record.inputs, "as_of": self.record.as_of,
            "as_known": self.record.as_known, "trained_until": self.record.last_prediction_time,
            "label_mean": self.record.label_mean,
        }  # fmt: skip


def recorded_training_set(
    workspace: Workspace, project: str, identifier: str, exclude_columns: Sequence[str]
) -> GivenTrainingSet:
    """A training set from its record, of a declared model or of given rows. Raises TableError for an unknown id."""
    record, definition = require_training_set(workspace, project, identifier)
    apart = [*exclude_columns]
    if definition.entity is not None:  # a declared model says itself what is no feature
        apart += [*(key for key in definition.entity.keys if key not in definition.entity.features), LABEL_KNOWN_AT]
    return GivenTrainingSet(
        workspace, project, record, tuple(definition.lookups), tuple(dict.fromkeys(apart)), definition.on_demand
    )


def parse_on_demand(features: Mapping[str, OnDemand | Mapping[str, Any]]) -> dict[str, OnDemand]:
    """On-demand features from specs or mappings. Raises TableError for what is none."""
    found = {}
    for name, given in features.items():
        try:
            found[name] = given if isinstance(given, OnDemand) else OnDemand.model_validate(given)
        except ValueError as error:
            raise TableError(
                f"on-demand feature {name}: {error}. Write {{'function': 'models.on_demand.part_of_day', "
                "'inputs': ['sched_hour'], 'type': 'string'}"
            ) from error
    return found


def parse_lookups(lookups: Sequence[Lookup | Mapping[str, Any]], describe: Any) -> tuple[Lookup, ...]:
    """Lookups from specs or mappings; without `keys` the table's primary keys, without `features` all of them.

    describe: answers a table's TableInfo by name. Raises TableError for an unknown table, key or column.
    """
    found = []
    for given in lookups:
        values = spec_values(given) if isinstance(given, Lookup) else dict(given)
        if "table" not in values:
            raise TableError(f"a lookup names its table: {{'table': …, 'keys': …, 'features': […]}}, not {values}")
        info = describe(values["table"])
        values.setdefault("keys", list(info.primary_keys))
        values.setdefault("features", info.features)
        keys = values["keys"]
        values["keys"] = {keys: keys} if isinstance(keys, str) else keys if isinstance(keys, Mapping) else {
            key: key for key in keys
        }  # fmt: skip
        for key in [*values["keys"], *info.primary_keys]:
            if key not in info.primary_keys or key not in values["keys"]:
                hint = suggestion(key, info.primary_keys, "primary keys")
                raise TableError(f"the lookup of {info.name}: its keys are {', '.join(info.primary_keys)}; {hint}")
        for name in values["features"]:
            if name not in info.column_names:
                raise TableError(f"{info.name} has no column {name!r}: {suggestion(name, info.features, 'features')}")
        try:
            found.append(Lookup.model_validate(values))
        except ValueError as error:
            raise TableError(f"the lookup of {info.name}: {error}") from error
    return tuple(found)


def log_given_model(
    model: Any, training_set: GivenTrainingSet, name: str, *, flavor: str, task: Task = Task.CLASSIFICATION,
    requirements: Sequence[str] = (),
) -> RegisteredVersion:  # fmt: skip
    """Logs a fitted model to the active MLflow run (or a run of its own), and registers it as a version of `name`.

    Raises TrainingError where the model is not of this flavour.
    """
    import mlflow

    workspace = training_set.workspace
    with tracking(workspace) as client:
        if mlflow.active_run() is None:
            mlflow.set_experiment(experiment_id=experiment_id(client, name))
            with mlflow.start_run():
                uri = _log(client, model, training_set, name, flavor, task, requirements)
                run_id = mlflow.active_run().info.run_id
        else:
            uri = _log(client, model, training_set, name, flavor, task, requirements)
            run_id = mlflow.active_run().info.run_id
        version = _register(client, training_set, name, uri, run_id)
    return RegisteredVersion(name, version, run_id, training_set.record.as_of)


def _log(
    client: "MlflowClient", model: Any, training_set: GivenTrainingSet, name: str, flavor: str, task: Task,
    requirements: Sequence[str],
) -> str:  # fmt: skip
    """Logs the model, its data and its tags to the active run; answers the model's address."""
    import mlflow

    # of a training, only what logging asks for counts here
    training = Training(
        function="notebook.model", metric="none", task=task, flavor=flavor, requirements=list(requirements)
    )
    spec = to_json(training_set.feature_spec(name, task))
    example = training_set.load_df().tail(EXAMPLE_ROWS)
    uri = log_native_model(ModelParts(model, training_set.columns, spec, example), training).uri
    log_inputs(client, mlflow.active_run().info.run_id, training_set.workspace, training_set.record)
    mlflow.set_tags(_tags(training_set, name))
    return uri


def _register(client: "MlflowClient", training_set: GivenTrainingSet, name: str, uri: str, run_id: str) -> int:
    from mlflow.exceptions import MlflowException

    owner = training_set.workspace.project(training_set.project).spec.owner
    try:
        client.create_registered_model(name, tags={"penstock.project": training_set.project, "penstock.owner": owner})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, uri, run_id=run_id, model_id=uri.removeprefix("models:/"), tags=_tags(training_set, name)
    )
    return int(made.version)


def _tags(training_set: GivenTrainingSet, name: str) -> dict[str, str]:
    kept, workspace = training_set.record, training_set.workspace
    folder = workspace.project(training_set.project).folder
    return {
        "penstock.project": training_set.project, "penstock.model": name.rpartition(".")[2],
        "penstock.as_of": kept.as_of, "penstock.trained_until": kept.last_prediction_time,
        **code_tags(code_state(folder)),
        "penstock.library": penstock.__version__, "penstock.run": workspace.lineage.run,
        "penstock.inputs": json.dumps(kept.inputs, sort_keys=True),
        "penstock.training_set": f"{kept.table}@{kept.version}",
    }  # fmt: skip
