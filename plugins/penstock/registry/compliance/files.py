"""Fetches a version's files from the registry, for checks that look at them before anything is loaded."""

from pathlib import Path

from penstock.errors import ServiceError
from penstock.registry.candidates import is_outage
from penstock.registry.client import RegisteredModel
from penstock.training.model_folder import ModelFiles


def fetch_files(registered: RegisteredModel, version: int, folder: Path) -> ModelFiles:
    """A version's files in `folder`; where the registry has none, `problem` says so. Raises ServiceError."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = f"models:/{registered.name}/{version}"
    try:
        return ModelFiles(Path(download_artifacts(artifact_uri=uri, dst_path=str(folder))), uri)
    except (MlflowException, OSError) as error:
        if is_outage(error):
            raise ServiceError(f"MLflow did not answer about {uri}: {str(error)[:300]}. Run this again") from error
        return ModelFiles(
            folder, uri, f"its files cannot be read ({str(error)[:200]}): register it again from a run that has them"
        )
