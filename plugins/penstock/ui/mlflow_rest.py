"""A model's versions by MLflow's REST API: the API server needs neither the mlflow package nor MLflow itself."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from penstock.operators.links import mlflow_pages
from penstock.registry.client import registered_name
from penstock.registry.stages import STAGE_TAG, Stage, derive_stage
from penstock.spec.loading import LoadedProject
from penstock.training.metrics import metric_names
from penstock.workspace import Workspace

TIMEOUT_SECONDS = 4
MOST_VERSIONS = 100
_MOST_NAMES = 1000
_NOT_THERE = 404


@dataclass(frozen=True)
class VersionView:
    """A registered version. `metrics` are those of its run's hold-out."""

    version: int
    stage: str
    metrics: dict[str, float]
    as_of: str
    trained_until: str
    run: str
    url: str
    run_url: str
    compliance: str
    compliance_reason: str
    reproduced: str


@dataclass(frozen=True)
class RegistryView:
    """A model's versions, newest first; `problem` says why there are none to be seen."""

    versions: tuple[VersionView, ...] = ()
    url: str = ""
    problem: str = ""

    @property
    def production(self) -> VersionView | None:
        """The version in production."""
        return next((view for view in self.versions if view.stage == Stage.PRODUCTION), None)


@contextmanager
def asking(workspace: Workspace, *, registry: bool = False) -> Iterator[Any]:
    """An httpx client of the tracking server (or the registry), with login. What fails within becomes Unreadable."""
    import httpx

    from penstock.errors import PenstockError
    from penstock.ui.faults import PageFault, Unreadable

    try:
        resolved = workspace.resolved
        login = (resolved.mlflow_username, resolved.mlflow_password or "") if resolved.mlflow_username else None
        address = (registry and resolved.registry_uri) or resolved.mlflow_uri
        with httpx.Client(base_url=address, auth=login, timeout=TIMEOUT_SECONDS) as client:
            yield client
    except PageFault:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, PenstockError) as error:
        raise Unreadable(
            f"MLflow does not answer ({type(error).__name__}).", "Is it up? `penstock status` says."
        ) from error


def undeclared_here(workspace: Workspace, may_read: Callable[[str], bool]) -> dict[str, str]:
    """Registered models that look like a project's and are declared nowhere here, each with what to do.

    Only those of projects that the reader may read. Empty where MLflow does not answer: each model's card says that.
    """
    from penstock.registry.declared import split_name, undeclared
    from penstock.ui.faults import Unreadable

    try:
        with asking(workspace, registry=True) as client:
            names = list(_registered_names(client))
    except Unreadable:
        return {}
    readable = [name for name in names if (parts := split_name(name)) and may_read(parts[0])]
    return undeclared(workspace, readable)


def _registered_names(client: Any) -> Iterator[str]:
    token = ""
    while True:
        page = get_json(client, "registered-models/search", max_results=_MOST_NAMES, page_token=token) or {}
        yield from (item["name"] for item in page.get("registered_models", []))
        token = page.get("next_page_token", "")
        if not token:
            return


@dataclass(frozen=True)
class _Runs:
    experiment: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    by_model: dict[str, str] = field(default_factory=dict)


def registry_view(workspace: Workspace, project: LoadedProject, model: str) -> RegistryView:
    """The versions of a model. Never raises for a registry that does not answer: `problem` says so."""
    import httpx

    from penstock.errors import PenstockError

    name, wanted = registered_name(project.name, model), metric_names(project.model(model))
    try:
        resolved = workspace.resolved
    except PenstockError as error:
        return RegistryView(problem=f"It is not known where MLflow is: {error}")
    address = resolved.registry_uri or resolved.mlflow_uri
    pages = mlflow_pages(resolved.mlflow_uri)
    if not address.startswith(("http://", "https://")):
        return RegistryView(problem=f"The registry {address.partition(':')[0]} has no REST API to ask for versions.")
    login = (resolved.mlflow_username or "", resolved.mlflow_password or "") if resolved.mlflow_username else None
    url = f"{pages}/#/models/{quote(name)}"
    try:
        with httpx.Client(base_url=address, auth=login, timeout=TIMEOUT_SECONDS) as client:
            staged = _staged_before(workspace, project.name, model)
            return RegistryView(tuple(_versions(client, name, pages, wanted, staged)), url)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return RegistryView(
            url=url,
            problem=f"MLflow at {address} does not answer ({type(error).__name__}), so versions and their metrics are "
            "missing here. Is it up? `penstock status` says.",
        )


def _staged_before(workspace: Workspace, project: str, model: str) -> set[int] | None:
    """The versions that had a stage, by the audit; None where it cannot be read here (then their tags say it)."""
    from deltalake.exceptions import DeltaError

    from penstock.errors import PenstockError
    from penstock.registry.audit import AuditLog
    from penstock.registry.settling import staged_versions

    try:
        return staged_versions(AuditLog(workspace, project, model).read())
    except (DeltaError, OSError, PenstockError):
        return None


def _versions(client: Any, name: str, pages: str, wanted: Sequence[str], staged: set[int] | None) -> list[VersionView]:
    """The newest versions, and those that have an alias, however old they are."""
    registered = get_json(client, "registered-models/get", name=name)
    if registered is None:
        return []
    aliases = {item["alias"]: int(item["version"]) for item in registered["registered_model"].get("aliases", [])}
    found = get_json(
        client, "model-versions/search", filter=f"name='{name}'", max_results=MOST_VERSIONS,
        order_by="version_number DESC",
    )  # fmt: skip
    items = (found or {}).get("model_versions", [])
    listed = {int(item["version"]) for item in items}
    for number in sorted(set(aliases.values()) - listed):
        older = get_json(client, "model-versions/get", name=name, version=number)
        items += [older["model_version"]] if older else []
    runs = _runs(client, name, wanted, items) if items else _Runs()
    views = [_view(item, aliases, runs, pages, staged) for item in items]
    return sorted(views, key=lambda view: view.version, reverse=True)


def _view(
    item: dict[str, Any], aliases: dict[str, int], runs: _Runs, pages: str, staged: set[int] | None
) -> VersionView:
    number = int(item["version"])
    tags = {tag["key"]: tag["value"] for tag in item.get("tags", [])}
    run = item.get("run_id") or runs.by_model.get(item.get("model_id", ""), "")
    before = STAGE_TAG in tags if staged is None else number in staged
    run_page = f"{pages}/#/experiments/{quote(runs.experiment)}/runs/{quote(run)}"
    return VersionView(
        version=number, stage=str(derive_stage(number, aliases, staged_before=before)),
        metrics=runs.metrics.get(run, {}), as_of=tags.get("penstock.as_of", ""),
        trained_until=tags.get("penstock.trained_until", ""), run=tags.get("penstock.run", ""),
        url=f"{pages}/#/models/{quote(item['name'])}/versions/{number}", run_url=run_page if run else "",
        compliance=tags.get("penstock.compliance", ""), compliance_reason=tags.get("penstock.compliance_reason", ""),
        reproduced=tags.get("penstock.reproduced", ""),
    )  # fmt: skip


def _runs(client: Any, name: str, wanted: Sequence[str], items: Sequence[dict[str, Any]]) -> _Runs:
    """The runs of the versions, asked for by their ids: an experiment has many more, a nested one for each trial."""
    found = get_json(client, "experiments/get-by-name", experiment_name=name)
    if found is None:
        return _Runs()
    experiment = found["experiment"]["experiment_id"]
    by_model = _runs_of_models(
        client, [item["model_id"] for item in items if not item.get("run_id") and item.get("model_id")]
    )
    ids = {*by_model.values(), *(item["run_id"] for item in items if item.get("run_id"))}
    quoted = ", ".join(f"'{run_id}'" for run_id in sorted(ids) if run_id.isalnum())
    if not quoted:
        return _Runs(experiment, {}, by_model)
    answer = client.post(
        "/api/2.0/mlflow/runs/search",
        json={"experiment_ids": [experiment], "filter": f"attributes.run_id IN ({quoted})", "max_results": len(ids)},
    )
    answer.raise_for_status()
    metrics = {}
    for run in answer.json().get("runs", []):
        values = {item["key"]: float(item["value"]) for item in run["data"].get("metrics", [])}
        metrics[run["info"]["run_id"]] = {metric: values[metric] for metric in wanted if metric in values}
    return _Runs(experiment, metrics, by_model)


def _runs_of_models(client: Any, model_ids: Sequence[str]) -> dict[str, str]:
    """The run of each logged model that has one: a version that log_model registered does not name it."""
    found = {model_id: get_json(client, f"logged-models/{quote(model_id)}") for model_id in model_ids}
    runs = {model_id: answer["model"]["info"].get("source_run_id") for model_id, answer in found.items() if answer}
    return {model_id: run_id for model_id, run_id in runs.items() if run_id}


def get_json(client: Any, path: str, **query: Any) -> dict[str, Any] | None:
    """MLflow's answer to a question; None where there is no such thing. Raises httpx.HTTPError."""
    answer = client.get(f"/api/2.0/mlflow/{path}", params=query)
    if answer.status_code == _NOT_THERE:
        return None
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body
