"""What a person sees of a version before letting it in: every verdict with its evidence, and how it predicts.

`<lakehouse root>/<project>/_reports/<model>/compliance/<version>.json`; the same version again replaces it.
"""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import now, to_text
from penstock.errors import PenstockError, ServiceError
from penstock.gates import Verdict
from penstock.quality.report import report_place, write_file
from penstock.spec.project import Task
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from penstock.registry.compliance.subject import Subject

_BINS, _MOST_ROWS = 20, 20_000
_RECENT = timedelta(days=30)


@dataclass(frozen=True)
class Series:
    """Some values as shares of the bins: predictions of the candidate or of production, or labels."""

    name: str
    rows: int
    mean: float
    shares: list[float]


def write_report(subject: "Subject", verdict: Verdict) -> None:
    """Writes the verdict, and the distributions of what was predicted. Raises ServiceError where it cannot."""
    files, folder = report_place(subject.workspace, subject.project.name, f"{subject.model_name}/compliance")
    report = {
        "project": subject.project.name, "model": subject.model_name, "version": int(subject.version.version),
        "as_of": to_text(subject.as_of), "verdict": verdict.to_dict(), "distribution": distribution(subject),
        "run": subject.workspace.lineage.run, "written_at": to_text(now()),
    }  # fmt: skip
    path = f"{folder}/{subject.version.version}.json"
    try:
        files.create_dir(folder, recursive=True)
        write_file(files, path, json.dumps(report, indent=1, default=str))
    except OSError as error:
        raise ServiceError(f"the report {path} cannot be written: {error}") from error


def distribution(subject: "Subject") -> dict[str, Any] | None:
    """The candidate's predictions for the sample, the labels of its training set and production's newest predictions,
    as shares of common bins; None where it predicted nothing.
    """
    import numpy as np

    trial = subject.trial
    if trial is None or trial.predictions is None or not np.isfinite(trial.predictions).all():
        return None
    candidate = f"version {subject.version.version} on {subject.sample.source}" if subject.sample else "the version"
    found = {candidate: trial.predictions, **_labels(subject), **_production(subject)}
    known = {name: values[np.isfinite(values)] for name, values in found.items()}
    values = np.concatenate(list(known.values()))
    probabilities = subject.files.feature_spec["task"] == Task.CLASSIFICATION
    low, high = (0.0, 1.0) if probabilities else (float(values.min()), float(values.max()))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    series = [asdict(_series(name, part, edges)) for name, part in known.items() if len(part)]
    return {"edges": edges.tolist(), "series": series}


def _series(name: str, values: "np.ndarray", edges: "np.ndarray") -> Series:
    import numpy as np

    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Series(name, len(values), float(values.mean()), (counts / len(values)).tolist())


def _labels(subject: "Subject") -> dict[str, "np.ndarray"]:
    """The newest labels of the training set, where it is still there."""
    from deltalake.exceptions import DeltaError

    from penstock.lakehouse.small_tables import read

    address, _, number = subject.version.tags.get("penstock.training_set", "").rpartition("@")
    try:
        path = subject.workspace.addresses.find(address) if address and number.isdigit() else None
        if path is None:
            return {}
        frame = read(path, version=int(number), columns=["prediction_time", "label"]).dropna()
    except (DeltaError, PenstockError, KeyError, ValueError, OSError):
        return {}
    labels = frame.sort_values("prediction_time")["label"].tail(_MOST_ROWS).to_numpy(dtype="float64")
    return {f"labels of {address}@{number}": labels} if len(labels) else {}


def _production(subject: "Subject") -> dict[str, "np.ndarray"]:
    """What the production version predicted in the last 30 days."""
    from deltalake.exceptions import DeltaError

    from penstock.lakehouse.small_tables import read

    production = subject.registered.aliases().get("production")
    path = subject.workspace.addresses.find(f"{subject.project.name}.{subject.model_name}_predictions")
    if production is None or path is None:
        return {}
    recent = [
        ("model_version", "=", production), ("prediction_time", ">", subject.as_of - _RECENT),
        ("prediction_time", "<=", subject.as_of),
    ]  # fmt: skip
    try:
        frame = read(path, columns=["prediction"], filters=recent)
    except (DeltaError, KeyError, ValueError, OSError):
        return {}
    values = frame["prediction"].tail(_MOST_ROWS).to_numpy(dtype="float64")
    return {f"predictions of version {production}, in production": values} if len(values) else {}


def read_report(workspace: Workspace, project: str, model: str, version: int) -> dict[str, Any] | None:
    """What `write_report` wrote; None where the version was never checked."""
    from pyarrow.fs import FileType

    files, folder = report_place(workspace, project, f"{model}/compliance")
    path = f"{folder}/{version}.json"
    if files.get_file_info(path).type is not FileType.File:
        return None
    with files.open_input_stream(path) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def checked_versions(workspace: Workspace, project: str, model: str) -> list[int]:
    """The versions with a report, newest first."""
    from pyarrow.fs import FileSelector

    files, folder = report_place(workspace, project, f"{model}/compliance")
    names = [info.base_name for info in files.get_file_info(FileSelector(folder, allow_not_found=True))]
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted((int(stem) for stem in stems if stem.isdigit()), reverse=True)
