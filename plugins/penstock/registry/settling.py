"""Finishes pending transitions and notices hand-moved aliases: what makes stages converge.

Every step may be done any number of times by anybody: moving an alias, setting tags, completing rows.
A pending transition is finished at once by who asked for it, and by others once its owner must be dead.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from penstock.clock import now
from penstock.errors import ServiceError
from penstock.registry.audit import CREATED, AuditLog, Conflict, DeploymentRow, Snapshot, State
from penstock.registry.client import RegisteredModel, registered_name
from penstock.registry.holds import freeze_of
from penstock.registry.notes import Note
from penstock.registry.stages import ALIASES, STAGE_TAG, Stage, derive_stage
from penstock.workspace import Workspace

BY_HAND = "MLflow (by hand)"
TAKEOVER_AFTER = timedelta(seconds=10)  # many times what a transition takes
_GIVE_UP_AFTER_SECONDS = 120.0
_POLL_SECONDS = 0.2
_RESTORE = "restore"  # in a row's plan: the version that gets its alias back from the hand that moved it
_STAGING = ALIASES[Stage.STAGING]


@dataclass(frozen=True)
class Request:
    """A wish to move a version to a stage; the same wish has the same id."""

    version: int
    to_stage: Stage
    decided_by: str
    reason: str
    evidence: dict[str, Any]
    as_of: datetime
    cause: str

    def transition_id(self, model: str) -> str:
        """`model/version/stage/cause`."""
        return f"{model}/{self.version}/{self.to_stage}/{self.cause}"


def staged_versions(snapshot: Snapshot) -> set[int]:
    """The versions that had a stage, by the audit: a tag may come from a hand, or with a copy of another version."""
    return {
        row.version for row in snapshot.rows
        if row.state is State.COMPLETED or (row.state is State.PENDING and _RESTORE not in row.plan)
    }  # fmt: skip


def patience(name: str) -> Iterator[None]:
    """Attempts until it has taken too long. Raises ServiceError then."""
    deadline = time.monotonic() + _GIVE_UP_AFTER_SECONDS
    while time.monotonic() < deadline:
        yield
    raise ServiceError(
        f"{name}: other transitions kept the model busy for {_GIVE_UP_AFTER_SECONDS:.0f} s; run this again"
    )


def keep_note(workspace: Workspace, project: str, model: str, decide: Callable[[Snapshot], Note]) -> Note:
    """Writes the note that `decide` makes of the audit as it stands at that moment, and answers it; one that is there
    with its id is answered instead.
    """
    log = AuditLog(workspace, project, model)
    for _ in patience(registered_name(project, model)):
        snapshot = log.read()
        note = decide(snapshot)
        there = next((found for found in snapshot.notes if found.note_id == note.note_id), None)
        if there is not None:
            return there
        try:
            log.commit(snapshot, [note])
        except Conflict:
            continue
        return note
    raise AssertionError  # patience raises before it ends


class Desk:
    """Where the transitions of one model are worked on."""

    def __init__(self, workspace: Workspace, project: str, model: str, as_of: datetime) -> None:
        self.registered = RegisteredModel(workspace, project, model)
        self.log = AuditLog(workspace, project, model)
        self.model, self.as_of, self.run = model, as_of, workspace.lineage.run
        self._policy = workspace.environment.hand_moved_alias
        self._overtaken = False

    def settle(self, own: str | None) -> Snapshot:
        """The transitions once none is pending and the aliases stand where the last one left them.

        `own` is the id of a transition that is finished without waiting for its owner.
        """
        for _ in patience(self.registered.name):
            snapshot = self.log.read()
            try:
                if not snapshot.pending:
                    noticed = self._notice(snapshot)
                    if not noticed:
                        return snapshot
                    self.log.commit(snapshot, noticed)
                    own = noticed[0].transition_id
                elif snapshot.pending[0].transition_id == own or _has_no_owner(snapshot.pending[0]):
                    self._finish(snapshot)
                else:
                    time.sleep(_POLL_SECONDS)
            except Conflict:
                continue
        raise AssertionError  # patience raises before it ends

    def request_rows(
        self, snapshot: Snapshot, request: Request, plan: dict[str, Any], displaced: int | None
    ) -> list[DeploymentRow]:
        """The pending rows of a request: its own, and that of the version which it displaces."""
        main = self._row(snapshot, request, {**plan, "displaced": displaced})
        if displaced is None or displaced == request.version:
            return [main]
        out = replace(
            request, version=displaced, to_stage=Stage.ARCHIVED, evidence={},
            reason=f"displaced in {request.to_stage} by version {request.version}",
            cause=f"displaced by {request.version}/{request.to_stage}/{request.cause}",
        )  # fmt: skip
        return [main, self._row(snapshot, out, {"group": main.transition_id})]

    def derive_tags(self, snapshot: Snapshot, versions: Sequence[int] | None = None) -> list[int]:
        """Sets the stage tag of versions (all by default) that have another; answers which they were."""
        aliases = self.registered.aliases()
        staged = staged_versions(snapshot)
        changed = []
        for found in self.registered.versions():
            version, tagged = int(found.version), found.tags.get(STAGE_TAG)
            if versions is not None and version not in versions:
                continue
            stage = derive_stage(version, aliases, staged_before=version in staged)
            wanted = None if stage is Stage.NONE else str(stage)
            if tagged != wanted:
                self.registered.tag(version, {STAGE_TAG: wanted})
                changed.append(version)
        return changed

    def _row(self, snapshot: Snapshot, request: Request, plan: dict[str, Any]) -> DeploymentRow:
        if (made := self.registered.created_at(request.version)) is not None:
            plan = {**plan, CREATED: made}
        return DeploymentRow(
            transition_id=request.transition_id(self.model), model=self.model, version=request.version,
            from_stage=snapshot.stage(request.version), to_stage=request.to_stage,
            decided_by=request.decided_by, reason=request.reason, as_of=request.as_of,
            requested_at=snapshot.next_moment(), evidence={**request.evidence, "transition": plan}, run=self.run,
        )  # fmt: skip

    def _finish(self, snapshot: Snapshot) -> None:
        """Carries a pending transition out, or abandons it where it no longer applies."""
        rows = snapshot.pending
        main = rows[0]
        aliases = self.registered.aliases()
        if obstacle := self._obstacle(main, aliases):
            self.log.commit(snapshot, [row.ended(State.ABANDONED, f"{row.reason} ({obstacle})") for row in rows])
            return
        # a stage's alias moves before another is taken away: the version is never without its stage
        for alias, version in sorted(_wanted_aliases(main, aliases).items(), key=lambda item: item[1] is None):
            if aliases.get(alias) != version:
                self.registered.move_alias(alias, version)
        self.derive_tags(snapshot, [*(row.version for row in rows), *filter(None, [main.plan.get(_RESTORE)])])
        state = State.REVERTED if _RESTORE in main.plan else State.COMPLETED
        try:
            self.log.commit(snapshot, [row.ended(state) for row in rows])
        except Conflict:
            found = self.log.read().find(main.transition_id)
            self._overtaken = found is None or found.state is not State.PENDING
            raise

    def _obstacle(self, main: DeploymentRow, aliases: dict[str, int]) -> str | None:
        """Why a pending transition cannot take place any more; None if it can."""
        alias = main.plan.get("alias") or ALIASES.get(main.to_stage)
        if alias is None:
            return None
        target = _wanted_aliases(main, aliases).get(alias)
        if target is not None and not self.registered.has_version(target):
            return f"version {target} is not in the registry"
        if aliases.get(alias) in (target, main.plan.get("before", {}).get(alias)):
            return None
        return f"meanwhile the alias {alias} was moved to {_name(aliases.get(alias))} by hand"

    def _notice(self, snapshot: Snapshot) -> list[DeploymentRow]:
        """Rows for an alias that stands elsewhere than the completed transitions left it; none if all is well."""
        expected, found = snapshot.aliases, self.registered.aliases()
        for stage, alias in ALIASES.items():
            was, is_now = expected.get(alias), found.get(alias)
            if was == is_now:
                continue
            if not self._overtaken:
                return self._by_hand(snapshot, stage, was, is_now)
            # this process was so slow that others finished its transition and went on: no hand did that
            self.registered.move_alias(alias, was)
            self.derive_tags(snapshot)
        self._overtaken = False
        return []

    def _by_hand(self, snapshot: Snapshot, stage: Stage, was: int | None, is_now: int | None) -> list[DeploymentRow]:
        alias = ALIASES[stage]
        version, to_stage = (is_now, stage) if is_now is not None else (was, Stage.ARCHIVED)
        assert version is not None  # one of the two is a version, since they differ
        gone = was is not None and not snapshot.is_version(was, self.registered.created_at(was))
        back = None if gone else was  # a version that was deleted cannot come back: then nobody has the alias
        why = self._always_reverts(snapshot, stage, is_now)
        revert = (self._policy == "revert" or why is not None) and back != is_now
        moved = f"the alias {alias} was moved from {_name(was)} to {_name(is_now)} in MLflow"
        moved += f", and {_name(was)} is not there any more" if gone else ""
        who = why if why and revert else "this environment"
        request = Request(
            version, to_stage, BY_HAND, f"{moved}; {who} {'reverts' if revert else 'adopts'} that",
            {}, self.as_of, f"by hand {len(snapshot.rows) + 1}",
        )  # fmt: skip
        plan: dict[str, Any] = {"alias": alias, "before": {alias: is_now}}
        if revert:
            return [self._row(snapshot, request, {**plan, _RESTORE: back})]
        return self.request_rows(snapshot, request, plan, displaced=was if is_now is not None else None)

    @staticmethod
    def _always_reverts(snapshot: Snapshot, stage: Stage, is_now: int | None) -> str | None:
        """What reverts a move by hand whatever the policy is, for its reason; None where the policy decides."""
        if stage is Stage.PRODUCTION:
            return None if freeze_of(snapshot) is None else "the model is frozen, which"
        # adopted, it would take the version out of production: no hand that sets `staging` means that
        in_production = is_now is not None and is_now == snapshot.aliases.get(ALIASES[Stage.PRODUCTION])
        return "that version is in production, which" if in_production else None


def _wanted_aliases(main: DeploymentRow, aliases: dict[str, int]) -> dict[str, int | None]:
    """Where a transition puts aliases; None takes one away."""
    if _RESTORE in main.plan:
        return {main.plan["alias"]: main.plan[_RESTORE]}
    wanted: dict[str, int | None] = {}
    if aliases.get(_STAGING) == main.version:
        wanted[_STAGING] = None
    if main.to_stage in ALIASES:
        wanted[ALIASES[main.to_stage]] = main.version
    return wanted


def _has_no_owner(row: DeploymentRow) -> bool:
    return now() - row.requested_at > TAKEOVER_AFTER


def _name(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"
