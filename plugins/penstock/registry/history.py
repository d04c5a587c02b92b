"""What the audit of stages tells: when production began, what came before, what was promised."""

import math
from collections.abc import Sequence
from datetime import datetime

from penstock.clock import to_text
from penstock.errors import GateError, RegistryError
from penstock.profiles import Profile
from penstock.registry.audit import AuditLog, DeploymentRow
from penstock.registry.client import RegisteredModel
from penstock.registry.stages import Stage, current_production
from penstock.training.noted_files import PROFILE, exchanged_file
from penstock.training.origins import OriginKind
from penstock.workspace import Workspace

PROMISED = "promised_metrics"
REFERENCE = "production_version"  # in a comparison's evidence: what the candidate was held against
ROLLS_BACK = "rolls_back"  # in the plan of a rollback's row: the version that it takes out of production


def production_rows(rows: Sequence[DeploymentRow]) -> list[DeploymentRow]:
    """The completed transitions to Production, oldest first."""
    return [row for row in rows if row.to_stage is Stage.PRODUCTION]


def production_stack(rows: Sequence[DeploymentRow]) -> list[int]:
    """The versions that a rollback can go back to, the newest (production itself) last.

    A version that was rolled back is no longer among them.
    """
    stack: list[int] = []
    for row in rows:
        if row.to_stage is not Stage.PRODUCTION:
            continue
        if ROLLS_BACK in row.plan and row.version in stack:
            del stack[stack.index(row.version) + 1 :]
            continue
        if (left := taken_out(row)) in stack:
            stack.remove(left)
        if row.version in stack:
            stack.remove(row.version)
        stack.append(row.version)
    return stack


def taken_out(row: DeploymentRow) -> int | None:
    """The version that a rollback's row took out of production; None for other rows, and where that came back."""
    left = row.plan.get(ROLLS_BACK)
    return None if left is None or left == row.version else int(left)


def since_rolled_back(rows: Sequence[DeploymentRow], version: int) -> tuple[int, Sequence[DeploymentRow]]:
    """How often a version was rolled back, and the completed transitions since the last time (all, where never)."""
    places = [place for place, row in enumerate(rows) if taken_out(row) == version]
    return len(places), rows[places[-1] + 1 :] if places else rows


def request_cause(rows: Sequence[DeploymentRow], version: int, as_of: datetime) -> str:
    """What tells requests for one stage of a version apart: as_of, and how often the version was rolled back before.

    So the same request again is the same; but one after a rollback is another, which its gates and holds judge anew.
    """
    times, _ = since_rolled_back(rows, version)
    return to_text(as_of) if times == 0 else f"{to_text(as_of)} after rollback {times}"


def first_promotion_as_of(workspace: Workspace, project: str, model: str) -> datetime | None:
    """The as_of of the first promotion; None before it. Batch inference starts there."""
    found = production_rows(AuditLog(workspace, project, model).read().completed)
    return found[0].as_of if found else None


def production_since(workspace: Workspace, project: str, model: str) -> datetime | None:
    """The as_of at which the current production version came in; None where there is none."""
    production = current_production(workspace, project, model)
    found = production_rows(AuditLog(workspace, project, model).read().completed)
    return found[-1].as_of if found and found[-1].version == production else None


def promised_metrics(workspace: Workspace, project: str, model: str, version: int) -> dict[str, float]:
    """The hold-out metrics with which a version was promoted; those of its run where it never was.

    Raises RegistryError where there is no such version and no row about it.
    """
    rows = [
        row for row in production_rows(AuditLog(workspace, project, model).read().completed) if row.version == version
    ]
    for row in reversed(rows):
        if row.evidence.get(PROMISED):
            return {name: float(value) for name, value in row.evidence[PROMISED].items() if value is not None}
    return hold_out_metrics(workspace, project, model, version)


def hold_out_metrics(workspace: Workspace, project: str, model: str, version: int) -> dict[str, float]:
    """The metrics in the profile of a version's run, else the run's hold-out metrics.

    Raises RegistryError where there is no such version, GateError where the profile is not what training wrote.
    """
    registered = RegisteredModel(workspace, project, model)
    found = registered.version(version)
    text = registered.run_text(found, PROFILE)
    if problem := exchanged_file(workspace, project, model, registered.run_id(found), OriginKind.PROFILE, text):
        raise GateError(f"what {registered.name} version {version} promises is not known: {problem}")
    metrics = Profile.from_json(text).metrics if text else {}
    return {name: value for name, value in metrics.items() if math.isfinite(value)} or registered.run_metrics(found)


def latest_production_row(rows: Sequence[DeploymentRow], version: int) -> DeploymentRow:
    """The newest promotion of a version. Raises RegistryError where it was never in production."""
    found = [row for row in production_rows(rows) if row.version == version]
    if not found:
        raise RegistryError(f"version {version} was never in Production: promote it first")
    return found[-1]
