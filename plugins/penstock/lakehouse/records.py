"""What every commit of Penstock says about itself: as_of, inputs by version, code, run (rule 8).

It is the JSON in the commit's `userMetadata`, which Spark and deltalake both write and read.
"""

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import penstock
from penstock.clock import parse_as_of, to_text

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class CommitRecord:
    """From what, up to when, by which code and run a table's version was made."""

    as_of: str
    inputs: dict[str, int] = field(default_factory=dict)
    definition: str | None = None
    code: str | None = None
    library: str = penstock.__version__
    run: str = "python"

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
        return cls(**json.loads(text)["penstock"])


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
        code=code_version(folder) if folder else None,
        run=run,
    )


@cache
def code_version(folder: Path) -> str | None:
    """The Git commit of a folder, with `-dirty` where it has uncommitted changes.

    Outside Git (in an image) PENSTOCK_CODE_VERSION; None where that is not set either.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)

    head = git("rev-parse", "HEAD")
    if head.returncode:
        return os.environ.get("PENSTOCK_CODE_VERSION") or None
    dirty = git("status", "--porcelain", "--", ".").stdout.strip()
    return head.stdout.strip() + ("-dirty" if dirty else "")


def latest_record(table: "DeltaTable | str") -> CommitRecord | None:
    """The newest record in a table's history; None where there is none."""
    from deltalake import DeltaTable

    if isinstance(table, str):
        if not DeltaTable.is_deltatable(table):
            return None
        table = DeltaTable(table)
    for commit in table.history():
        found = CommitRecord.from_json(commit.get("userMetadata"))
        if found is not None:
            return found
    return None
