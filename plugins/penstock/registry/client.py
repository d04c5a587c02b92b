"""One registered model in MLflow's registry: its aliases, versions, tags, and the runs behind them."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import RegistryError, ServiceError
from penstock.spec.names import TRAINING_METRIC_PREFIXES
from penstock.training.mlflow_client import BY_NUMBER, every, outages, refusal
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_LONGEST_TAG = 4900  # the registry's database refuses more than 5,000 characters in a tag or a description
_LONGEST_DESCRIPTION = 4900


def registered_name(project: str, model: str) -> str:
    """The name of a model in the registry, and of its experiment."""
    return f"{project}.{model}"


def cut(text: str, longest: int = _LONGEST_TAG) -> str:
    """A text that fits into a tag."""
    return text if len(text) <= longest else text[: longest - 2] + " …"


def registered_names(workspace: Workspace) -> list[str]:
    """The names of every model in the registry, others' included. Raises ServiceError where it does not answer."""
    client, resolved = registry_client(workspace), workspace.resolved
    with outages(resolved.registry_uri or resolved.mlflow_uri):
        return [found.name for found in every(client.search_registered_models)]


def registry_client(workspace: Workspace) -> "MlflowClient":
    """MLflow's client of the registry, logged in."""
    from mlflow import MlflowClient

    workspace.mlflow()
    resolved = workspace.resolved
    return MlflowClient(resolved.mlflow_uri, resolved.registry_uri or resolved.mlflow_uri)


class RegisteredModel:
    """A registered model. Every method raises ServiceError where the registry does not answer."""

    def __init__(self, workspace: Workspace, project: str, model: str) -> None:
        self.name = registered_name(project, model)
        self._client = registry_client(workspace)

    def aliases(self) -> dict[str, int]:
        """The version of each alias; empty where the model is not registered."""
        try:
            with self._asking("its aliases"):
                found = self._client.get_registered_model(self.name).aliases
        except RegistryError:
            return {}
        return {alias: int(version) for alias, version in found.items()}

    def version(self, version: int) -> "ModelVersion":
        """A version. Raises RegistryError where there is none."""
        with self._asking(f"version {version}"):
            return self._client.get_model_version(self.name, str(version))

    def versions(self) -> list["ModelVersion"]:
        """Every version, oldest first."""
        with self._asking("its versions"):
            found = list(every(self._client.search_model_versions, f"name='{self.name}'", order_by=BY_NUMBER))
        return sorted(found, key=lambda version: int(version.version))

    def created_at(self, version: int) -> int | None:
        """When MLflow made the version, in milliseconds by its clock; None where it has none (a deleted one, say)."""
        try:
            return int(self.version(version).creation_timestamp)
        except RegistryError:
            return None

    def has_version(self, version: int) -> bool:
        """Whether the version exists (a deleted one does not)."""
        return self.created_at(version) is not None

    def register_again(self, found: "ModelVersion") -> "ModelVersion":
        """The same files, tags and description as one more version."""
        with self._asking(f"version {found.version} once more"):
            return self._client.create_model_version(
                self.name, found.source, run_id=found.run_id, tags=found.tags, description=found.description,
                model_id=found.model_id,
            )  # fmt: skip

    def delete(self, version: int) -> None:
        """Deletes a version; its files stay with their run."""
        with self._asking(f"deletion of version {version}"):
            self._client.delete_model_version(self.name, str(version))

    def move_alias(self, alias: str, version: int | None) -> None:
        """Points an alias at a version; None takes the alias away."""
        with self._asking(f"alias {alias} on version {version}"):
            if version is None:
                self._client.delete_registered_model_alias(self.name, alias)
            else:
                self._client.set_registered_model_alias(self.name, alias, str(version))

    def tag(self, version: int, tags: dict[str, str | None]) -> None:
        """Sets tags of a version, cut to what the registry takes; None takes a tag away."""
        for key, value in tags.items():
            with self._asking(f"tag {key} of version {version}"):
                if value is None:
                    self._client.delete_model_version_tag(self.name, str(version), key)
                else:
                    self._client.set_model_version_tag(self.name, str(version), key, cut(value))

    def describe(self, version: int, text: str) -> None:
        """Sets the description of a version."""
        with self._asking(f"description of version {version}"):
            self._client.update_model_version(self.name, str(version), cut(text, _LONGEST_DESCRIPTION))

    def run_id(self, version: "ModelVersion") -> str | None:
        """The run that a version came from; None for a model that no run of this server logged."""
        if version.run_id or not version.model_id:
            return version.run_id or None
        try:
            with self._asking(f"logged model {version.model_id}"):
                return self._client.get_logged_model(version.model_id).source_run_id or None
        except RegistryError:
            return None

    def run_metrics(self, version: "ModelVersion") -> dict[str, float]:
        """The finite hold-out metrics of the run that a version came from; empty where there is no such run."""
        run_id = self.run_id(version)
        if run_id is None:
            return {}
        try:
            with self._asking(f"run {run_id}"):
                metrics = self._client.get_run(run_id).data.metrics
        except RegistryError:
            return {}
        return {
            name: float(value) for name, value in metrics.items()
            if math.isfinite(value) and not name.startswith(TRAINING_METRIC_PREFIXES)
        }  # fmt: skip

    def run_tags(self, version: "ModelVersion") -> dict[str, str] | None:
        """The tags of the run that a version came from; None where there is no such run."""
        run_id = self.run_id(version)
        if run_id is None:
            return None
        try:
            with self._asking(f"run {run_id}"):
                return dict(self._client.get_run(run_id).data.tags)
        except RegistryError:
            return None

    def run_text(self, version: "ModelVersion", path: str) -> str | None:
        """The text of a file of a version's run; None where there is none."""
        run_id = self.run_id(version)
        if run_id is None:
            return None
        with self._asking(f"files of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            if path not in {item.path for item in self._client.list_artifacts(run_id)}:
                return None
            return Path(self._client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")

    def log_files(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Stores a folder's files as artifacts of a run, each replacing the one of its name."""
        with self._asking(f"files of run {run_id}"):
            self._client.log_artifacts(run_id, str(folder), artifact_path)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            brief = str(error).strip().splitlines()[0][:300]
            if error.error_code in _NOT_THERE:
                raise RegistryError(f"{self.name}, {what}: {brief}") from error
            if remedy := refusal(error):
                raise ServiceError(f"{self.name}, {what}: {remedy} ({brief})") from error
            raise ServiceError(
                f"MLflow did not answer about {self.name}, {what}: {brief}. Is it running? (penstock status)"
            ) from error
