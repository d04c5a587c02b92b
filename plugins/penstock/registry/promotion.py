"""Decisions about a candidate, and going back: what model_promotion and people call."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from penstock.clock import to_text
from penstock.errors import GateError, NothingToDo
from penstock.gates import Verdict
from penstock.registry.audit import AuditLog, Conflict, Snapshot, State
from penstock.registry.client import RegisteredModel, registered_name
from penstock.registry.deployments import Transition, repair, transition
from penstock.registry.history import (
    PROMISED,
    ROLLS_BACK,
    first_promotion_as_of,
    hold_out_metrics,
    latest_production_row,
    production_rows,
    production_since,
    production_stack,
    promised_metrics,
)
from penstock.registry.settling import patience
from penstock.registry.stages import Stage, current_production
from penstock.spec.environment import ApprovalMode
from penstock.workspace import Workspace

__all__ = [
    "AUTOMATIC", "Decision", "FollowUp", "decide_automatic", "first_promotion_as_of", "follow_up",
    "production_since", "promised_metrics", "promote", "reject", "rollback", "stage_after_compliance",
]  # fmt: skip

AUTOMATIC = "penstock (automatic)"
REFERENCE = "production_version"  # in a comparison's evidence: what the candidate was held against


@dataclass(frozen=True)
class Decision:
    """Who let a candidate in or not, and why."""

    approved: bool
    decided_by: str
    reason: str


@dataclass(frozen=True)
class FollowUp:
    """What stands after a promotion."""

    production: int
    former: int | None
    since: str
    decided_by: str
    promised_metrics: dict[str, float]


def stage_after_compliance(
    workspace: Workspace, project: str, model: str, version: int, verdict: Verdict, as_of: datetime
) -> Transition:
    """To Staging where the compliance check passed, else to Archived; the Production version stays where it is.

    Raises what `transition` raises.
    """
    stage = Stage.STAGING if verdict.passed else Stage.ARCHIVED
    if repair(workspace, project, model, as_of).production == version:
        stage = Stage.PRODUCTION  # where it is: nothing moves, and nothing is recorded
    evidence = {"compliance": verdict.to_dict()}
    return transition(workspace, project, model, version, stage, AUTOMATIC, verdict.reason, evidence, as_of)


def decide_automatic(workspace: Workspace, comparison: Verdict) -> Decision:
    """What an environment that approves by itself decides. Raises GateError where a human must."""
    if workspace.environment.approval.mode is ApprovalMode.HUMAN:
        raise GateError(
            f"{comparison.subject}: the environment {workspace.environment.name} wants a human's approval: answer "
            "the approval task in Airflow, or call promote with the name of who decided"
        )
    return Decision(comparison.passed, AUTOMATIC, comparison.reason)


def promote(
    workspace: Workspace, project: str, model: str, version: int, decided_by: str, reason: str,
    evidence: dict[str, Any], as_of: datetime, *, cause: str | None = None,
) -> Transition:  # fmt: skip
    """To Production, with the hold-out metrics of the version as what is promised; the former one is archived.

    `evidence` is a comparison's verdict, or a dictionary that has it under `comparison`. `cause` tells
    requests of one version at one as_of apart (such as one more after a rollback).

    Raises GateError where production is no longer the version that the candidate was compared with, and
    what `transition` raises.
    """
    _check_reference(
        workspace, project, model, version, evidence, f"{model}/{version}/Production/{cause or to_text(as_of)}"
    )
    registered = RegisteredModel(workspace, project, model)
    evidence = {**evidence, PROMISED: hold_out_metrics(registered, version)}
    return transition(
        workspace, project, model, version, Stage.PRODUCTION, decided_by, reason, evidence, as_of, cause=cause
    )


def reject(
    workspace: Workspace, project: str, model: str, version: int, decided_by: str, reason: str,
    evidence: dict[str, Any], as_of: datetime, *, cause: str | None = None,
) -> Transition:  # fmt: skip
    """To Archived. Raises GateError for the Production version, and what `transition` raises."""
    return transition(
        workspace, project, model, version, Stage.ARCHIVED, decided_by, reason, evidence, as_of, cause=cause
    )


def rollback(
    workspace: Workspace, project: str, model: str, decided_by: str, reason: str, *,
    from_version: int | None = None, as_of: datetime | None = None,
) -> Transition:  # fmt: skip
    """The former production version is production again; the one that was is archived.

    With `from_version`, that version is rolled back if it is (still) in production, and a repeat answers with
    the first's result; without it, each call goes one version further back. as_of is the replay clock or
    now by default.

    Raises NothingToDo where there is no former version or `from_version` is not in production;
    what `transition` raises.
    """
    moment = as_of or workspace.moment()
    name = registered_name(project, model)
    unfinished = [row for row in AuditLog(workspace, project, model).read().pending if ROLLS_BACK in row.plan]
    repair(workspace, project, model, moment)
    snapshot = AuditLog(workspace, project, model).read()
    rows = production_rows(snapshot.completed)
    if not rows or snapshot.aliases.get("production") is None:
        raise NothingToDo(f"{name} has no version in production: there is nothing to roll back")
    # a rollback that was killed has just been finished by the repair: to go on would go back twice
    leaving = unfinished[0].plan[ROLLS_BACK] if unfinished and from_version is None else from_version
    if leaving is not None and leaving != rows[-1].version:
        return _repeated_rollback(workspace, project, model, snapshot, leaving)
    stack = production_stack(snapshot.completed)
    if len(stack) < 2:
        raise NothingToDo(f"{name} version {stack[-1]} is the first in production: there is none to go back to")
    return transition(
        workspace, project, model, stack[-2], Stage.PRODUCTION, decided_by, reason,
        {PROMISED: promised_metrics(workspace, project, model, stack[-2])}, moment,
        cause=f"rollback of {rows[-1].version} at {len(rows)}", plan={ROLLS_BACK: rows[-1].version},
    )  # fmt: skip


def follow_up(workspace: Workspace, project: str, model: str, version: int, as_of: datetime | None = None) -> FollowUp:
    """Sees to it that a promotion is whole: stages repaired, what was promised in the audit.

    A version that came to production by hand gets its promised metrics here.
    Raises RegistryError where the version was never in production.
    """
    repair(workspace, project, model, as_of)
    log = AuditLog(workspace, project, model)
    for _ in patience(registered_name(project, model)):
        snapshot = log.read()
        row = latest_production_row(snapshot.completed, version)
        if PROMISED not in row.evidence:
            promised = hold_out_metrics(RegisteredModel(workspace, project, model), version)
            row = replace(row, evidence={**row.evidence, PROMISED: promised})
            try:
                log.commit(snapshot, [row])
            except Conflict:
                continue
        return FollowUp(version, row.plan.get("displaced"), to_text(row.as_of), row.decided_by, row.evidence[PROMISED])
    raise AssertionError  # patience raises before it ends


def _check_reference(
    workspace: Workspace, project: str, model: str, version: int, evidence: dict[str, Any], identifier: str
) -> None:
    """Raises GateError where others promoted another version since the comparison."""
    compared = evidence.get("comparison", evidence)
    found = [check["evidence"] for check in compared.get("checks", []) if REFERENCE in check.get("evidence", {})]
    row = AuditLog(workspace, project, model).read().find(identifier)
    if not found or (row is not None and row.state is not State.ABANDONED):
        return
    reference, production = found[0][REFERENCE], current_production(workspace, project, model)
    if production not in (reference, version):
        raise GateError(
            f"{registered_name(project, model)}: version {version} was compared with {_named(reference)}, but "
            f"production is {_named(production)} by now: compare again (run model_promotion for it once more)"
        )


def _repeated_rollback(workspace: Workspace, project: str, model: str, snapshot: Snapshot, leaving: int) -> Transition:
    """The answer to a rollback that has taken place. Raises NothingToDo where it has not."""
    rows = [row for row in production_rows(snapshot.completed) if row.plan.get(ROLLS_BACK) == leaving]
    if not rows:
        raise NothingToDo(
            f"{registered_name(project, model)} version {leaving} is not in production: nothing to roll back"
        )
    row = rows[-1]
    cause = row.transition_id.split("/", 3)[3]
    return transition(
        workspace, project, model, row.version, Stage.PRODUCTION, row.decided_by, row.reason, row.evidence, row.as_of,
        cause=cause,
    )  # fmt: skip


def _named(version: int | None) -> str:
    return "no version (the heuristic)" if version is None else f"version {version}"
