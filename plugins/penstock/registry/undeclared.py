"""Versions that were registered under a name that nothing here declares: a misspelt one, or code not deployed yet.

No DAG is theirs, so no event of the registry starts anything for them.
"""

from datetime import datetime

from penstock.registry.client import RegisteredModel, registered_names
from penstock.registry.compliance.gate import check_compliance
from penstock.registry.compliance.record import TAG
from penstock.registry.declared import split_name, undeclared
from penstock.workspace import Workspace


def undeclared_models(workspace: Workspace) -> dict[str, str]:
    """The registered models that look like a project's and are declared nowhere here, each with what to do.

    Raises ServiceError where the registry does not answer.
    """
    return undeclared(workspace, registered_names(workspace))


def judge_undeclared(workspace: Workspace, project: str, as_of: datetime) -> dict[str, str]:
    """Gives versions of the project's undeclared models, each once, the verdict that says what to do; answers those.

    Models of projects that are not here are left alone: they may be another's, who shares the registry.
    """
    judged = {}
    for name, why in undeclared_models(workspace).items():
        parts = split_name(name)
        if parts is None or parts[0] != project:
            continue
        for version in RegisteredModel(workspace, *parts).versions():
            if TAG not in version.tags:
                check_compliance(workspace, *parts, int(version.version), as_of)
                judged[f"{name} version {version.version}"] = why
    return judged
