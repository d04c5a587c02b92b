"""Whether a version that was in production once can still score today."""

from dataclasses import replace

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance.features import check_features_declared, check_features_in_lakehouse
from penstock.registry.compliance.gate import open_subject
from penstock.training.errors import ScoringError
from penstock.workspace import Workspace

GATE = "former version"


def check_former(workspace: Workspace, project_name: str, model_name: str, version: int) -> Verdict:
    """Loads a version from the registry, and looks for its features in today's project and lakehouse.

    Raises RegistryError for an unknown version, ServiceError where MLflow does not answer.
    """
    registered = RegisteredModel(workspace, project_name, model_name)
    about = f"{registered.name} version {version}"
    try:
        scorer = load_version(workspace, registered.name, version)
    except ScoringError as error:
        return Verdict(GATE, about, (Check("loads", Outcome.FAIL, f"it does not load: {error}"),))
    loads = Check("loads", Outcome.PASS, f"loads, asks for {len(scorer.columns.names)} features")
    with open_subject(workspace, project_name, model_name, version, workspace.moment()) as subject:
        declared = replace(check_features_declared(subject), name="features_declared")
        there = replace(check_features_in_lakehouse(subject), name="features_in_lakehouse")
    return Verdict(GATE, about, (loads, declared, there))
