"""People's decisions that hold promotions back, or let them go on: freeze, unfreeze, allow."""

from collections.abc import Callable
from datetime import datetime

from penstock.clock import to_text
from penstock.errors import NothingToDo, SpecError
from penstock.registry.approval import check_may_approve
from penstock.registry.audit import Snapshot
from penstock.registry.client import registered_name
from penstock.registry.holds import freeze_of, holds_of
from penstock.registry.notes import Note, NoteKind
from penstock.registry.settling import keep_note
from penstock.workspace import Workspace


def freeze(
    workspace: Workspace, project: str, model: str, decided_by: str, reason: str, as_of: datetime | None = None
) -> Note:
    """Stops every promotion of a model until it is lifted; rollbacks still work. Frozen already, it stays as it is.

    Raises SpecError without a reason.
    """

    def decide(snapshot: Snapshot) -> Note | tuple[str, int | None]:
        return freeze_of(snapshot) or ("freeze", None)

    return _decide(workspace, project, model, NoteKind.FREEZE, decided_by, reason, as_of, decide)


def unfreeze(
    workspace: Workspace, project: str, model: str, decided_by: str, reason: str, as_of: datetime | None = None
) -> Note:
    """Lifts a freeze.

    Raises NothingToDo where there is none; GateError for a person who is no approver here; SpecError as `freeze` does.
    """
    check_may_approve(workspace, f"the freeze of {registered_name(project, model)} stays", decided_by)

    def decide(snapshot: Snapshot) -> tuple[str, int | None]:
        found = freeze_of(snapshot)
        if found is None:
            raise NothingToDo(f"{registered_name(project, model)} is not frozen")
        return found.note_id, None

    return _decide(workspace, project, model, NoteKind.UNFREEZE, decided_by, reason, as_of, decide)


def allow(
    workspace: Workspace, project: str, model: str, version: int, decided_by: str, reason: str,
    as_of: datetime | None = None,
) -> Note:  # fmt: skip
    """Lets a version that was rolled back be promoted again, through its gates.

    Raises NothingToDo where it is not held back; GateError for a person who is no approver here; SpecError as `freeze`
    does.
    """
    name = f"{registered_name(project, model)} version {version}"
    check_may_approve(workspace, f"{name} stays held back", decided_by)

    def decide(snapshot: Snapshot) -> tuple[str, int | None]:
        found = holds_of(snapshot).rolled_back.get(version)
        if found is None:
            raise NothingToDo(f"{name} is not held back by a rollback")
        return to_text(found.since), version

    return _decide(workspace, project, model, NoteKind.ALLOW, decided_by, reason, as_of, decide)


def _decide(
    workspace: Workspace, project: str, model: str, kind: NoteKind, decided_by: str, reason: str,
    as_of: datetime | None, decide: Callable[[Snapshot], Note | tuple[str, int | None]],
) -> Note:  # fmt: skip
    """Writes a note on the audit as it stands at that moment, or answers the one that says so already."""
    if not reason.strip():
        raise SpecError(f"{kind} of {registered_name(project, model)}: why? Give a reason; it is kept in the audit")

    def note(snapshot: Snapshot) -> Note:
        found = decide(snapshot)
        if isinstance(found, Note):
            return found
        about, version = found
        at = snapshot.next_moment()
        return Note(
            f"{model}/{kind}/{about}/{to_text(at)}", model, kind, version, decided_by, reason.strip(),
            as_of or workspace.moment(), at, run=workspace.lineage.run,
        )  # fmt: skip

    return keep_note(workspace, project, model, note)
