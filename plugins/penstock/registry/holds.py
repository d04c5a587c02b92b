"""What keeps versions out of production: a freeze of the model, and the mark of a version that was rolled back."""

from dataclasses import dataclass, field
from datetime import datetime

from penstock.clock import to_text
from penstock.errors import GateError
from penstock.registry.audit import AuditLog, DeploymentRow, Snapshot
from penstock.registry.client import registered_name
from penstock.registry.history import production_rows, taken_out
from penstock.registry.notes import Note, NoteKind
from penstock.workspace import Workspace


@dataclass(frozen=True)
class Hold:
    """Who holds a model or a version back, why and since when (wall clock)."""

    decided_by: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        return f"by {self.decided_by} at {to_text(self.since.replace(microsecond=0))}: {self.reason}"


@dataclass(frozen=True)
class Holds:
    """A model's freeze (None: promotions go on), and its versions that were rolled back."""

    frozen: Hold | None = None
    rolled_back: dict[int, Hold] = field(default_factory=dict)


def holds(workspace: Workspace, project: str, model: str) -> Holds:
    """What holds back promotions of a model now."""
    return holds_of(AuditLog(workspace, project, model).read())


def holds_of(snapshot: Snapshot) -> Holds:
    """What the audit says at one moment."""
    marks: dict[int, DeploymentRow] = {}
    for row in production_rows(snapshot.completed):
        marks.pop(row.version, None)  # it came back: somebody let it
        if (left := taken_out(row)) is not None:
            marks[left] = row
    for note in snapshot.notes:
        mark = marks.get(note.version) if note.kind is NoteKind.ALLOW and note.version is not None else None
        if mark is not None and note.recorded_at > mark.requested_at:
            marks = {version: row for version, row in marks.items() if row is not mark}
    rolled_back = {version: Hold(row.decided_by, row.reason, row.requested_at) for version, row in marks.items()}
    frozen = freeze_of(snapshot)
    return Holds(Hold(frozen.decided_by, frozen.reason, frozen.recorded_at) if frozen else None, rolled_back)


def freeze_of(snapshot: Snapshot) -> Note | None:
    """The freeze that is not lifted; None where there is none."""
    found = [note for note in snapshot.notes if note.kind in (NoteKind.FREEZE, NoteKind.UNFREEZE)]
    return found[-1] if found and found[-1].kind is NoteKind.FREEZE else None


def check_may_promote(workspace: Workspace, project: str, model: str, version: int) -> None:
    """Raises GateError where a freeze or the mark of a rollback keeps the version out of production."""
    raise_if_held(AuditLog(workspace, project, model).read(), registered_name(project, model), version)


def raise_if_held(snapshot: Snapshot, name: str, version: int) -> None:
    """As check_may_promote, for what the audit says at one moment."""
    found = holds_of(snapshot)
    if found.frozen:
        raise GateError(
            f"{name} is frozen ({found.frozen}), so version {version} is not promoted. Lift the freeze with "
            f"`penstock unfreeze {name} --reason …` (or the DAG {name}.promotion_control), then run this again"
        )
    raise_if_rolled_back(found, name, version)


def raise_if_rolled_back(found: Holds, name: str, version: int) -> None:
    """Raises GateError where the version was rolled back, and nobody has allowed it since."""
    if version in found.rolled_back:
        raise GateError(
            f"{name} version {version} was rolled back ({found.rolled_back[version]}), and does not come back by "
            f"itself. A person lets it: `penstock allow {name} {version} --reason …` (or the DAG "
            f"{name}.promotion_control), then run this again"
        )
