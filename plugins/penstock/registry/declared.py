"""Which names of registered models are a project's, and whether the project declares such a model."""

import re
from collections.abc import Iterable

from penstock.errors import PenstockError
from penstock.workspace import Workspace

_NAME = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")


def split_name(name: str) -> tuple[str, str] | None:
    """Project and model of a name `<project>.<model>`; None for others, which belong to other users of the registry."""
    found = _NAME.fullmatch(name)
    return (found[1], found[2]) if found else None


def why_undeclared(workspace: Workspace, project: str, model: str) -> str | None:
    """Why a registered model of that name is nobody's here, and what to do; None where it is declared.

    Raises SpecError where the project's declaration has faults.
    """
    known = [*workspace.project_names, *(inline.name for inline in workspace.inline)]
    where = workspace.root / "include/projects"
    if project not in known:
        detail = f"there is no project {project} in {where} (there are: {', '.join(known) or 'none'})"
    elif model not in workspace.project(project).spec.models:
        detail = f"{where / project / 'project.yaml'} declares no model {model}"
    else:
        return None
    return f"{detail}: deploy the code that declares it, or register it by another name"


def undeclared(workspace: Workspace, names: Iterable[str]) -> dict[str, str]:
    """The names among these that look like a project's model and are declared nowhere here, with the reason."""
    found = {}
    for name in sorted(names):
        parts = split_name(name)
        try:
            why = why_undeclared(workspace, *parts) if parts else None
        except PenstockError:  # the project cannot be read: that is told elsewhere
            continue
        if why is not None:
            found[name] = why
    return found
