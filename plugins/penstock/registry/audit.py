"""The table `deployments`: who moved which version to which stage, when and why; and what else was decided.

A commit succeeds only on the version of the table that was read (compare and swap), so what a writer
concluded from its snapshot still holds when its rows are in.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import create_if_missing, read, to_arrow
from penstock.lakehouse.system_tables import SYSTEM_TABLES, SystemTable
from penstock.registry.notes import TRANSITION, Note, json_values, moment
from penstock.registry.stages import Stage
from penstock.spec.project import Column
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable

CREATED = "created_at"  # in a row's plan: when MLflow made the version, which tells it from others of its number
_DEFINITION = SYSTEM_TABLES[SystemTable.DEPLOYMENTS]


class State(StrEnum):
    """How far a transition is."""

    PENDING = "pending"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    REVERTED = "reverted"


class Conflict(Exception):
    """Somebody else wrote first: read again, and decide again."""


@dataclass(frozen=True)
class DeploymentRow:
    """One transition of one version. Rows of one `group` were requested together and complete together."""

    transition_id: str
    model: str
    version: int
    from_stage: Stage
    to_stage: Stage
    decided_by: str
    reason: str
    as_of: datetime
    requested_at: datetime
    state: State = State.PENDING
    completed_at: datetime | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    run: str = "python"

    @property
    def plan(self) -> dict[str, Any]:
        """What the transition itself noted: its group, the aliases before it, why it came about."""
        return dict(self.evidence.get("transition", {}))

    @property
    def group(self) -> str:
        """The id of the transition that this row belongs to: its own, or that of the one that displaced it."""
        return str(self.plan.get("group", self.transition_id))

    def ended(self, state: State, reason: str | None = None) -> "DeploymentRow":
        """The row with its last state."""
        return replace(self, state=state, completed_at=now(), reason=reason or self.reason)

    def to_record(self) -> dict[str, Any]:
        """The row as the table's columns."""
        evidence = json.dumps(json_values(self.evidence), sort_keys=True, default=str)
        values = {name: getattr(self, name) for name in _DEFINITION.columns if name != "kind"}
        return {
            **values, "kind": TRANSITION, "from_stage": str(self.from_stage), "to_stage": str(self.to_stage),
            "state": str(self.state), "evidence": evidence,
        }  # fmt: skip

    @classmethod
    def from_record(cls, values: dict[str, Any]) -> "DeploymentRow":
        """The reverse of `to_record`."""
        return cls(
            transition_id=values["transition_id"], model=values["model"], version=int(values["version"]),
            from_stage=Stage(values["from_stage"]), to_stage=Stage(values["to_stage"]),
            decided_by=values["decided_by"], reason=values["reason"],
            as_of=values["as_of"].to_pydatetime(), requested_at=values["requested_at"].to_pydatetime(),
            state=State(values["state"]),
            completed_at=moment(values["completed_at"]), evidence=json.loads(values["evidence"] or "{}"),
            run=values["run"] or "python",
        )  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A model's transitions and notes in the order of their requests, at one version of the table."""

    rows: tuple[DeploymentRow, ...] = ()
    table: "DeltaTable | None" = None
    notes: tuple[Note, ...] = ()

    def find(self, transition_id: str) -> DeploymentRow | None:
        """A row by its id."""
        return next((row for row in self.rows if row.transition_id == transition_id), None)

    @property
    def pending(self) -> tuple[DeploymentRow, ...]:
        """The rows of the transition that is under way: the one whose group it is comes first."""
        found = [row for row in self.rows if row.state is State.PENDING]
        return tuple(sorted(found, key=lambda row: row.transition_id != row.group))

    @cached_property
    def completed(self) -> tuple[DeploymentRow, ...]:
        """The transitions that took place."""
        return tuple(row for row in self.rows if row.state is State.COMPLETED)

    @property
    def aliases(self) -> dict[str, int]:
        """Where the completed transitions leave the aliases."""
        found: dict[str, int] = {}
        for row in self.completed:
            found = {alias: version for alias, version in found.items() if version != row.version}
            if row.to_stage is Stage.PRODUCTION:
                found["production"] = row.version
            elif row.to_stage is Stage.STAGING:
                found["staging"] = row.version
        return found

    def is_version(self, version: int, created_at: int | None) -> bool:
        """Whether what MLflow made at that moment (None: it has no such version) is the version that was moved here.

        Where a registered model was deleted and made again, MLflow numbers from 1 once more.
        """
        noted = next((row.plan[CREATED] for row in self.rows if row.version == version and CREATED in row.plan), None)
        return created_at is not None and noted in (None, created_at)

    def stage(self, version: int) -> Stage:
        """Where the completed transitions leave a version."""
        rows = [row for row in self.completed if row.version == version]
        return rows[-1].to_stage if rows else Stage.NONE

    def latest(self, version: int) -> DeploymentRow:
        """The transition that brought a version to where it stands. Raises IndexError where there is none."""
        return [row for row in self.completed if row.version == version][-1]

    def next_moment(self) -> datetime:
        """A wall-clock moment after every request so far, whatever this machine's clock says."""
        times = [*(row.requested_at for row in self.rows), *(note.recorded_at for note in self.notes)]
        latest = max(times, default=None)
        return now() if latest is None else max(now(), latest + timedelta(microseconds=1))


class AuditLog:
    """A model's part of `<project>.deployments`."""

    def __init__(self, workspace: Workspace, project: str, model: str) -> None:
        self._workspace, self._project, self._model = workspace, project, model

    def read(self) -> Snapshot:
        """The transitions so far; empty before the first."""
        from deltalake import DeltaTable

        path = self._workspace.addresses.writable(f"{self._project}.{SystemTable.DEPLOYMENTS}")
        if not DeltaTable.is_deltatable(path):
            return Snapshot()
        table = DeltaTable(path)
        frame = read(path, version=table.version(), filters=[("model", "=", self._model)])
        records = frame.to_dict("records")  # rows that were written before there were notes have no kind
        rows = [DeploymentRow.from_record(values) for values in records if _kind(values) == TRANSITION]
        notes = [Note.from_record(values) for values in records if _kind(values) != TRANSITION]
        return Snapshot(
            tuple(sorted(rows, key=lambda row: (row.requested_at, row.transition_id))), table,
            tuple(sorted(notes, key=lambda note: (note.recorded_at, note.note_id))),
        )  # fmt: skip

    def commit(self, snapshot: Snapshot, rows: Sequence[DeploymentRow | Note]) -> None:
        """Writes rows by their ids, all or none. Raises Conflict where the table is no longer as it was read."""
        import pandas as pd
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError

        table = snapshot.table if snapshot.table is not None else self._create()
        if "kind" not in {field.name for field in table.schema().fields}:
            table = self._create()  # adds the column, and raises Conflict: the table is another by that
        commit = record(
            max(row.as_of for row in rows), folder=self._workspace.project(self._project).folder,
            run=self._workspace.lineage.run,
        )  # fmt: skip
        frame = pd.DataFrame([row.to_record() for row in rows], columns=list(_DEFINITION.columns)).astype(object)
        keys = list(_DEFINITION.keys)
        arrow = to_arrow(frame.where(frame.notna(), None), _DEFINITION.columns, "deployments", keys)
        properties = CommitProperties(custom_metadata={"userMetadata": commit.to_json()}, max_commit_retries=0)
        merge = table.merge(
            arrow, "s.transition_id = t.transition_id", source_alias="s", target_alias="t", commit_properties=properties
        )
        try:
            merge.when_matched_update_all().when_not_matched_insert_all().execute()
        except CommitFailedError as error:
            raise Conflict(str(error)) from error

    def _create(self) -> "DeltaTable":
        from deltalake.exceptions import DeltaError

        path = self._workspace.addresses.writable(f"{self._project}.{SystemTable.DEPLOYMENTS}")
        columns = {name: Column(type=kind) for name, kind in _DEFINITION.columns.items()}
        try:
            table = create_if_missing(path, columns, keys=list(_DEFINITION.keys), description=_DEFINITION.description)
        except DeltaError as error:
            raise Conflict(str(error)) from error
        if table.version() > 0:
            raise Conflict(f"{path} was written meanwhile")
        return table


def _kind(values: dict[str, Any]) -> str:
    return str(values.get("kind") or TRANSITION)
