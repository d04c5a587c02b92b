"""Where a model comes from: the table `model_origins`, which training writes and which no MLflow login reaches.

Tags of a run or a version are anybody's who may write to MLflow, and so are its files. So training also notes, in the
lakehouse, the digest of the model's files as it wrote them; files with another digest are not what this environment's
pipeline made. A person who takes responsibility for a model from elsewhere adopts its digest. The files of a version
that the compliance check lets through although neither holds are noted as judged: that vouches for nothing, but they
cannot be exchanged any more.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import now, to_text
from penstock.gates import some
from penstock.lakehouse.git import CodeState, reviewed_on
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SystemTable
from penstock.training.errors import TrainingError
from penstock.training.model_folder import model_digest
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.training.trained_model import TrainedModel

NOT_IN_GIT = "not in Git"
CODE_TAG, UNCOMMITTED = "penstock.code", "penstock.uncommitted"


class OriginKind(StrEnum):
    """How a model got into this environment; or a file of its run that is held to what was written (`noted_files`)."""

    TRAINED = "trained"
    ADOPTED = "adopted"
    JUDGED = "judged"
    RECORD = "record"
    PROFILE = "profile"


@dataclass(frozen=True)
class Origin:
    """A row of `model_origins`.

    digest: of the model's files. code: the commit (with `-dirty`), None outside Git. reviewed_on: the branches that
    held it, separated by commas. version: that was adopted, or judged. decided_by, reason: of an adoption.
    trusts_pickle: whether the person vouches for files that run code when they are loaded.
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
    version: int | None = None


def trained_origin(trained: "TrainedModel", digest: str, tags: Mapping[str, str]) -> Origin:
    """What training says of the files that it has just written. tags: those that it gave its run."""
    from penstock.clock import parse_as_of

    code = tags.get(CODE_TAG)
    return Origin(
        model=trained.model, digest=digest, kind=OriginKind.TRAINED, as_of=parse_as_of(trained.as_of),
        run_id=trained.run_id, code=None if code in (None, NOT_IN_GIT) else code,
        reviewed_on=tags.get("penstock.reviewed_on") or None,
    )  # fmt: skip


def check_as_trained(workspace: Workspace, trained: "TrainedModel") -> None:
    """Raises TrainingError where a run's model is not made of the files that its training wrote."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        digest = model_digest(Path(download_artifacts(artifact_uri=trained.model_uri, dst_path=folder)))
    found = read_origins(workspace, trained.project, trained.model, digest=digest)
    if not any(row.kind is OriginKind.TRAINED and row.run_id == trained.run_id for row in found):
        raise TrainingError(
            f"the files of {trained.model_uri} (digest {digest[:12]}) are not those that run {trained.run_id} of "
            f"{trained.project}.{trained.model} wrote, by {trained.project}.{SystemTable.MODEL_ORIGINS}: they were "
            "exchanged in MLflow's artifact store since, or the run was made in another environment. Find out by whom, "
            "delete the run, and train again"
        )


def of_version(origins: Sequence[Origin], version: int, run_id: str | None) -> list[Origin]:
    """What is recorded of a version itself: its adoption, the training of its run, its compliance check."""
    trained = [found for found in origins if found.kind is OriginKind.TRAINED and run_id and found.run_id == run_id]
    by_version = {
        kind: [found for found in origins if found.kind is kind and found.version == version]
        for kind in (OriginKind.ADOPTED, OriginKind.JUDGED)
    }
    return [*by_version[OriginKind.ADOPTED], *trained, *by_version[OriginKind.JUDGED]]


def exchanged(origins: Sequence[Origin], digest: str, version: int, run_id: str | None) -> str | None:
    """Whose files a version's should be, where they are others: those that its run's training wrote, that a person
    adopted as this version, or that the compliance check judged as it; None where they are, or where nothing is known
    of the version.
    """
    own = of_version(origins, version, run_id)
    if not own or any(found.digest == digest for found in own):
        return None
    if own[0].kind is OriginKind.ADOPTED:
        return f"{own[0].decided_by} adopted"
    if own[0].kind is OriginKind.TRAINED:
        return f"training wrote (run {run_id})"
    return f"the compliance check judged (as of {to_text(own[0].as_of)})"


def exchange(digest: str, whose: str) -> str:
    """What is wrong with files of this digest, in words; whose: what `exchanged` answered."""
    return (
        f"its files (digest {digest[:12]}) are not those that {whose}: they were exchanged in MLflow's artifact store "
        "since"
    )


def voucher(origins: Sequence[Origin]) -> str | None:
    """Why files of these origins may be loaded although that runs code; None where they may not."""
    for found in origins:
        if found.kind is OriginKind.ADOPTED and found.trusts_pickle:
            return f"{found.decided_by} vouches for it ({found.reason})"
    for found in origins:
        if found.kind is OriginKind.TRAINED:
            return f"this environment's training made it (run {found.run_id})"
    return None


def how_to_adopt(name: str, version: int | str, *, trust_pickle: bool = False) -> str:
    """What a person does who takes responsibility for a version's files."""
    flag = " --trust-pickle" if trust_pickle else ""
    return f"penstock adopt {name} {version}{flag} --reason WHY (or the DAG {name}.promotion_control, action adopt)"


def origin_tags(workspace: Workspace, folder: Path, code: str | None) -> dict[str, str]:
    """The tags of a run that say in which environment it ran, and which of its branches hold the commit."""
    branches = reviewed_on(folder, code, workspace.environment.code.branches)
    return {"penstock.environment": workspace.environment.name, "penstock.reviewed_on": ", ".join(branches or ())}


def code_tags(code: CodeState) -> dict[str, str]:
    """The tags that say by which code something was made: its version, and the files with uncommitted changes."""
    named = {UNCOMMITTED: some(list(code.uncommitted))} if code.uncommitted else {}
    return {CODE_TAG: code.version or NOT_IN_GIT, **named}


def write_origin(workspace: Workspace, project: str, origin: Origin) -> None:
    """Writes a row; one with the same model, digest and kind is replaced."""
    from penstock.lakehouse.small_tables import write_system_rows

    row = {**vars(origin), "kind": str(origin.kind), "recorded_at": now(), "run": workspace.lineage.run}
    path = workspace.addresses.writable(f"{project}.{SystemTable.MODEL_ORIGINS}")
    write_system_rows(path, SystemTable.MODEL_ORIGINS, [row], record(origin.as_of, run=workspace.lineage.run))


def read_origins(
    workspace: Workspace, project: str, model: str, *, digest: str | None = None, run_id: str | None = None
) -> Sequence[Origin]:
    """What is known about a digest, or of a run, in this environment's own lakehouse: read-only roots vouch for
    nothing here.
    """
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.writable(f"{project}.{SystemTable.MODEL_ORIGINS}")
    if not DeltaTable.is_deltatable(path):
        return ()
    wanted = {"model": model, "digest": digest, "run_id": run_id}
    rows = read_arrow(path, filters=[(name, "=", value) for name, value in wanted.items() if value is not None])
    names = Origin.__dataclass_fields__
    return [
        Origin(**{**{name: row.get(name) for name in names}, "kind": OriginKind(row["kind"]),
                  "trusts_pickle": bool(row["trusts_pickle"])})
        for row in rows.to_pylist()
    ]  # fmt: skip
