"""Where a version's files come from: what the lakehouse recorded of them, against the run that MLflow names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.lakehouse.git import BRANCH_VARIABLE, DIRTY, VERSION_VARIABLE, in_git, reviewed_on
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance.registered import check, failed, passed
from penstock.spec.compliance import Severity
from penstock.spec.loading import LoadedProject
from penstock.training.model_folder import ModelFiles
from penstock.training.origins import (
    UNCOMMITTED,
    Origin,
    OriginKind,
    exchanged,
    how_to_adopt,
    of_version,
    read_origins,
    write_origin,
)  # fmt: skip
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject


@dataclass(frozen=True)
class Provenance:
    """trained: what the pipeline recorded of these files; adopted: who took responsibility for them.

    problems: why they do not count as trained here from reviewed code; empty where they do. origins: all that is
    recorded of these files. is_held: whether anything is recorded that the version's files are held against.
    exchanged: whose they should be, where they are others.
    """

    trained: Origin | None = None
    adopted: Origin | None = None
    problems: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    is_held: bool = False
    exchanged: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this environment's pipeline made exactly these files."""
        return self.trained is not None

    @property
    def said(self) -> str:
        """Where it comes from, in a few words, for the tag `penstock.origin`."""
        if self.adopted is not None:
            return f"adopted by {self.adopted.decided_by}"
        if self.trained is None:
            return "elsewhere"
        return f"trained here from {self.trained.code or 'code outside Git'}"


def find_provenance(
    workspace: Workspace, project: LoadedProject, model_name: str, registered: RegisteredModel,
    version: "ModelVersion", files: ModelFiles,
) -> Provenance:  # fmt: skip
    """What is known about a version's files; nothing of them is loaded."""
    rows, number = read_origins(workspace, project.name, model_name), int(version.version)
    of_files = sorted((row for row in rows if row.digest == files.digest), key=lambda row: row.version == number)
    found = {row.kind: row for row in of_files}
    trained, adopted = found.get(OriginKind.TRAINED), found.get(OriginKind.ADOPTED)
    run_id = registered.run_id(version)
    whose = exchanged(rows, files.digest, number, run_id) if files.problem is None else None
    held = bool(of_version(rows, number, run_id))
    known: dict[str, Any] = {"origins": tuple(of_files), "is_held": held, "exchanged": whose}
    if trained is None:
        problem = (
            f"nothing in {project.name}.model_origins says that training in {workspace.environment.name} made these "
            "files: they were trained elsewhere, or changed since"
        )
        return Provenance(None, adopted, (problem,), **known)
    branches = reviewed_on(project.folder, trained.code, workspace.environment.code.branches)
    if branches is None:  # no repository here: as the run found it
        branches = tuple(name for name in (trained.reviewed_on or "").split(", ") if name)
    tags = registered.run_tags(version)
    problems = [
        *_code_problems(workspace, project, trained, branches, tags or {}),
        *_run_problems(workspace, run_id, trained, tags),
    ]
    return Provenance(trained, adopted, tuple(problems), branches, **known)


def keep_judged(subject: "Subject") -> None:
    """Notes which files were judged, of a version that nothing else holds to its files: others are not loaded as it."""
    if subject.provenance.is_held:
        return
    judged = Origin(
        model=subject.model_name, digest=subject.files.digest, kind=OriginKind.JUDGED, as_of=subject.as_of,
        run_id=subject.registered.run_id(subject.version), version=int(subject.version.version),
    )  # fmt: skip
    write_origin(subject.workspace, subject.project.name, judged)


def _code_problems(
    workspace: Workspace, project: LoadedProject, trained: Origin, branches: tuple[str, ...], tags: Mapping[str, str]
) -> list[str]:
    if trained.code is None:
        return [f"the code that trained it is not in Git{_outside_git(project)}"]
    if trained.code.endswith(DIRTY):
        named = f" of {tags[UNCOMMITTED]}" if tags.get(UNCOMMITTED) else ""
        return [f"it was trained from a working tree with uncommitted changes{named} ({trained.code[:12]}…-dirty)"]
    wanted = workspace.environment.code.branches
    if wanted and not branches:
        reviewed = f"its commit {trained.code[:12]} is on none of the reviewed branches {', '.join(wanted)}"
        return [f"{reviewed}{_outside_git(project)}"]
    return []


def _outside_git(project: LoadedProject) -> str:
    """What says by which code something is trained where there is no repository, for who wonders; else nothing."""
    if in_git(project.folder):
        return ""
    said = {name: os.environ.get(name) or "not set" for name in (VERSION_VARIABLE, BRANCH_VARIABLE)}
    return (
        f" ({project.folder} lies in no repository, so the commit and branch that its image was built from are those "
        f"in {', '.join(f'{name} ({value})' for name, value in said.items())}: "
        "docs/how-to/deploy-with-compose.md says how to build it with them)"
    )


def _run_problems(
    workspace: Workspace, run_id: str | None, trained: Origin, tags: Mapping[str, str] | None
) -> list[str]:
    """What the MLflow run that the version names says otherwise than the lakehouse."""
    if run_id != trained.run_id:
        return [f"the version names the run {run_id}, but its files come from {trained.run_id}"]
    if tags is None:
        return [f"the run {run_id} that made it is gone from MLflow"]
    said = {
        "penstock.code": trained.code or "not in Git",
        "penstock.environment": workspace.environment.name,
    }
    return [
        f"its run's tag {name} is {tags.get(name)!r}, and should be {value!r}" for name, value in said.items()
        if tags.get(name) != value
    ]  # fmt: skip


@check("origin", in_dev=Severity.WARN, environments=True)
def check_origin(subject: "Subject") -> "Check":
    """Trained by this environment's pipeline from a reviewed commit: the digest of its files stands in
    `model_origins`, its MLflow run agrees with that, its working tree was clean (the whole repository's code and
    declarations, but for docs and tests), and its commit is on one of the environment's `code.branches` (by Git, or as
    the run recorded it where there is no repository). A version from
    elsewhere, from a dirty tree or from an unreviewed commit passes only when a person adopts it: `penstock adopt`.
    """
    found = subject.provenance
    evidence: dict[str, Any] = {
        "digest": subject.files.digest, "problems": list(found.problems),
        "code": found.trained.code if found.trained else None, "reviewed_on": list(found.branches),
        "run_id": found.trained.run_id if found.trained else None,
    }  # fmt: skip
    if not found.problems:
        assert found.trained is not None  # else there is a problem
        where = f", reviewed on {', '.join(found.branches)}" if found.branches else ""
        return passed(f"trained here from commit {str(found.trained.code)[:12]}{where}", **evidence)
    why = "; ".join(found.problems)
    if found.adopted is not None:
        person, reason = found.adopted.decided_by, found.adopted.reason
        evidence["adopted"] = {"decided_by": person, "reason": reason}
        return passed(f"{person} adopted it ({reason}), although {why}", **evidence)
    branches = " or ".join(subject.workspace.environment.code.branches) or "a commit"
    return failed(
        f"{why}. Train it here from {branches}, or let a person take responsibility: "
        f"{how_to_adopt(subject.registered.name, subject.version.version)}",
        **evidence,
    )
