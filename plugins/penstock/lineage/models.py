"""What registered model versions were made from, as MLflow keeps it: tags and feature_spec.json."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.training.feature_spec import PATH_IN_MODEL
from penstock.training.mlflow_client import BY_NUMBER, answers, every
from penstock.training.runs import tracking
from penstock.training.used_columns import UsedColumn, used_columns
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class VersionLineage:
    """A registered version: `training_set` is `project.table@version`; columns are empty where it has no spec."""

    name: str
    version: int
    aliases: tuple[str, ...]
    training_set: str | None
    inputs: Mapping[str, int]
    columns: tuple[UsedColumn, ...]

    @property
    def id(self) -> str:
        """`project.model/3`."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Registry:
    """The registered versions of some projects; `problem` says why they are not known."""

    versions: tuple[VersionLineage, ...] = ()
    problem: str = ""


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
    spec = read_feature_spec(client.tracking_uri, version.name, int(version.version))
    return VersionLineage(
        name=version.name, version=int(version.version), aliases=tuple(sorted(aliases.get(int(version.version), []))),
        training_set=tags.get("penstock.training_set"),
        inputs=json.loads(tags.get("penstock.inputs", "{}")) or (spec or {}).get("inputs", {}),
        columns=tuple(used_columns(spec, project)) if spec else (),
    )  # fmt: skip


@lru_cache(maxsize=1000)
def read_feature_spec(tracking_uri: str, name: str, version: int) -> dict[str, Any] | None:  # noqa: ARG001
    """A version's feature_spec.json; None where it has none. A version never changes, so it is read once."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            local = download_artifacts(artifact_uri=f"models:/{name}/{version}/{PATH_IN_MODEL}", dst_path=folder)
        except (MlflowException, OSError):
            return None
        return json.loads(Path(local).read_text(encoding="utf-8"))
