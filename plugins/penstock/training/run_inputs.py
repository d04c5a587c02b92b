"""The data that a run was made from, as MLflow's dataset inputs."""

from typing import TYPE_CHECKING

from penstock.features.training_set import TrainingSet
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput


def log_inputs(client: "MlflowClient", run_id: str, workspace: Workspace, training_set: TrainingSet) -> None:
    """Records the training set, and the tables that it was made from, with path and version each.

    The version is the dataset's digest: MLflow's own Delta source loses version 0, and with Spark Connect
    every version.
    """
    inputs = [_dataset(training_set.table, training_set.path, training_set.version, "training")]
    for table, version in training_set.inputs.items():
        path = workspace.addresses.find(table)
        if path is not None:
            inputs.append(_dataset(table, path, version, "source"))
    client.log_inputs(run_id, datasets=inputs)


def _dataset(table: str, path: str, version: int, context: str) -> "DatasetInput":
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    source = DeltaDatasetSource(path=path, delta_table_version=version)
    dataset = MetaDataset(source, name=table, digest=f"v{version}")
    return DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])
