"""Operators of training."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import BaseOperatorLink, Context

from penstock.operators.base import PenstockOperator
from penstock.operators.links import MlflowRunLink, ModelCardLink, ModelVersionLink, TableLink
from penstock.workspace import Workspace


class ModelOperator(PenstockOperator):
    """An operator about one model."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model


class BuildTrainingSetOperator(ModelOperator):
    """Joins labelled entity rows with their features as of each prediction time. XCom: table, version, inputs."""

    operator_extra_links = (TableLink(),)

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.features.training_set.build_training_set."""
        from penstock.features.training_set import build_training_set

        built = build_training_set(workspace, self.project, self.model, as_of)
        self.log.info("%s@%s: %s rows, mean label %.3f", built.table, built.version, built.rows, built.label_mean)
        TableLink.store(context, built.table)
        return built


class TrainModelOperator(ModelOperator):
    """Tunes and trains in one MLflow run. XCom: run_id, metrics, parameters, trained_until."""

    template_fields: Sequence[str] = (*ModelOperator.template_fields, "training_set")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(self, *, training_set: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.training_set = training_set

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.training.train.train_model."""
        from penstock.features.training_set import TrainingSet
        from penstock.training.train import train_model

        trained = train_model(workspace, self.project, self.model, TrainingSet(**self.training_set))
        store_run_link(workspace, context, trained.run_id)
        return trained


class _RunOperator(ModelOperator):
    """Adds something to a training run."""

    template_fields: Sequence[str] = (*ModelOperator.template_fields, "run_id")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (MlflowRunLink(), ModelCardLink())

    def __init__(self, *, run_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id

    def store_links(self, workspace: Workspace, context: Context) -> None:
        """Links the task to the run, and to the card that the run gets."""
        store_run_link(workspace, context, self.run_id)
        ModelCardLink.store(context, self.project, self.model, self.run_id)


class EvaluateModelOperator(_RunOperator):
    """Metrics on the held-out rows, by slice, with plots. XCom: the metrics."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.training.evaluate.evaluate_model."""
        from penstock.training.evaluate import evaluate_model

        self.store_links(workspace, context)
        return evaluate_model(workspace, self.project, self.model, self.run_id)


class ExplainModelOperator(_RunOperator):
    """A SHAP picture and a description in plain text."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.training.explain.explain_model."""
        from penstock.training.explain import explain_model

        self.store_links(workspace, context)
        return explain_model(workspace, self.project, self.model, self.run_id)


class ProfileModelOperator(_RunOperator):
    """The training data's profile, which later windows are compared with."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.training.profile.profile_model."""
        from penstock.training.profile import profile_model

        self.store_links(workspace, context)
        return profile_model(workspace, self.project, self.model, self.run_id)


class RegisterModelOperator(_RunOperator):
    """Writes the model card, and registers the run's model, with no stage yet. XCom: name, version.

    Fails where MLflow gave it a number that was another version's: its promotion would be taken for that one's.
    """

    operator_extra_links = (MlflowRunLink(), ModelCardLink(), ModelVersionLink())

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.training.register.register_model."""
        from penstock.registry.numbering import check_number
        from penstock.training.register import register_model

        self.store_links(workspace, context)
        registered = register_model(workspace, self.project, self.model, self.run_id)
        ModelVersionLink.store(context, workspace.resolved.mlflow_uri, registered.name, registered.version)
        check_number(workspace, self.project, self.model, registered.version)
        return registered


def store_run_link(workspace: Workspace, context: Context, run_id: str) -> None:
    """Links the task to an MLflow run."""
    import mlflow

    workspace.mlflow()
    experiment = mlflow.get_run(run_id).info.experiment_id
    MlflowRunLink.store(context, workspace.resolved.mlflow_uri, experiment, run_id)
