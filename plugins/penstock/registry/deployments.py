"""Transitions between stages: intent, alias, tags, completion.

A transition first commits its intent to `deployments` (state pending), on condition that the table is as it
was read and that no other transition of the model is pending: that row is the lock. Then it moves aliases
and tags, and at last completes its rows. Killed anywhere, it is finished by whoever comes next (`settling`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from penstock.clock import to_text
from penstock.errors import GateError
from penstock.registry.audit import Conflict, DeploymentRow, Snapshot, State
from penstock.registry.history import ROLLS_BACK, request_cause
from penstock.registry.holds import raise_if_held
from penstock.registry.numbering import raise_if_another
from penstock.registry.settling import BY_HAND, Desk, Request, patience
from penstock.registry.stages import ALIASES, Stage
from penstock.registry.turns import BY_ITSELF, raise_if_not_its_turn
from penstock.workspace import Workspace

_PRODUCTION, _STAGING = ALIASES[Stage.PRODUCTION], ALIASES[Stage.STAGING]


@dataclass(frozen=True)
class Transition:
    """What a transition came to.

    `displaced` is the version that it archived; `repeated` says that the request had been made before.
    """

    transition_id: str
    project: str
    model: str
    version: int
    from_stage: str
    to_stage: str
    state: str
    decided_by: str
    reason: str
    as_of: str
    displaced: int | None
    production: int | None
    repeated: bool


@dataclass(frozen=True)
class Expected:
    """What a decision rests on: the version in production (None: none), what it was for it, and what to do else."""

    production: int | None
    decision: str
    otherwise: str


@dataclass(frozen=True)
class Repair:
    """What a repair found and did: ids of transitions, versions with a new tag."""

    production: int | None
    staging: int | None
    finished: tuple[str, ...]
    noticed: tuple[str, ...]
    retagged: tuple[int, ...]


def transition(
    workspace: Workspace, project: str, model: str, version: int, to_stage: Stage | str, decided_by: str,
    reason: str, evidence: dict[str, Any] | None, as_of: datetime, *, cause: str | None = None,
    plan: dict[str, Any] | None = None, expected_production: Expected | None = None,
) -> Transition:  # fmt: skip
    """Moves a version to a stage, and the version that it displaces there to Archived.

    Two requests with the same version, stage and `cause` are one: the second answers with the first's row, whatever has
    happened since. The cause is as_of by default; after a rollback of the version a request is another one. A version
    that is in the stage already stays, without a new row. `plan` is noted in the row's evidence, under `transition`.
    With `expected_production`, the intent is written only while that version is in production: on the very state of
    the audit that it is committed on.

    Raises RegistryError for an unknown version; Superseded (or, for a person's decision, GateError) for a
    candidate whose place a newer one has taken; GateError for the Production version that would leave its
    stage with nothing in its place, for a promotion that a freeze or a former rollback holds back (a rollback
    itself is never held back), where production is not `expected_production`, where a hand moved the alias
    meanwhile, and for a version whose number was another's in the audit (`numbering`); ServiceError where MLflow
    does not answer, or other transitions keep the model busy: the same call mends that later.
    """
    stage = Stage(to_stage)
    desk = Desk(workspace, project, model, as_of)
    found = desk.registered.version(version)
    said = cause or request_cause(desk.log.read().completed, version, as_of)
    request = Request(version, stage, decided_by, reason, evidence or {}, as_of, said)
    committed = False
    for _ in patience(desk.registered.name):
        snapshot = desk.settle(own=request.transition_id(model))
        raise_if_another(snapshot, found)
        if not committed and cause is None:  # what was pending may have been the version's rollback
            request = replace(request, cause=request_cause(snapshot.completed, version, as_of))
        identifier = request.transition_id(model)
        row = snapshot.find(identifier)
        if row is not None and row.state is not State.ABANDONED:
            return _answer(project, row, snapshot, repeated=not committed)
        if row is not None and committed:
            raise GateError(f"{identifier} was abandoned: {row.reason}. Ask again if it shall take place")
        if snapshot.stage(version) is stage:
            return _answer(project, snapshot.latest(version), snapshot, repeated=True)
        try:
            desk.log.commit(snapshot, _intent(desk, snapshot, request, plan or {}, expected_production))
            committed = True
        except Conflict:
            continue
    raise AssertionError  # patience raises before it ends


def repair(workspace: Workspace, project: str, model: str, as_of: datetime | None = None) -> Repair:
    """Finishes what was left pending, notices hand-moved aliases, and derives every stage tag again.

    `as_of` (the replay clock or now by default) is written into rows about hand-moved aliases.
    """
    desk = Desk(workspace, project, model, as_of or workspace.moment())
    old = {row.transition_id: row.state for row in desk.log.read().rows}
    settled = desk.settle(own=None)
    aliases = settled.aliases
    ids = [row.transition_id for row in settled.rows]
    by_hand = {row.transition_id for row in settled.rows if row.decided_by == BY_HAND}
    return Repair(
        production=aliases.get(_PRODUCTION), staging=aliases.get(_STAGING),
        finished=tuple(name for name in ids if old.get(name) is State.PENDING),
        noticed=tuple(name for name in ids if name not in old and name in by_hand),
        retagged=tuple(desk.derive_tags(settled)),
    )  # fmt: skip


def named(version: int | None) -> str:
    """A production version in a sentence."""
    return "no version (the heuristic)" if version is None else f"version {version}"


def _intent(
    desk: Desk, snapshot: Snapshot, request: Request, plan: dict[str, Any], expected: Expected | None
) -> list[DeploymentRow]:
    """The pending rows of a request. Raises GateError where it must not be."""
    name = f"{desk.registered.name} version {request.version}"
    if request.to_stage is Stage.NONE:
        raise GateError(f"{name}: no version goes back to no stage; archive it")
    if snapshot.aliases.get(_PRODUCTION) == request.version:
        raise GateError(
            f"{name} is in Production and cannot go to {request.to_stage}: promote another version, or roll back, "
            "and it is archived by that"
        )
    production = snapshot.aliases.get(_PRODUCTION)
    if expected is not None and production != expected.production:
        raise GateError(
            f"{desk.registered.name}: {expected.decision}, but production is {named(production)} by now: "
            f"{expected.otherwise}"
        )
    if ROLLS_BACK not in plan:
        raise_if_not_its_turn(
            snapshot, desk.registered, request.version, request.to_stage, request.as_of,
            by_itself=request.decided_by == BY_ITSELF,
        )  # fmt: skip
        if request.to_stage is Stage.PRODUCTION:
            raise_if_held(snapshot, desk.registered.name, request.version)
    alias = ALIASES.get(request.to_stage)
    displaced = snapshot.aliases.get(alias) if alias else None
    return desk.request_rows(snapshot, request, {**plan, "before": snapshot.aliases}, displaced)


def _answer(project: str, row: DeploymentRow, snapshot: Snapshot, *, repeated: bool) -> Transition:
    return Transition(
        transition_id=row.transition_id, project=project, model=row.model, version=row.version,
        from_stage=row.from_stage, to_stage=row.to_stage, state=row.state, decided_by=row.decided_by,
        reason=row.reason, as_of=to_text(row.as_of), displaced=row.plan.get("displaced"),
        production=snapshot.aliases.get(_PRODUCTION), repeated=repeated,
    )  # fmt: skip
