"""What a model version's data is held against: the profile of its training data."""

from dataclasses import dataclass
from datetime import datetime

from penstock.clock import parse_as_of
from penstock.errors import TableError
from penstock.profiles import Profile
from penstock.training.noted_files import PROFILE, exchanged_file
from penstock.training.origins import OriginKind
from penstock.workspace import Workspace


@dataclass(frozen=True)
class Training:
    """When a registered version was trained, and the end of the data that it has seen; None if not recorded."""

    version: int
    as_of: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class Baseline:
    """A version's training profile."""

    version: int
    profile: Profile


def training_of(workspace: Workspace, project: str, model: str, version: int) -> Training:
    """When a registered version was trained, by its tags. Raises RegistryError where there is no such version."""
    from penstock.registry.client import RegisteredModel

    tags = RegisteredModel(workspace, project, model).version(version).tags
    return Training(version, _moment(tags.get("penstock.as_of")), _moment(tags.get("penstock.trained_until")))


def load_baseline(workspace: Workspace, project: str, model: str, version: int) -> Baseline:
    """The baseline of a registered version. Raises TableError where its run has no profile, or not training's."""
    from penstock.registry.client import RegisteredModel

    registered = RegisteredModel(workspace, project, model)
    found = registered.version(version)
    text = registered.run_text(found, PROFILE)
    if problem := exchanged_file(workspace, project, model, registered.run_id(found), OriginKind.PROFILE, text):
        raise TableError(f"{project}.{model} version {version}: {problem}")
    if text is None:
        raise TableError(
            f"{project}.{model} version {version}: its MLflow run has no {PROFILE}, so there is nothing to "
            "hold its predictions against. Run the profile step of its training again, or promote a version "
            "that has one"
        )
    return Baseline(version, Profile.from_json(text))


def _moment(text: str | None) -> datetime | None:
    return parse_as_of(text) if text else None
