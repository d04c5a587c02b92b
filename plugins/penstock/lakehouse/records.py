"""What every commit of Penstock says about itself: as_of, inputs by version, code, run (rule 8).

It is the JSON in the commit's `userMetadata`, which Spark and deltalake both write and read.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import penstock
from penstock.clock import parse_as_of, to_text
from penstock.errors import TableError
from penstock.lakehouse.git import code_state

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class BackfillProgress:
    """How far the computing again of rows that were already there has come.

    definition: what the rows are computed by. start, until: the range of event times (start excluded; None: from
    the first, to the last). done_until: the event time up to which it is done; None before the first piece.
    finished: all is done, the table is of this definition; until then covered: the ranges that are done, by this
    backfill and those of other ranges before it.
    """

    definition: str
    start: str | None = None
    until: str | None = None
    done_until: str | None = None
    finished: bool = False
    covered: list[list[str | None]] = field(default_factory=list)


@dataclass(frozen=True)
class CommitRecord:
    """From what, up to when, by which code and run a table's version was made.

    inputs: versions by name; input_ids: the Delta ids of the same tables. batch: the staged batch that was merged, a
    mark of this one write, or the task that wrote it.
    backfill: the table's newest backfill, finished or not. known_by_inputs: whether rows that are new count as known
    once their inputs were, not at their event time whatever they are made from. sources: by file of the project, the
    digest of what `definition` was made of. Records of older versions lack the later fields.
    """

    as_of: str
    inputs: dict[str, int] = field(default_factory=dict)
    definition: str | None = None
    code: str | None = None
    library: str = penstock.__version__
    run: str = "python"
    input_ids: dict[str, str] = field(default_factory=dict)
    batch: str | None = None
    backfill: BackfillProgress | None = None
    known_by_inputs: bool = False
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def as_of_moment(self) -> datetime:
        """as_of as a UTC datetime."""
        return parse_as_of(self.as_of)

    def to_json(self) -> str:
        """The text that goes into the commit."""
        return json.dumps({"penstock": asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> "CommitRecord | None":
        """The record in a commit's userMetadata; None where somebody else wrote it."""
        if not text or '"penstock"' not in text:
            return None
        values = json.loads(text)["penstock"]
        if values.get("backfill"):
            values["backfill"] = BackfillProgress(**values["backfill"])
        return cls(**values)


def record(
    as_of: datetime,
    inputs: dict[str, int] | None = None,
    *,
    folder: Path | None = None,
    definition: str | None = None,
    run: str = "python",
) -> CommitRecord:
    """A record for a commit made now by the code in `folder`."""
    return CommitRecord(
        as_of=to_text(as_of),
        inputs=inputs or {},
        definition=definition,
        code=code_state(folder).version if folder else None,
        run=run,
    )


def version_of(path: str, commit: CommitRecord) -> int:
    """The version that a commit made, whatever others wrote since; its `batch` tells it from the rest.

    Raises TableError where the table's log has no such commit.
    """
    from deltalake import DeltaTable

    for entry in DeltaTable(path).history():
        if CommitRecord.from_json(entry.get("userMetadata")) == commit:
            return int(entry["version"])
    raise TableError(f"{path}: its log has no commit of the write {commit.batch}: was the table dropped meanwhile?")


def latest_record(table: "DeltaTable | str") -> CommitRecord | None:
    """The newest record in a table's history; None where there is none."""
    found = latest_commit(table)
    return found[1] if found else None


def oldest_record(table: "DeltaTable") -> CommitRecord | None:
    """The first record in a table's history, as far as its log reaches; None where there is none."""
    return next(iter(reversed(all_records(table))), None)


def all_records(table: "DeltaTable") -> list[CommitRecord]:
    """The records in a table's history, the newest first, as far as its log reaches."""
    found = (CommitRecord.from_json(commit.get("userMetadata")) for commit in table.history())
    return [record for record in found if record is not None]


def latest_commit(table: "DeltaTable | str") -> tuple[int, CommitRecord] | None:
    """The newest version of a table that has a record, and the record; None where there is none."""
    from deltalake import DeltaTable

    if isinstance(table, str):
        if not DeltaTable.is_deltatable(table):
            return None
        table = DeltaTable(table)
    for commit in table.history():
        found = CommitRecord.from_json(commit.get("userMetadata"))
        if found is not None:
            return int(commit["version"]), found
    return None
