"""Going back to a former production version, in one action."""

from datetime import datetime

from penstock.errors import GateError, NothingToDo
from penstock.gates import Outcome, Verdict
from penstock.registry.audit import AuditLog, Snapshot
from penstock.registry.client import registered_name
from penstock.registry.deployments import Expected, Transition, repair, transition
from penstock.registry.former import check_former
from penstock.registry.history import PROMISED, ROLLS_BACK, production_rows, production_stack, promised_metrics
from penstock.registry.holds import holds_of
from penstock.registry.stages import Stage
from penstock.workspace import Workspace


def rollback(
    workspace: Workspace, project: str, model: str, decided_by: str, reason: str, *,
    from_version: int | None = None, to_version: int | None = None, as_of: datetime | None = None, check: bool = True,
) -> Transition:  # fmt: skip
    """The former production version (or `to_version`) is production again; the one that was is archived.

    The version that left is not promoted again until a person allows it (`freezing.allow`). A freeze does not
    hold a rollback back. The version to go back to is loaded first, and its features looked for (`check`).

    With `from_version`, that version is rolled back if it is (still) in production, and a repeat answers with
    the first's result; without it, each call goes one version further back. as_of is the replay clock or
    now by default.

    Raises NothingToDo where there is no former version, or `from_version` is not in production; GateError where
    the version to go back to was never in production, was rolled back itself, or can no longer score, and where
    another version came to production meanwhile; what `transition` raises.
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
        return _repeated(workspace, project, model, snapshot, leaving)
    target = _target(snapshot, name, to_version)
    if check:
        _check(check_former(workspace, project, model, target), snapshot, name, target)
    return transition(
        workspace, project, model, target, Stage.PRODUCTION, decided_by, reason,
        {PROMISED: promised_metrics(workspace, project, model, target)}, moment,
        cause=f"rollback of {rows[-1].version} at {len(rows)}", plan={ROLLS_BACK: rows[-1].version},
        expected_production=Expected(
            rows[-1].version, f"version {rows[-1].version} was to be rolled back",
            "nothing was rolled back. If that one shall leave, too, roll back again",
        ),
    )  # fmt: skip


def _target(snapshot: Snapshot, name: str, wanted: int | None) -> int:
    """The version to go back to. Raises NothingToDo where there is none, GateError where it may not be that one."""
    stack = production_stack(snapshot.completed)
    if wanted is None:
        if len(stack) < 2:
            raise NothingToDo(f"{name} version {stack[-1]} is the first in production: there is none to go back to")
        return stack[-2]
    if wanted == stack[-1]:
        raise NothingToDo(f"{name} version {wanted} is in production already")
    former = {row.version for row in production_rows(snapshot.completed)}
    if wanted not in former:
        known = ", ".join(map(str, sorted(former - {stack[-1]}))) or "none"
        raise GateError(
            f"{name} version {wanted} was never in production (before: {known}): a version that nobody has let in "
            "goes through model_promotion"
        )
    if (hold := holds_of(snapshot).rolled_back.get(wanted)) is not None:
        raise GateError(
            f"{name} version {wanted} was itself rolled back ({hold}). If it shall come back: "
            f"`penstock allow {name} {wanted} --reason …`, then this again"
        )
    return wanted


def _check(verdict: Verdict, snapshot: Snapshot, name: str, target: int) -> None:
    """Raises GateError where the version to go back to cannot score; names the others."""
    if verdict.passed:
        return
    faults = "; ".join(check.detail for check in verdict.checks if check.outcome is Outcome.FAIL)
    others = [str(version) for version in reversed(production_stack(snapshot.completed)[:-1]) if version != target]
    remedy = f"go further back (--to {', or '.join(others)})" if others else "mend that"
    raise GateError(
        f"{name} stays as it is: version {target} can no longer score ({faults}). Either {remedy}, or move without "
        "this check (--unchecked)"
    )


def _repeated(workspace: Workspace, project: str, model: str, snapshot: Snapshot, leaving: int) -> Transition:
    """The answer to a rollback that has taken place. Raises NothingToDo where it has not."""
    rows = [row for row in production_rows(snapshot.completed) if row.plan.get(ROLLS_BACK) == leaving]
    if not rows:
        raise NothingToDo(
            f"{registered_name(project, model)} version {leaving} is not in production: nothing to roll back"
        )
    row = rows[-1]
    return transition(
        workspace, project, model, row.version, Stage.PRODUCTION, row.decided_by, row.reason, row.evidence, row.as_of,
        cause=row.transition_id.split("/", 3)[3], plan={ROLLS_BACK: leaving},
    )  # fmt: skip
