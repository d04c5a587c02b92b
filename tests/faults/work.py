"""What is killed: training and promotion as plain functions, in a child process that has everything imported."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"  # children are forks of a server that never opens a channel

import deltalake  # noqa: F401
import lightgbm  # noqa: F401
import matplotlib.figure  # noqa: F401
import mlflow.pyfunc  # noqa: F401
import optuna  # noqa: F401
import pandas as pd  # noqa: F401
import pyspark.sql.connect.session  # noqa: F401
import sklearn.metrics  # noqa: F401

from penstock.errors import NothingToDo
from penstock.registry.freezing import allow
from penstock.registry.promotion import promote
from penstock.registry.rolling_back import rollback
from penstock.registry.stages import versions
from penstock.runner import Request, run_pipeline
from penstock.workspace import SessionKey, Workspace


@dataclass(frozen=True)
class Job:
    """One piece of work, and where; the same job again is a task's next try."""

    root: Path
    project: str
    model: str
    kind: str  # training, promotion or moves
    as_of: datetime
    number: int

    @property
    def workspace(self) -> Workspace:
        """The workspace of the job's root."""
        return Workspace.open("dev", self.root)


def do(job: Job, attempt: int) -> None:
    """Does a job. Its Spark sessions interrupt those of the attempts before, as a task's do."""
    key = SessionKey(f"faults/{job.project}/{job.kind}/{job.number}", attempt)
    workspace = job.workspace.with_(session_key=key)
    {"training": _training, "promotion": _promotion, "moves": _moves}[job.kind](workspace, job)


def _training(workspace: Workspace, job: Job) -> None:
    request = Request(job.project, job.model, job.as_of)
    run_pipeline(workspace, "training", request, lambda *_: None)
    _reconcile(workspace, job)


def _promotion(workspace: Workspace, job: Job) -> None:
    """The gates for the newest version once more, as of another moment."""
    newest = max(found.version for found in versions(workspace, job.project, job.model))
    request = Request(job.project, job.model, job.as_of, model_version=newest)
    run_pipeline(workspace, "model_promotion", request, lambda *_: None)


def _moves(workspace: Workspace, job: Job) -> None:
    """An older version comes to production by hand, is rolled back, and is allowed again."""
    about = (workspace, job.project, job.model)
    oldest = min(found.version for found in versions(*about))
    promote(*about, oldest, "engineer", "tried out", {}, job.as_of, cause=f"moves {job.number}")
    try:
        rollback(*about, "engineer", f"moves {job.number}", from_version=oldest, as_of=job.as_of)
        allow(*about, oldest, "engineer", f"moves {job.number}", job.as_of)
    except NothingToDo:
        pass  # an attempt that was killed had come that far


def _reconcile(workspace: Workspace, job: Job) -> None:
    """What the door does for versions that a killed training registered and left without a stage."""
    for found in versions(workspace, job.project, job.model):
        if found.stage == "None":
            later = job.as_of + timedelta(seconds=found.version)
            request = Request(job.project, job.model, later, model_version=found.version)
            run_pipeline(workspace, "model_promotion", request, lambda *_: None)
