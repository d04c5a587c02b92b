"""Where a model comes from: the table `model_origins`, which training writes and which no MLflow login reaches.

Tags of a run or a version are anybody's who may write to MLflow. So training also notes, in the lakehouse, the digest
of the model's files; files with another digest are not what this environment's pipeline made. A person who takes
responsibility for a model from elsewhere adopts its digest.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import now
from penstock.lakehouse.git import reviewed_on
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SystemTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.training.runs import TrainingRun

_ADDED_BY_THE_REGISTRY = "registered_model_meta"


class OriginKind(StrEnum):
    """How a model got into this environment."""

    TRAINED = "trained"
    ADOPTED = "adopted"


@dataclass(frozen=True)
class Origin:
    """A row of `model_origins`.

    digest: of the model's files. code: the commit (with `-dirty`), None outside Git. reviewed_on: the branches that
    held it, separated by commas. decided_by, reason: of an adoption. trusts_pickle: whether the person vouches for
    files that run code when they are loaded.
    """

    model: str
    digest: str
    kind: OriginKind
    as_of: datetime
    run_id: str | None = None
    code: str | None = None
    reviewed_on: str | None = None
    decided_by: str | None = None
    reason: str | None = None
    trusts_pickle: bool = False


def model_digest(folder: Path) -> str:
    """A digest of the names and contents of a model's files, as its run logged them."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _ADDED_BY_THE_REGISTRY:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def record_trained(run: "TrainingRun") -> None:
    """Notes that this environment's pipeline made a run's model; a repeat changes nothing."""
    from mlflow.artifacts import download_artifacts

    from penstock.clock import parse_as_of

    tags = run.run.data.tags
    code = tags.get("penstock.code")
    with tempfile.TemporaryDirectory() as folder:
        digest = model_digest(Path(download_artifacts(artifact_uri=run.trained.model_uri, dst_path=folder)))
    found = Origin(
        model=run.trained.model, digest=digest, kind=OriginKind.TRAINED, as_of=parse_as_of(run.trained.as_of),
        run_id=run.run.info.run_id, code=None if code in (None, NOT_IN_GIT) else code,
        reviewed_on=tags.get("penstock.reviewed_on") or None,
    )  # fmt: skip
    if found not in read_origins(run.workspace, run.trained.project, found.model, digest):
        write_origin(run.workspace, run.trained.project, found)


NOT_IN_GIT = "not in Git"


def origin_tags(workspace: Workspace, folder: Path, code: str | None) -> dict[str, str]:
    """The tags of a run that say in which environment it ran, and which of its branches hold the commit."""
    branches = reviewed_on(folder, code, workspace.environment.code.branches)
    return {"penstock.environment": workspace.environment.name, "penstock.reviewed_on": ", ".join(branches or ())}


def write_origin(workspace: Workspace, project: str, origin: Origin) -> None:
    """Writes a row; one with the same model, digest and kind is replaced."""
    from penstock.lakehouse.small_tables import write_system_rows

    row = {**vars(origin), "kind": str(origin.kind), "recorded_at": now(), "run": workspace.lineage.run}
    path = workspace.addresses.writable(f"{project}.{SystemTable.MODEL_ORIGINS}")
    write_system_rows(path, SystemTable.MODEL_ORIGINS, [row], record(origin.as_of, run=workspace.lineage.run))


def read_origins(workspace: Workspace, project: str, model: str, digest: str) -> Sequence[Origin]:
    """What is known about a digest, in this environment's own lakehouse: read-only roots vouch for nothing here."""
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.writable(f"{project}.{SystemTable.MODEL_ORIGINS}")
    if not DeltaTable.is_deltatable(path):
        return ()
    rows = read_arrow(path, filters=[("model", "=", model), ("digest", "=", digest)]).to_pylist()
    names = Origin.__dataclass_fields__
    return [
        Origin(**{**{name: row[name] for name in names}, "kind": OriginKind(row["kind"]),
                  "trusts_pickle": bool(row["trusts_pickle"])})
        for row in rows
    ]  # fmt: skip
