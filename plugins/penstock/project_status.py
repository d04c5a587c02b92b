"""What `penstock status` says of each project: tables, model versions, runs, approvals, the last verdicts."""

import json
from dataclasses import asdict
from typing import Any

from penstock.airflow_rest import AirflowClient
from penstock.clock import to_text
from penstock.errors import PenstockError, ServiceError
from penstock.home import credentials_path, read_credentials
from penstock.lakehouse.records import latest_record
from penstock.lakehouse.system_tables import SystemTable
from penstock.spec.project import FeatureTable, Project, Source
from penstock.stack import stack
from penstock.stack.addressed import addressed_services
from penstock.stack.settings import StackSettings
from penstock.training.mlflow_client import answers
from penstock.workspace import Workspace


def reachable_workspace(environment: str) -> Workspace | None:
    """The environment's workspace; None where it rests on a local stack that was never started."""
    workspace = Workspace.open(environment)
    return None if workspace.uses_local_stack and not credentials_path(environment).exists() else workspace


def services(settings: StackSettings) -> dict[str, Any]:
    """The local stack's services by name; where there is none, those at the addresses that the environment names."""
    found = stack.status(settings)
    if not credentials_path(settings.environment).exists():
        workspace = reachable_workspace(settings.environment)
        if workspace is not None:
            found = addressed_services(workspace.resolved)
    return {name.value: asdict(status) for name, status in found.items()}


def projects(settings: StackSettings) -> dict[str, Any]:
    """What is said of each project, by its name; with runs and approvals where there is a local Airflow."""
    environment = settings.environment
    workspace = reachable_workspace(environment)
    if workspace is None:
        return {}
    if not credentials_path(environment).exists() or services(settings)["airflow"]["state"] != "up":
        return project_status(workspace, None)
    login = read_credentials(environment).airflow
    with AirflowClient(login.url, login.username, login.password) as client:
        return project_status(workspace, client)


def project_status(workspace: Workspace, client: AirflowClient | None) -> dict[str, Any]:
    """Every project by name; a broken one has the key `error`. `client` is None where Airflow is down.

    Where MLflow is down, each model's `versions` is None.
    """
    runs = _last_runs(client) if client else {}
    approvals = _open_approvals(client) if client else {}
    registry = answers(workspace.resolved.mlflow_uri)
    found: dict[str, Any] = {}
    for name in workspace.project_names:
        try:
            spec = workspace.project(name).spec
        except PenstockError as error:
            found[name] = {"error": str(error)}
            continue
        tables = _tables(workspace, spec)
        found[name] = {
            "as_of": max((table["as_of"] for table in tables.values() if table.get("as_of")), default=None),
            "tables": tables,
            "models": {model: _model(workspace, name, model, approvals, registry) for model in spec.models},
            "runs": {dag.removeprefix(f"{name}."): run for dag, run in runs.items() if dag.startswith(f"{name}.")},
        }
    return found


def undeclared(environment: str) -> dict[str, str]:
    """Registered models that look like a project's and are declared nowhere here, each with what to do.

    Empty where MLflow is down.
    """
    from penstock.registry.undeclared import undeclared_models

    workspace = reachable_workspace(environment)
    return undeclared_models(workspace) if workspace is not None and answers(workspace.resolved.mlflow_uri) else {}


def _tables(workspace: Workspace, spec: Project) -> dict[str, Any]:
    declared: dict[str, Source | FeatureTable] = {**spec.sources, **spec.feature_tables}
    names = [*declared, *(f"{model}_predictions" for model in spec.models), *SystemTable]
    tables = {}
    for name in names:
        path = workspace.addresses.find(f"{spec.name}.{name}")
        if path is not None:
            tables[str(name)] = _table(path, declared.get(str(name)))
    return tables


def _table(path: str, declared: Source | FeatureTable | None) -> dict[str, Any]:
    from deltalake import DeltaTable

    table = DeltaTable(path)
    record = latest_record(table)
    time = "prediction_time" if path.endswith("_predictions") else None
    if isinstance(declared, Source):
        time = declared.available_at
    elif isinstance(declared, FeatureTable):
        time = declared.event_time
    return {
        "path": path, "version": table.version(), "rows": table.count(),
        "latest_event_time": _greatest(table, time), "as_of": record.as_of if record else None,
    }  # fmt: skip


def _greatest(table: Any, column: str | None) -> str | None:
    """The greatest value of a time column, from the files' statistics where they have them."""
    import pyarrow.compute as compute

    if column is None or column not in {field.name for field in table.schema().fields}:
        return None
    value = compute.max(table.to_pyarrow_table(columns=[column])[column]).as_py()
    return to_text(value) if value is not None else None


def _model(
    workspace: Workspace, project: str, model: str, approvals: dict[str, list[dict[str, Any]]], registry: bool
) -> dict[str, Any]:
    return {
        "versions": _versions(workspace, project, model) if registry else None,
        "approvals": approvals.get(f"{project}.{model}.model_promotion", []),
        **_holds(workspace, project, model),
        "monitoring": _monitoring(workspace, project, model),
        "retraining": _retraining(workspace, project, model),
    }


def _holds(workspace: Workspace, project: str, model: str) -> dict[str, Any]:
    """`frozen` (None: promotions go on) and `rolled_back`: what holds versions back, by whom and why."""
    from penstock.registry.holds import Hold, holds

    def told(hold: Hold) -> dict[str, Any]:
        return {"by": hold.decided_by, "reason": hold.reason, "since": to_text(hold.since)}

    found = holds(workspace, project, model)
    return {
        "frozen": told(found.frozen) if found.frozen else None,
        "rolled_back": [{"version": version, **told(hold)} for version, hold in sorted(found.rolled_back.items())],
    }


def _versions(workspace: Workspace, project: str, model: str) -> list[dict[str, Any]]:
    import requests
    from mlflow.exceptions import MlflowException

    from penstock.registry.stages import versions

    try:
        found = versions(workspace, project, model)
    except (MlflowException, requests.RequestException) as error:
        raise ServiceError(f"MLflow at {workspace.resolved.mlflow_uri} does not answer: {str(error)[:200]}") from error
    return [
        {"version": item.version, "stage": str(item.stage), "metrics": item.metrics, "run_id": item.run_id,
         "as_of": item.as_of, "trained_until": item.trained_until}
        for item in found
    ]  # fmt: skip


def _monitoring(workspace: Workspace, project: str, model: str) -> dict[str, Any]:
    metrics = _rows(workspace, project, SystemTable.MONITORING_METRICS, model)
    if not metrics:
        return {"window": None, "alerts": []}
    end = max(row["window_end"] for row in metrics)
    start = min(row["window_start"] for row in metrics if row["window_end"] == end)
    alerts = [row for row in _rows(workspace, project, SystemTable.ALERTS, model) if row["window_end"] == end]
    shown = ("kind", "column", "metric", "value", "threshold", "message")
    return {"window": [to_text(start), to_text(end)], "alerts": [{key: row[key] for key in shown} for row in alerts]}


def _retraining(workspace: Workspace, project: str, model: str) -> dict[str, Any] | None:
    rows = _rows(workspace, project, SystemTable.RETRAINING_DECISIONS, model)
    if not rows:
        return None
    newest = max(rows, key=lambda row: row["as_of"])
    return {"decision": newest["decision"], "reasons": json.loads(newest["reasons"]), "as_of": to_text(newest["as_of"])}


def _rows(workspace: Workspace, project: str, table: SystemTable, model: str) -> list[dict[str, Any]]:
    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.find(f"{project}.{table}")
    return read_arrow(path, filters=[("model", "=", model)]).to_pylist() if path else []


def _last_runs(client: AirflowClient) -> dict[str, Any]:
    runs: dict[str, Any] = {}
    for run in client.runs(limit=200):
        if run.dag_id not in runs:
            end = to_text(run.end) if run.end else None
            runs[run.dag_id] = {"run_id": run.run_id, "state": run.state, "end": end}
    return runs


def _open_approvals(client: AirflowClient) -> dict[str, list[dict[str, Any]]]:
    approvals: dict[str, list[dict[str, Any]]] = {}
    for item in client.open_approvals():
        approvals.setdefault(item["dag_id"], []).append(item)
    return approvals
