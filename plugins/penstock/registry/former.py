"""Whether a version that was in production once can still score today."""

from dataclasses import replace

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import load_version
from penstock.registry.client import registered_name
from penstock.registry.compliance.features import check_features_declared, check_features_in_lakehouse
from penstock.registry.compliance.gate import open_subject
from penstock.training.errors import ScoringError
from penstock.training.model_folder import Unusable
from penstock.workspace import Workspace

GATE = "former version"


def check_former(workspace: Workspace, project: str, model: str, version: int) -> Verdict:
    """Loads a version from the registry, and looks for its features in today's project and lakehouse.

    Raises RegistryError for an unknown version, ServiceError where MLflow does not answer.
    """
    name = registered_name(project, model)
    about = f"{name} version {version}"
    try:
        with open_subject(workspace, project, model, version, workspace.moment()) as subject:
            checks = [
                replace(check(subject), name=check.__name__.removeprefix("check_"))
                for check in (check_features_declared, check_features_in_lakehouse)
            ]
        load_version(workspace, name, version)
    except (ScoringError, Unusable) as error:
        return Verdict(GATE, about, (Check("loads", Outcome.FAIL, f"it does not load: {error}"),))
    return Verdict(GATE, about, (Check("loads", Outcome.PASS, "loads from the registry"), *checks))
