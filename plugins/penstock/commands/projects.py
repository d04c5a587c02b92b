"""`penstock status` for people: services, projects, and models that nothing declares."""

from typing import Any

from rich.console import Console
from rich.table import Table

_STYLES = {"up": "green", "down": "dim", "starting": "yellow", "failed": "red", "unknown": "yellow"}


def print_services(services: dict[str, Any], output: Console, width: int | None) -> None:
    """Prints each service's state and address, and what is wrong with it."""
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "address", ""):
        table.add_column(heading, overflow="fold")
    for name, found in services.items():
        state = str(found["state"])
        table.add_row(name, f"[{_STYLES[state]}]{state}[/]", found["url"], found["detail"])
    output.print(table, width=width)


def print_projects(projects: dict[str, Any], output: Console) -> None:
    """Prints each project's tables, model versions and last decisions."""
    for name, project in projects.items():
        output.print(f"\n[bold]{name}[/]  as of {project.get('as_of') or 'nothing yet'}")
        if "error" in project:
            output.print(project["error"], style="red", markup=False)
            continue
        output.print(_tables(project["tables"]))
        for model, found in project["models"].items():
            if found["versions"] is None:
                output.print(f"{model}: MLflow is down, so its versions are not known", style="yellow", markup=False)
            else:
                output.print(_versions(model, found["versions"]))
            if frozen := found["frozen"]:
                said = f"  frozen by {frozen['by']} since {frozen['since']}: {frozen['reason']}"
                output.print(said, style="yellow", markup=False, soft_wrap=True)
            for mark in found["rolled_back"]:
                said = f"  version {mark['version']} was rolled back by {mark['by']}: {mark['reason']}"
                output.print(said, style="yellow", markup=False, soft_wrap=True)
            for approval in found["approvals"]:
                output.print(f"  waits for approval: {approval['subject']}", style="yellow", markup=False)
            for alert in found["monitoring"]["alerts"]:
                output.print(f"  alert: {alert['message']}", style="yellow", markup=False)
            if found["retraining"]:
                decision = found["retraining"]
                said = (
                    f"  retraining as of {decision['as_of']}: {decision['decision']}; {' '.join(decision['reasons'])}"
                )
                output.print(said, markup=False, soft_wrap=True)


def print_undeclared(undeclared: dict[str, str], output: Console) -> None:
    """Prints the registered models that nothing here declares."""
    for name, why in undeclared.items():
        said = f"\n{name} is registered, and nothing promotes its versions: {why}"
        output.print(said, style="yellow", markup=False, soft_wrap=True)


def _tables(tables: dict[str, Any]) -> Table:
    shown = Table("table", "version", "rows", "newest", box=None, pad_edge=False)
    for name, table in tables.items():
        shown.add_row(name, str(table["version"]), f"{table['rows']:,}", table["latest_event_time"] or "")
    return shown


def _versions(model: str, versions: list[dict[str, Any]]) -> Table:
    metrics = sorted({name for item in versions for name in item["metrics"]})[:4]
    shown = Table(f"{model} version", "stage", "as of", *metrics, box=None, pad_edge=False)
    for item in versions:
        values = [f"{item['metrics'][name]:.4f}" if name in item["metrics"] else "" for name in metrics]
        shown.add_row(str(item["version"]), item["stage"], item["as_of"] or "", *values)
    return shown
