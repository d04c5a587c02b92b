"""Files of a run that decide later on, held to the steps that wrote them.

Whoever may write MLflow's artifacts can change the record of a training, or the metrics that a version promises. So the
steps note digests of them beside that of the model's files, in `model_origins`. Runs of older versions have no notes:
theirs are taken as they are.
"""

import hashlib
import json
from typing import Any

from penstock.clock import parse_as_of
from penstock.lakehouse.system_tables import SystemTable
from penstock.training.origins import Origin, OriginKind, read_origins, write_origin
from penstock.training.trained_model import FILE_NAME, TrainedModel
from penstock.workspace import Workspace

PROFILE = "profile.json"
_FILES = {
    OriginKind.RECORD: (FILE_NAME, "train again"),
    OriginKind.PROFILE: (PROFILE, "run the profile step of its training again"),
}


def note_file(workspace: Workspace, trained: TrainedModel, kind: OriginKind, content: Any) -> None:
    """Notes what a step is about to write as JSON into a run. kind: record or profile."""
    origin = Origin(
        model=trained.model, digest=_digest(trained.run_id, content), kind=kind, as_of=parse_as_of(trained.as_of),
        run_id=trained.run_id,
    )  # fmt: skip
    write_origin(workspace, trained.project, origin)


def exchanged_file(
    workspace: Workspace, project: str, model: str, run_id: str | None, kind: OriginKind, text: str | None
) -> str | None:
    """What is wrong with a file of a run that is not what its step wrote, or gone (text: None), and what to do."""
    if run_id is None:
        return None
    noted = {found.digest for found in read_origins(workspace, project, model, run_id=run_id) if found.kind is kind}
    if not noted or (text is not None and _digest_of_text(run_id, text) in noted):
        return None
    (name, remedy), how = _FILES[kind], "is gone" if text is None else "is not what training wrote"
    return (
        f"{name} of run {run_id} of {project}.{model} {how}, by {project}.{SystemTable.MODEL_ORIGINS}: it was changed "
        f"in MLflow's artifact store since. Find out by whom, and {remedy}"
    )


def _digest_of_text(run_id: str, text: str) -> str | None:
    try:
        return _digest(run_id, json.loads(text))
    except ValueError:
        return None


def _digest(run_id: str, content: Any) -> str:
    """Of the content, not of how it is laid out; and of the run, so that equal contents of two runs are two rows."""
    plain = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(f"{run_id}\0{plain}".encode()).hexdigest()
