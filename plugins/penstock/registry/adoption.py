"""Adoption: a person takes responsibility for a version that this environment's reviewed code did not train."""

import hashlib
from datetime import datetime

from penstock.errors import GateError
from penstock.registry.approval import check_may_approve
from penstock.registry.audit import Snapshot
from penstock.registry.compliance.gate import open_subject
from penstock.registry.compliance.record import ORIGIN_TAG
from penstock.registry.notes import Note, NoteKind
from penstock.registry.settling import keep_note
from penstock.training.origins import Origin, OriginKind, write_origin
from penstock.workspace import Workspace


def adopt_version(
    workspace: Workspace, project: str, model: str, version: int, decided_by: str, reason: str, as_of: datetime, *,
    trust_pickle: bool = False,
) -> Origin:  # fmt: skip
    """Records who takes responsibility for a version's files, and why; moves no stage: its gates are still to pass.

    It holds for exactly these files (their digest). trust_pickle: the person also vouches for files that run code when
    they are loaded. Again with another reason replaces it; the same again completes what was killed on its way.

    Raises GateError without a person or a reason, or for a person who is no approver here; RegistryError for an
    unknown version.
    """
    if not (decided_by.strip() and reason.strip()):
        raise GateError(f"{project}.{model} version {version}: who adopts it, and why? Name a person, and say why")
    check_may_approve(workspace, f"{project}.{model} version {version}", decided_by)
    with open_subject(workspace, project, model, version, as_of) as subject:
        if subject.files.problem is not None:
            raise GateError(f"{subject.files.uri} cannot be adopted: {subject.files.problem}")
        adopted = Origin(
            model=model, digest=subject.files.digest, kind=OriginKind.ADOPTED, as_of=as_of,
            run_id=subject.registered.run_id(subject.version), decided_by=decided_by, reason=reason,
            trusts_pickle=trust_pickle, version=version,
        )  # fmt: skip
        _note(workspace, project, version, adopted)  # first: nothing counts as adopted that the audit does not know
        write_origin(workspace, project, adopted)
        subject.registered.tag(version, {ORIGIN_TAG: f"adopted by {decided_by}"})
    return adopted


def _note(workspace: Workspace, project: str, version: int, adopted: Origin) -> None:
    """Keeps the decision in the audit, once."""
    person, reason = str(adopted.decided_by), str(adopted.reason)
    words = hashlib.sha256(f"{person}\0{reason}\0{adopted.trusts_pickle}".encode()).hexdigest()[:12]
    note_id = f"{adopted.model}/{NoteKind.ADOPTION}/{version}/{adopted.digest[:12]}/{words}"
    evidence = {"digest": adopted.digest, "run_id": adopted.run_id, "trusts_pickle": adopted.trusts_pickle}

    def decide(snapshot: Snapshot) -> Note:
        return Note(
            note_id, adopted.model, NoteKind.ADOPTION, version, person, reason, adopted.as_of, snapshot.next_moment(),
            evidence, workspace.lineage.run,
        )  # fmt: skip

    keep_note(workspace, project, adopted.model, decide)


def adoption_of(workspace: Workspace, project: str, model: str, version: int, as_of: datetime) -> Origin | None:
    """Who adopted a version, and why; None where it needed nobody, or nobody did."""
    with open_subject(workspace, project, model, version, as_of) as subject:
        return subject.provenance.adopted if subject.provenance.problems else None
