"""Builds a registered version again from its record, and compares both row by row: the proof that it can be done.

What is taken from the record: the project's files at its commit, the training set from the table versions that it was
made from, parameters and seed. What cannot be taken back is compared: the installed packages, Penstock's own code, and
the modules that the project imports from elsewhere.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.clock import now, to_text
from penstock.errors import RegistryError, TableError
from penstock.features.training_set import TrainingSet, rebuild_training_set
from penstock.gates import Check, Outcome, Verdict
from penstock.lakehouse.git import DIRTY, export_commit, in_git, project_digest
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel
from penstock.registry.differences import Compared, check_metrics, check_predictions, check_surroundings
from penstock.training.errors import ScoringError, TrainingError
from penstock.training.loading import recorded_rows, where_it_lies
from penstock.training.noted_files import exchanged_file
from penstock.training.origins import NOT_IN_GIT, OriginKind
from penstock.training.refit import all_rows, refit
from penstock.training.surroundings import FILE_NAME as SURROUNDINGS
from penstock.training.surroundings import Surroundings, other_files
from penstock.training.trained_model import FILE_NAME, TrainedModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

GATE = "reproduction"
TAG = "penstock.reproduced"
REPORT = "reproduction"


@dataclass(frozen=True)
class _Record:
    """A registered version and what its training left behind."""

    registered: RegisteredModel
    version: "ModelVersion"
    trained: TrainedModel
    surroundings: Surroundings | None

    @property
    def subject(self) -> str:
        return f"{self.registered.name} version {self.version.version}"

    def was_made_from(self, folder: Path) -> bool | None:
        """Whether a project's folder holds the files of the training; None where its run does not say."""
        if self.trained.code_digest is None:
            return None
        if project_digest(folder) != self.trained.code_digest:
            return False
        others = self.surroundings.files if self.surroundings else None
        return others is None or other_files(folder) == others


def reproduce(workspace: Workspace, project_name: str, model_name: str, version: int) -> Verdict:
    """Whether a version comes out identical when it is built again from its record; each step is a check.

    Checks: `code`, `data`, `surroundings` (packages and machine), `predictions` (of every row of the training set, bit
    for bit), `metrics`. Where they differ, the check says by how much, and the likely cause. The verdict stays with
    the version: tag penstock.reproduced, and the folder reproduction/ of its run. No stage moves.

    Raises RegistryError for an unknown version and for one that training of Penstock did not make, TrainingError where
    its rows do not fit in memory here, ServiceError where MLflow or Spark does not answer.
    """
    workspace.project(project_name).model(model_name)
    record = _read(workspace, project_name, model_name, version)
    checks: list[Check] = []
    with _code(workspace, record, checks) as then:
        training_set = _data(then, record, checks)
        here = Surroundings.here(then.project(project_name).folder)
        checks.append(check_surroundings(record.surroundings, here, _requirements(then, record)))
        if training_set is not None:
            checks += _compare(then, record, training_set, checks)
    verdict = Verdict(GATE, record.subject, tuple(checks))
    _keep(workspace, record, verdict)
    return verdict


def _read(workspace: Workspace, project: str, model: str, version: int) -> _Record:
    registered = RegisteredModel(workspace, project, model)
    found = registered.version(version)
    text = registered.run_text(found, FILE_NAME)
    if text is None:
        raise RegistryError(
            f"{registered.name} version {version} has no {FILE_NAME} in its run: it was not trained by the training "
            "pipeline (or its run was deleted), so there is no record to build it from"
        )
    if problem := exchanged_file(workspace, project, model, registered.run_id(found), OriginKind.RECORD, text):
        raise RegistryError(f"{registered.name} version {version} is not built again: {problem}")
    about = registered.run_text(found, SURROUNDINGS)
    surroundings = Surroundings.from_dict(json.loads(about)) if about else None
    return _Record(registered, found, TrainedModel.from_dict(json.loads(text)), surroundings)


@contextmanager
def _code(workspace: Workspace, record: _Record, checks: list[Check]) -> Iterator[Workspace]:
    """A workspace with the projects as they were; today's where they are the same, or cannot be had any more."""
    trained = record.trained
    commit = record.version.tags.get("penstock.code", NOT_IN_GIT)
    folder = workspace.project(trained.project).folder
    if record.was_made_from(folder):
        checks.append(Check("code", Outcome.PASS, f"the project's files are those of the training ({commit})"))
        yield workspace
        return
    with tempfile.TemporaryDirectory(prefix="penstock-reproduce-") as name:
        include = workspace.root / "include"
        known = commit != NOT_IN_GIT
        target = export_commit(include, commit.removesuffix(DIRTY), Path(name)) if known else None
        if target is None or not (target / "projects" / trained.project).is_dir():
            why = _no_commit(record, commit, include) if known else "it was not in Git"
            checks.append(Check("code", Outcome.WARN, f"{why}; the project's present files take its place"))
            yield workspace
            return
        checks.append(_exported(record, commit, target / "projects" / trained.project))
        yield workspace.with_(root=target.parent)


def _no_commit(record: _Record, commit: str, include: Path) -> str:
    if in_git(include):
        return f"commit {commit} is not in the repository of {include}: fetch it"
    version = f"{record.registered.name} {record.version.version}"
    return (
        f"commit {commit} cannot be had here, since {include} lies in no repository, as in an image: run `penstock "
        f"reproduce {version}` with a checkout that has it: docs/how-to/reproduce-a-model.md, In a deployment of images"
    )


def _exported(record: _Record, commit: str, folder: Path) -> Check:
    if record.was_made_from(folder) is False:
        return Check(
            "code", Outcome.WARN,
            f"trained with changes that were not committed: commit {commit.removesuffix(DIRTY)} has other files",
        )  # fmt: skip
    return Check("code", Outcome.PASS, f"the project as it was at commit {commit}")


def _data(workspace: Workspace, record: _Record, checks: list[Check]) -> TrainingSet | None:
    """The training set, built again; else the stored one; None where neither can be had."""
    made = record.trained.training_set
    versions = ", ".join(f"{table}@{number}" for table, number in sorted(made.inputs.items()))
    try:
        rebuilt = rebuild_training_set(workspace, record.trained.project, made.id)
    except TableError as error:
        problem = str(error)
    else:
        checks.append(Check(
            "data", Outcome.PASS, f"{made.rows} rows built again from {versions}: the same (hash {made.hash})",
            {"inputs": made.inputs, "hash": made.hash},
        ))  # fmt: skip
        return rebuilt
    try:
        stored = where_it_lies(workspace, made)
        recorded_rows(workspace, record.trained, stored)
    except (TableError, OSError) as error:
        checks.append(Check("data", Outcome.FAIL, f"{problem}; nor is {made.table}@{made.version} there: {error}"))
        return None
    checks.append(Check(
        "data", Outcome.WARN, f"{problem}. The stored training set {made.table}@{made.version} takes its place",
    ))  # fmt: skip
    return stored


def _requirements(workspace: Workspace, record: _Record) -> list[str]:
    """The packages that the model declares: those whose version matters most."""
    from packaging.requirements import Requirement

    declared = workspace.project(record.trained.project).model(record.trained.model).training.requirements
    return [Requirement(text).name.lower().replace("_", "-") for text in declared]


def _compare(workspace: Workspace, record: _Record, training_set: TrainingSet, before: list[Check]) -> list[Check]:
    trained = record.trained
    split = recorded_rows(workspace, trained, training_set)
    try:
        scorer = load_version(workspace, record.registered.name, int(record.version.version))
        recorded = scorer.predict(all_rows(split))
    except ScoringError as error:
        return [Check("predictions", Outcome.FAIL, f"the registered version does not score its training set: {error}")]
    try:
        again = refit(workspace, trained, split)
    except TrainingError as error:
        return [Check("predictions", Outcome.FAIL, f"it could not be fitted again: {error}")]
    compared = Compared(recorded, again.predictions)
    if not compared.identical:
        compared = compared.with_repeat(refit(workspace, trained, split).predictions)
    metric = next(iter(trained.metrics))
    logged = {metric: trained.metrics[metric], **record.registered.run_metrics(record.version)}
    found = {**({metric: again.tuned} if again.tuned is not None else {}), **again.hold_out}
    return [check_predictions(compared, before), check_metrics(logged, found)]


def _keep(workspace: Workspace, record: _Record, verdict: Verdict) -> None:
    from mlflow import MlflowClient

    moment = to_text(now())
    state = "identical" if verdict.passed else "differs"
    report: dict[str, Any] = {**verdict.to_dict(), "at": moment, "run": workspace.lineage.run}
    client, run_id = MlflowClient(workspace.resolved.mlflow_uri), record.trained.run_id
    client.log_dict(run_id, report, f"{REPORT}/reproduction.json")
    client.log_text(run_id, f"{verdict.to_markdown()}\n\nAt {moment}.\n", f"{REPORT}/reproduction.md")
    record.registered.tag(int(record.version.version), {TAG: f"{state} at {moment}: {verdict.reason}"})
