"""Numbers of versions that were others' before: MLflow begins anew where a registered model was deleted and made again.

A number is what predictions, monitoring, comparisons and the audit know a version by, so it is nobody else's.
"""

from typing import TYPE_CHECKING

from penstock.errors import GateError
from penstock.registry.audit import AuditLog, Snapshot
from penstock.registry.client import RegisteredModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def check_number(workspace: Workspace, project: str, model: str, version: int) -> None:
    """Raises GateError where the version's number is another's in the audit; RegistryError for an unknown version."""
    registered = RegisteredModel(workspace, project, model)
    raise_if_another(AuditLog(workspace, project, model).read(), registered.version(version))


def raise_if_another(snapshot: Snapshot, found: "ModelVersion") -> None:
    """As check_number, for what the audit says at one moment."""
    if snapshot.is_version(int(found.version), int(found.creation_timestamp)):
        return
    taken = max(row.version for row in snapshot.rows)
    raise GateError(
        f"{found.name} version {found.version} is another than the one that went through the gates under this number: "
        f"the registered model was deleted, and MLflow numbers from 1 again. Predictions and the audit know versions "
        f"by their numbers, so those up to {taken} are taken, and it is not promoted. Register it once more "
        f"under a number that is free (penstock.registry.numbering.number_on in Python), or give the model another name"
    )


def number_on(workspace: Workspace, project: str, model: str, version: int) -> int:
    """Registers a version once more, until its number is free, and deletes it under the taken ones; answers the number.

    A version whose number is free stays as it is. Raises RegistryError for an unknown version.
    """
    registered = RegisteredModel(workspace, project, model)
    taken = max((row.version for row in AuditLog(workspace, project, model).read().rows), default=0)
    found = registered.version(version)
    while int(found.version) <= taken:
        former, found = found, registered.register_again(found)
        registered.delete(int(former.version))
    return int(found.version)
