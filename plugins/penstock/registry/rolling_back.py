"""Going back to a former production version, in one action."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from penstock.errors import GateError, NothingToDo
from penstock.gates import Outcome, Verdict
from penstock.registry.audit import AuditLog, Snapshot
from penstock.registry.client import RegisteredModel, registered_name
from penstock.registry.deployments import Expected, Transition, repair, transition
from penstock.registry.former import check_former
from penstock.registry.history import PROMISED, ROLLS_BACK, production_rows, production_stack, promised_metrics
from penstock.registry.holds import holds_of
from penstock.registry.stages import ALIASES, Stage
from penstock.workspace import Workspace

_PRODUCTION = ALIASES[Stage.PRODUCTION]


def rollback(
    workspace: Workspace, project: str, model: str, decided_by: str, reason: str, *,
    from_version: int | None = None, to_version: int | None = None, as_of: datetime | None = None, check: bool = True,
) -> Transition:  # fmt: skip
    """The former production version (or `to_version`) is production again; the one that was is archived.

    The version that left is not promoted again until a person allows it (`freezing.allow`). A freeze does not
    hold a rollback back. The version to go back to is loaded first, and its features looked for (`check`). Versions
    that were deleted in MLflow are passed over. Where production was lost (its version was deleted, or a hand took the
    alias away), the last one that was in production is what leaves, and `to_version` may be that one.

    With `from_version`, that version is rolled back if it is (still) in production, and a repeat answers with
    the first's result; without it, each call goes one version further back. as_of is the replay clock or
    now by default.

    Raises NothingToDo where there is no former version, or `from_version` is not in production; GateError where
    the version to go back to was never in production, was rolled back itself, is not in the registry any more, or can
    no longer score, and where another version came to production meanwhile; what `transition` raises.
    """
    moment = as_of or workspace.moment()
    registered = RegisteredModel(workspace, project, model)
    if from_version is None:
        leaving = version_to_leave(workspace, project, model, moment)
    else:
        leaving = from_version
        repair(workspace, project, model, moment)
    snapshot = AuditLog(workspace, project, model).read()
    rows = production_rows(snapshot.completed)
    if leaving is None or not rows:
        raise NothingToDo(f"{registered.name} had no version in production yet: there is nothing to roll back")
    if leaving != rows[-1].version:
        return _repeated(workspace, project, model, snapshot, leaving)
    there = {
        int(found.version) for found in registered.versions()
        if snapshot.is_version(int(found.version), int(found.creation_timestamp))
    }  # fmt: skip
    target = _target(snapshot, registered.name, there, to_version)
    if check:
        _check(check_former(workspace, project, model, target), snapshot, registered.name, there, target)
    return transition(
        workspace, project, model, target, Stage.PRODUCTION, decided_by, reason,
        {PROMISED: promised_metrics(workspace, project, model, target)}, moment,
        cause=f"rollback of {leaving} at {len(rows)}", plan={ROLLS_BACK: leaving},
        expected_production=Expected(
            snapshot.aliases.get(_PRODUCTION), f"version {leaving} was to be rolled back",
            "nothing was rolled back. If that one shall leave, too, roll back again",
        ),
    )  # fmt: skip


def version_to_leave(workspace: Workspace, project: str, model: str, as_of: datetime) -> int | None:
    """Repairs, and answers what a rollback takes out of production now: the version there, else the last that was; None
    before the first.

    Where a rollback was killed on its way, the version that it takes out: to go on would go back twice.
    """
    unfinished = [row for row in AuditLog(workspace, project, model).read().pending if ROLLS_BACK in row.plan]
    repair(workspace, project, model, as_of)
    if unfinished:
        return int(unfinished[0].plan[ROLLS_BACK])
    rows = production_rows(AuditLog(workspace, project, model).read().completed)
    return rows[-1].version if rows else None


def _target(snapshot: Snapshot, name: str, there: set[int], wanted: int | None) -> int:
    """The version to go back to. Raises NothingToDo where there is none, GateError where it may not be that one.

    :param there: the versions that are in the registry.
    """
    *stack, last = production_stack(snapshot.completed)
    production = snapshot.aliases.get(_PRODUCTION)
    if wanted is None:
        return _former(name, stack, last, there, lost=production is None)
    if wanted == production:
        raise NothingToDo(f"{name} version {wanted} is in production already")
    former = {row.version for row in production_rows(snapshot.completed)} - {production}
    if wanted not in former:
        known = ", ".join(map(str, sorted(former & there))) or "none"
        raise GateError(
            f"{name} version {wanted} was never in production (before: {known}): a version that nobody has let in "
            "goes through model_promotion"
        )
    if wanted not in there:
        known = _choice(version for version in reversed(stack) if version in there)
        raise GateError(f"{name} version {wanted} is not in the registry any more. What can come back: {known}")
    if (hold := holds_of(snapshot).rolled_back.get(wanted)) is not None:
        raise GateError(
            f"{name} version {wanted} was itself rolled back ({hold}). If it shall come back: "
            f"`penstock allow {name} {wanted} --reason …`, then this again"
        )
    return wanted


def _former(name: str, stack: Sequence[int], last: int, there: set[int], *, lost: bool) -> int:
    """The newest former version that is in the registry. Raises NothingToDo where there is none."""
    found = next((version for version in reversed(stack) if version in there), None)
    if found is not None:
        return found
    gone = f", and {', '.join(map(str, stack))} before it are not in the registry any more" if stack else ""
    first = f"{name} version {last} {'was' if lost else 'is'} {'in production' if stack else 'the first in production'}"
    itself = f". That version itself comes back by `--to {last}`" if lost and last in there else ""
    raise NothingToDo(f"{first}{gone}: there is none to go back to{itself}")


def _choice(versions: Iterable[int]) -> str:
    return ", or ".join(f"--to {version}" for version in versions) or "none"


def _check(verdict: Verdict, snapshot: Snapshot, name: str, there: set[int], target: int) -> None:
    """Raises GateError where the version to go back to cannot score; names the others."""
    if verdict.passed:
        return
    faults = "; ".join(check.detail for check in verdict.checks if check.outcome is Outcome.FAIL)
    stack = production_stack(snapshot.completed)[:-1]
    others = [version for version in reversed(stack) if version != target and version in there]
    remedy = f"go further back ({_choice(others)})" if others else "mend that"
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
