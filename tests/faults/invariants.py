"""What must hold after every fault, once somebody has run again."""

from collections import Counter

from penstock.lakehouse.small_tables import read
from penstock.registry.client import RegisteredModel
from penstock.registry.stages import STAGE_TAG
from penstock.workspace import Workspace


def violations(workspace: Workspace, project: str, model: str) -> list[str]:
    """Exactly one Production version, no version lost between stages, no double audit row; empty where all hold."""
    registered = RegisteredModel(workspace, project, model)
    aliases = registered.aliases()
    stages = {int(found.version): found.tags.get(STAGE_TAG) for found in registered.versions()}
    found = []
    if [version for version, stage in stages.items() if stage == "Production"] != [aliases.get("production")]:
        found.append(f"production is {aliases.get('production')}, tagged are {stages}")
    if lost := [version for version, stage in stages.items() if stage is None]:
        found.append(f"versions {lost} have no stage")
    if [version for version, stage in stages.items() if stage == "Staging"] not in ([], [aliases.get("staging")]):
        found.append(f"staging is {aliases.get('staging')}, tagged are {stages}")
    return found + _audit_violations(workspace, project, model, aliases.get("production"))


def never_empty(workspace: Workspace, project: str, model: str) -> list[str]:
    """Right after a kill, before anybody mends: a model that was in production still is."""
    rows = _rows(workspace, project, model)
    was = any(row["to_stage"] == "Production" and row["state"] == "completed" for row in rows)
    return (
        ["production is empty"]
        if was and "production" not in RegisteredModel(workspace, project, model).aliases()
        else []
    )


def _audit_violations(workspace: Workspace, project: str, model: str, production: int | None) -> list[str]:
    rows = _rows(workspace, project, model)
    found = [f"row {name} stands {n} times" for name, n in Counter(r["transition_id"] for r in rows).items() if n > 1]
    found += [f"row {row['transition_id']} is {row['state']}" for row in rows if row["state"] == "pending"]
    found += [
        f"row {row['transition_id']}: nobody moved an alias by hand" for row in rows if "by hand" in row["decided_by"]
    ]
    stage: dict[int, str] = {}
    last = None
    for row in sorted(rows, key=lambda row: row["requested_at"]):
        if row["state"] != "completed" or row["to_stage"] is None:
            continue
        if stage.get(row["version"], "None") != row["from_stage"] or row["from_stage"] == row["to_stage"]:
            found.append(f"row {row['transition_id']} begins in {row['from_stage']}, not {stage.get(row['version'])}")
        stage[row["version"]] = row["to_stage"]
        last = row["version"] if row["to_stage"] == "Production" else last
    if last != production:
        found.append(f"the audit ends with version {last} in production, the alias is on {production}")
    return found


def _rows(workspace: Workspace, project: str, model: str) -> list[dict]:
    path = workspace.addresses.find(f"{project}.deployments")
    frame = read(path, filters=[("model", "=", model)]) if path else None
    return [] if frame is None else frame.astype(object).where(frame.notna(), None).to_dict("records")
