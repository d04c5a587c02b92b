"""Which version is in production once all is settled: what scores, and what a decision rests on."""

from datetime import datetime

from penstock.registry.audit import AuditLog
from penstock.registry.deployments import repair
from penstock.registry.stages import ALIASES, Stage, current_production
from penstock.workspace import Workspace


def settled_production(workspace: Workspace, project: str, model: str, as_of: datetime | None = None) -> int | None:
    """The version in production; None where there is none.

    Where the alias stands elsewhere than the audit left it, or a transition is half done, the repair comes first: what
    a hand moved is adopted or reverted, as the environment says, before anything is scored by it or decided about it.

    Raises what `repair` raises.
    """
    snapshot = AuditLog(workspace, project, model).read()
    found = current_production(workspace, project, model)
    if not snapshot.pending and snapshot.aliases.get(ALIASES[Stage.PRODUCTION]) == found:
        return found
    return repair(workspace, project, model, as_of).production
