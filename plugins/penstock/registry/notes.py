"""Notes: decisions about a model that move no version by themselves, kept in the audit beside the transitions.

They stand in the same table, so that one commit sees them all: a transition's compare and swap fails where a
freeze came between its reading and its writing.
"""

import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from penstock.lakehouse.system_tables import SYSTEM_TABLES, SystemTable

TRANSITION = "transition"
_COLUMNS = SYSTEM_TABLES[SystemTable.DEPLOYMENTS].columns


class NoteKind(StrEnum):
    """What was decided; the column `kind` (that of a transition is `transition`)."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    ALLOW = "allow"
    """A version that was rolled back may be promoted again."""
    APPROVAL = "approval"
    """How a request for approval was answered: by whom and why, or that it expired."""
    REFUSED = "refused"
    """An answer that did not count: the person may not approve."""
    ADOPTION = "adoption"
    """A person took responsibility for a version that this environment's reviewed code did not train."""
    FOLLOW_UP = "follow_up"
    """What a window after a promotion says of the promise."""
    COMPLIANCE = "compliance"
    """A verdict of the compliance check that moved nothing: the version stood already where it leads."""


@dataclass(frozen=True)
class Note:
    """One decision about a model, or about a version of it. The same decision has the same id."""

    note_id: str
    model: str
    kind: NoteKind
    version: int | None
    decided_by: str
    reason: str
    as_of: datetime
    recorded_at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)
    run: str = "python"

    def to_record(self) -> dict[str, Any]:
        """The note as the table's columns; it has no stages."""
        known = {
            "transition_id": self.note_id, "kind": str(self.kind), "model": self.model, "version": self.version,
            "state": "completed", "decided_by": self.decided_by, "reason": self.reason, "as_of": self.as_of,
            "evidence": json.dumps(json_values(self.evidence), sort_keys=True, default=str),
            "requested_at": self.recorded_at, "completed_at": self.recorded_at, "run": self.run,
        }  # fmt: skip
        return {name: known.get(name) for name in _COLUMNS}

    @classmethod
    def from_record(cls, values: dict[str, Any]) -> "Note":
        """The reverse of `to_record`."""
        import pandas as pd

        version = values["version"]
        return cls(
            note_id=values["transition_id"], model=values["model"], kind=NoteKind(values["kind"]),
            version=None if pd.isna(version) else int(version), decided_by=values["decided_by"],
            reason=values["reason"], as_of=values["as_of"].to_pydatetime(),
            recorded_at=values["requested_at"].to_pydatetime(), evidence=json.loads(values["evidence"] or "{}"),
            run=values["run"] or "python",
        )  # fmt: skip


def json_values(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinities become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return value


def moment(value: Any) -> datetime | None:
    """A timestamp of a row as a datetime; None where it is null."""
    import pandas as pd

    return None if pd.isna(value) else value.to_pydatetime()
