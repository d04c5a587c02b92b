"""What registered model versions were made from, as MLflow keeps it: tags and feature_spec.json."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError
from penstock.training.feature_spec import FILE_NAME, PATH_IN_MODEL
from penstock.training.mlflow_client import BY_NUMBER, answers, every
from penstock.training.runs import tracking
from penstock.training.used_columns import UsedColumn, used_columns
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class VersionLineage:
    """A registered version: `training_set` is `project.table@version`; columns are empty where it has no spec.

    problem: why its columns are not known.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    training_set: str | None
    inputs: Mapping[str, int]
    columns: tuple[UsedColumn, ...]
    problem: str = ""

    @property
    def id(self) -> str:
        """`project.model/3`."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Registry:
    """The registered versions of some projects; `problem` says why they are not known."""

    versions: tuple[VersionLineage, ...] = ()
    problem: str = ""

    @property
    def problems(self) -> list[str]:
        """What is not known of them, and why."""
        return [said for said in (self.problem, *(version.problem for version in self.versions)) if said]


def registered_versions(workspace: Workspace, projects: Sequence[str]) -> Registry:
    """Every version of the projects' models; none, and the reason, where MLflow does not answer."""
    from penstock.errors import PenstockError

    try:
        uri = workspace.resolved.mlflow_uri
        if not answers(uri):
            return Registry(problem=f"MLflow at {uri} does not answer: registered versions are not shown")
        found = []
        with tracking(workspace) as client:
            for project in projects:
                aliases = _aliases(client, project)
                of_project = f"name LIKE '{project}.%'"
                for version in every(client.search_model_versions, of_project, order_by=BY_NUMBER):
                    found.append(_version(client, project, version, aliases.get(version.name, {})))
    except PenstockError as error:
        return Registry(problem=f"registered versions are not shown: {error}")
    return Registry(tuple(sorted(found, key=lambda item: (item.name, item.version))))


def _aliases(client: "MlflowClient", project: str) -> dict[str, dict[int, list[str]]]:
    """By model and version, its aliases."""
    found: dict[str, dict[int, list[str]]] = {}
    for model in every(client.search_registered_models, f"name LIKE '{project}.%'", order_by=["name ASC"]):
        for alias, version in (model.aliases or {}).items():
            found.setdefault(model.name, {}).setdefault(int(version), []).append(alias)
    return found


def _version(
    client: "MlflowClient", project: str, version: "ModelVersion", aliases: Mapping[int, list[str]]
) -> VersionLineage:
    tags = version.tags or {}
    spec, problem = None, ""
    try:
        spec = read_feature_spec(client.tracking_uri, version.name, int(version.version))
    except ServiceError as error:
        problem = str(error)
    return VersionLineage(
        name=version.name, version=int(version.version), aliases=tuple(sorted(aliases.get(int(version.version), []))),
        training_set=tags.get("penstock.training_set"),
        inputs=json.loads(tags.get("penstock.inputs", "{}")) or (spec or {}).get("inputs", {}),
        columns=tuple(used_columns(spec, project)) if spec else (), problem=problem,
    )  # fmt: skip


@lru_cache(maxsize=1000)
def read_feature_spec(tracking_uri: str, name: str, version: int) -> dict[str, Any] | None:  # noqa: ARG001
    """A version's feature_spec.json; None where it has none. A version never changes, so it is read once.

    Raises ServiceError, and asks again the next time, where it cannot be read.
    """
    import requests
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            local = download_artifacts(artifact_uri=f"models:/{name}/{version}/{PATH_IN_MODEL}", dst_path=folder)
            return json.loads(Path(local).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (MlflowException, requests.RequestException, OSError, ValueError) as error:
            if _has_other_files(f"models:/{name}/{version}"):
                return None
            raise ServiceError(
                f"what {name}/{version} needs is not known: {FILE_NAME} cannot be read from MLflow's artifacts "
                f"({str(error)[:200]}). Mend their store, or delete the version"
            ) from error


def _has_other_files(model_uri: str) -> bool:
    """Whether a model's files can be listed, and the feature_spec.json is not among them."""
    import requests
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    folder, _, _ = PATH_IN_MODEL.rpartition("/")
    try:
        files = [file.path for file in list_artifacts(artifact_uri=model_uri)]
        inner = [file.path for file in list_artifacts(artifact_uri=f"{model_uri}/{folder}")] if folder in files else []
    except (MlflowException, requests.RequestException, OSError):
        return False
    return bool(files) and PATH_IN_MODEL not in inner
