"""Whether a version that was in production once can still score today."""

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance_checks import Subject, check_features_declared, check_features_in_lakehouse
from penstock.training.errors import ScoringError
from penstock.workspace import Workspace

GATE = "former version"


def check_former(workspace: Workspace, project_name: str, model_name: str, version: int) -> Verdict:
    """Loads a version from the registry, and looks for its features in today's project and lakehouse.

    Raises RegistryError for an unknown version, ServiceError where MLflow does not answer.
    """
    registered = RegisteredModel(workspace, project_name, model_name)
    found = registered.version(version)
    about = f"{registered.name} version {version}"
    try:
        scorer = load_version(workspace, registered.name, version)
    except ScoringError as error:
        return Verdict(GATE, about, (Check("loads", Outcome.FAIL, f"it does not load: {error}"),))
    subject = Subject(workspace, workspace.project(project_name), model_name, registered, found)
    loads = Check("loads", Outcome.PASS, f"loads, asks for {len(scorer.columns.names)} features")
    return Verdict(
        GATE, about,
        (loads, check_features_declared(subject, scorer), check_features_in_lakehouse(subject, scorer)),
    )  # fmt: skip
