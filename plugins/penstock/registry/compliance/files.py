"""Fetches a version's files from the registry, for checks that look at them before anything is loaded."""

from pathlib import Path

from penstock.registry.client import RegisteredModel
from penstock.training.mlflow_client import download
from penstock.training.model_folder import ModelFiles
from penstock.workspace import Workspace


def fetch_files(workspace: Workspace, registered: RegisteredModel, version: int, folder: Path) -> ModelFiles:
    """A version's files in `folder`; where the registry has none, `problem` says so. Raises ServiceError."""
    uri = f"models:/{registered.name}/{version}"
    try:
        return ModelFiles(download(uri, folder, workspace.resolved.mlflow_uri), uri)
    except FileNotFoundError as error:
        return ModelFiles(folder, uri, f"its files are not there ({error}): register it again from a run that has them")
