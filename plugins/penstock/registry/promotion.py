"""Decisions about a candidate: what model_promotion and people call. Going back is `rolling_back`."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from penstock.clock import to_text
from penstock.errors import GateError
from penstock.gates import Verdict
from penstock.registry.approval import check_may_approve, check_passed, check_shown
from penstock.registry.audit import AuditLog, Conflict, Snapshot, State
from penstock.registry.client import registered_name
from penstock.registry.comparison_rows import compared_metrics
from penstock.registry.deciding import digest
from penstock.registry.deployments import Expected, Transition, named, repair, transition
from penstock.registry.history import (
    PROMISED,
    REFERENCE,
    first_promotion_as_of,
    hold_out_metrics,
    latest_production_row,
    production_since,
    promised_metrics,
    request_cause,
)
from penstock.registry.notes import Note, NoteKind, json_values
from penstock.registry.queue import admit, supersede_older
from penstock.registry.rolling_back import rollback
from penstock.registry.settling import keep_note, patience
from penstock.registry.stages import Stage
from penstock.registry.turns import Superseded
from penstock.spec.environment import ApprovalMode
from penstock.workspace import Workspace

__all__ = [
    "AUTOMATIC", "Decision", "FollowUp", "carry_out", "decide_automatic", "first_promotion_as_of", "follow_up",
    "production_since", "promised_metrics", "promote", "reject", "rollback", "stage_after_compliance",
]  # fmt: skip

AUTOMATIC = "penstock (automatic)"


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

    Older versions that were not looked at yet are superseded by one that comes to Staging. A verdict that moves nothing
    is kept in the audit as a note. Raises GateError where it leaves production meanwhile: this gate alone lets nothing
    in; Superseded where a newer one came to Staging or Production meanwhile (this one is archived then); what
    `transition` raises.
    """
    about = (workspace, project, model)
    stage, expected = Stage.STAGING if verdict.passed else Stage.ARCHIVED, None
    if repair(*about, as_of).production == version:
        stage = Stage.PRODUCTION  # where it is: nothing moves
        expected = Expected(
            version, f"version {version} was in production when it was judged", "nothing was moved. Run this again"
        )
    evidence = {"compliance": verdict.to_dict()}
    try:
        moved = transition(
            *about, version, stage, AUTOMATIC, verdict.reason, evidence, as_of, expected_production=expected
        )
    except Superseded:
        admit(*about, version, as_of)  # archives it, and says so
        return stage_after_compliance(*about, version, verdict, as_of)  # the newer one was decided upon just now
    if moved.repeated:
        _note_verdict(*about, moved, verdict, as_of)
    if stage is Stage.STAGING:
        supersede_older(*about, as_of)
    return moved


def _note_verdict(
    workspace: Workspace, project: str, model: str, moved: Transition, verdict: Verdict, as_of: datetime
) -> None:
    """Keeps a compliance verdict that found the version where it leads, once, unless it is that of the version's own
    transition.
    """
    found = json_values(verdict.to_dict())
    row = AuditLog(workspace, project, model).read().find(moved.transition_id)
    if row is not None and row.as_of == as_of and _said(row.evidence.get("compliance")) == _said(found):
        return
    note_id = f"{model}/{NoteKind.COMPLIANCE}/{moved.version}/{to_text(as_of)}/{_said(found)}"

    def decide(snapshot: Snapshot) -> Note:
        return Note(
            note_id, model, NoteKind.COMPLIANCE, moved.version, AUTOMATIC, verdict.reason, as_of,
            snapshot.next_moment(), {"compliance": found}, workspace.lineage.run,
        )  # fmt: skip

    keep_note(workspace, project, model, decide)


def _said(verdict: dict[str, Any] | None) -> str:
    """What tells a verdict from others; what was measured differs each time, and does not count where it is well."""
    checks = verdict["checks"] if verdict else []
    return digest({one["name"]: one["detail"] if one["outcome"] == "fail" else one["outcome"] for one in checks})


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
    evidence: dict[str, Any], as_of: datetime, *, cause: str | None = None, by_hand: bool = True,
) -> Transition:  # fmt: skip
    """To Production, with the hold-out metrics of the version (those of its comparison, where its run has none) as what
    is promised; the former one is archived.

    `evidence` is a comparison's verdict, or a dictionary that has it under `comparison`. `cause` tells
    requests of one version at one as_of apart (such as one more after a rollback). `by_hand`: the caller answers
    for the gates itself, as a person does who promotes in Python; a pipeline says False, and then the evidence must
    have what was decided upon (`shown`) and the verdicts `compliance` and `comparison`, both passed.

    Raises GateError for a gate that was failed or left out, where the environment wants a human's approval and who
    decides by hand is no approver of it, where production is no longer the version that the candidate was compared
    with, where the declared rule or the verdict is no longer what was decided upon, and what `transition` raises.
    """
    if by_hand and workspace.environment.approval.mode is ApprovalMode.HUMAN:
        check_may_approve(workspace, f"{registered_name(project, model)} version {version} is not promoted", decided_by)
    snapshot = AuditLog(workspace, project, model).read()
    asked = cause or request_cause(snapshot.completed, version, as_of)
    row = snapshot.find(f"{model}/{version}/{Stage.PRODUCTION}/{asked}")
    if row is None or row.state is State.ABANDONED:  # else it has been decided, and is under way or done
        if not by_hand:
            check_passed(f"{registered_name(project, model)} version {version}", evidence)
        check_shown(workspace, project, model, version, evidence, by_hand=by_hand)
    about = (workspace, project, model, version)
    promised = hold_out_metrics(*about) or compared_metrics(*about, as_of)
    evidence = {**evidence, PROMISED: promised}
    return transition(
        workspace, project, model, version, Stage.PRODUCTION, decided_by, reason, evidence, as_of, cause=cause,
        expected_production=_reference(version, evidence),
    )  # fmt: skip


def carry_out(
    workspace: Workspace, project: str, model: str, version: int, decision: Decision, evidence: dict[str, Any],
    as_of: datetime,
) -> Transition:  # fmt: skip
    """What a decision comes to in model_promotion, in Airflow and in the shell: to Production, or to Archived.

    `evidence` is that of `promote`, with the verdicts of both gates and what was decided upon. Raises what `promote`
    and `reject` raise, and GateError where the version is not in production after it: others came since this very
    promotion took place.
    """
    about = (workspace, project, model, version, decision.decided_by, decision.reason, evidence, as_of)
    if not decision.approved:
        return reject(*about)
    done = promote(*about, by_hand=False)
    _check_in_production(done)
    return done


def _check_in_production(done: Transition) -> None:
    """Raises GateError where a promotion that is asked for again took place before, and others came since."""
    if done.production == done.version:
        return
    raise GateError(
        f"{registered_name(done.project, done.model)} version {done.version} is not in production: this promotion took "
        f"place before (as of {done.as_of}, by {done.decided_by}: {done.reason}), and production is "
        f"{named(done.production)} since. Nothing was changed. To let it in once more, run model_promotion for it with "
        "a later as_of"
    )


def reject(
    workspace: Workspace, project: str, model: str, version: int, decided_by: str, reason: str,
    evidence: dict[str, Any], as_of: datetime, *, cause: str | None = None,
) -> Transition:  # fmt: skip
    """To Archived. Raises GateError without a reason and for the Production version, and what `transition` raises."""
    if not reason.strip():
        raise GateError(f"{registered_name(project, model)} version {version} is not rejected: why? Give a reason")
    return transition(
        workspace, project, model, version, Stage.ARCHIVED, decided_by, reason, evidence, as_of, cause=cause
    )


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
            promised = hold_out_metrics(workspace, project, model, version)
            row = replace(row, evidence={**row.evidence, PROMISED: promised})
            try:
                log.commit(snapshot, [row])
            except Conflict:
                continue
        return FollowUp(version, row.plan.get("displaced"), to_text(row.as_of), row.decided_by, row.evidence[PROMISED])
    raise AssertionError  # patience raises before it ends


def _reference(version: int, evidence: dict[str, Any]) -> Expected | None:
    """The version that the candidate was compared with, which must still be in production; None without comparison.

    The comparison itself says it in its first check, whatever its methods add.
    """
    compared = evidence.get("comparison", evidence)
    found = [check["evidence"] for check in compared.get("checks", []) if REFERENCE in check.get("evidence", {})]
    if not found:
        return None
    reference = found[0][REFERENCE]
    against = "itself, which was in production" if reference == version else named(reference)
    return Expected(
        reference, f"version {version} was compared with {against}",
        "compare again (run model_promotion for it with a later as_of)",
    )  # fmt: skip
