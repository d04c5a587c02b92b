"""Staged batches: what a refresh is about to merge, in a table that nobody else reads.

Each try stages into a folder of its own, `_staging_<table>/<batch>`, which is removed once it is merged; what
failed and killed tries leave is removed by a later refresh.
"""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.features.known import KNOWN_AT
from penstock.lakehouse.records import BackfillProgress
from penstock.spec.project import FeatureTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHANGE = "_change"
PREVIOUS = "_previous"
_KEPT = timedelta(days=2)  # longer than any task, so that no refresh loses what it is about to merge


class Change(StrEnum):
    """What a staged row does to the table; the column `_change` of a staging table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Mode(StrEnum):
    """How much of a table a refresh computes."""

    INCREMENTAL = "incremental"
    FULL = "full"
    BACKFILL = "backfill"


@dataclass(frozen=True)
class StagedBatch:
    """Rows to merge into a feature table: a staging table at a version, and what they were made from.

    The staging table has the feature table's columns and `_known_at`, and `_change` and `_previous`: what a row does,
    and the row version that it replaces or removes. `planned_mark` is the table's mark that it was planned after;
    `sources` has the digests of the files that `definition` was made of.
    """

    id: str
    project: str
    table: str
    path: str
    version: int
    rows: int
    mode: Mode
    why: str
    as_of: str
    known_at: str
    inputs: dict[str, int]
    input_ids: dict[str, str]
    planned_mark: int | None
    planned_version: int
    definition: str
    backfill: BackfillProgress | None = None
    sources: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: dict[str, object]) -> "StagedBatch":
        """The batch in JSON values (of an XCom)."""
        progress = value.get("backfill")
        done = BackfillProgress(**progress) if isinstance(progress, dict) else None
        return cls(**{**value, "mode": Mode(str(value["mode"])), "backfill": done})  # type: ignore[arg-type]


def app_id(project: str, table: str) -> str:
    """The consumer whose marks the commits of a feature table carry."""
    return f"refresh:{project}.{table}"


def stored_names(spec: FeatureTable) -> list[str]:
    """The columns of a feature table as it is stored."""
    return [*spec.columns, KNOWN_AT]


def new_staging(workspace: Workspace, project: str, table: str) -> tuple[str, str]:
    """The id and the path of a new batch; what tries of some days ago left is removed."""
    folder = workspace.addresses.writable(f"{project}._staging_{table}")
    _sweep(folder, datetime.now(UTC) - _KEPT)
    batch = uuid.uuid4().hex
    return batch, f"{folder}/{batch}"


def remove_staging(path: str) -> None:
    """Removes a staged batch; nothing where it is gone."""
    from pyarrow.fs import FileType

    system, inner = _open(path)
    if system.get_file_info(inner).type == FileType.Directory:
        system.delete_dir(inner)


def _sweep(folder: str, before: datetime) -> None:
    from pyarrow.fs import FileSelector, FileType

    system, inner = _open(folder)
    for found in system.get_file_info(FileSelector(inner, allow_not_found=True)):
        if found.type != FileType.Directory:
            continue
        # folders of an object store have no time: their newest file says when they were written
        within = system.get_file_info(FileSelector(found.path, recursive=True))
        times = [info.mtime for info in (found, *within) if info.mtime is not None]
        if times and max(times) < before:
            system.delete_dir(found.path)


def _open(path: str) -> tuple["FileSystem", str]:
    from pyarrow.fs import FileSystem, LocalFileSystem

    return FileSystem.from_uri(path) if "://" in path else (LocalFileSystem(), path)
