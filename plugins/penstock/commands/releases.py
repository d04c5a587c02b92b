"""`penstock rollback`, `freeze`, `unfreeze` and `allow`: what people decide about what is in production; `repair`."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.errors import NothingToDo, RegistryError, SpecError

if TYPE_CHECKING:
    from penstock.registry.notes import Note
    from penstock.workspace import Workspace

_Model = Annotated[str, typer.Argument(metavar="PROJECT.MODEL", help="A project's model.")]
_Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
_By = Annotated[str | None, typer.Option(help="Who decides; the login's name by default.")]


def rollback(
    model: _Model,
    reason: _Reason,
    to: Annotated[int | None, typer.Option(help="The version to go back to; the former one by default.", min=1)] = None,
    from_version: Annotated[
        int | None,
        typer.Option("--from", help="Only if this version is in production: the command may be repeated then.", min=1),
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Without looking whether the former version can still score.")
    ] = False,
    by: _By = None,
) -> None:
    """Put the former production version back; the one that was is not promoted again until it is allowed."""
    from penstock.registry.rolling_back import rollback as roll_back

    workspace, project, name = _open(model)
    try:
        done = roll_back(
            workspace, project, name, by or getpass.getuser(), _given(reason), from_version=from_version,
            to_version=to, check=not unchecked,
        )  # fmt: skip
    except NothingToDo as error:
        # Elsewhere that is no failure. Whoever wants a version out of production must not take its staying for success.
        raise RegistryError(str(error)) from error
    left = f", version {done.displaced} is archived and held back" if done.displaced else ""
    _say(f"{model}: version {done.production} is in production{left}.")
    if done.repeated:
        _say("That rollback had taken place before; nothing changed.")


def freeze(model: _Model, reason: _Reason, by: _By = None) -> None:
    """Stop every promotion of a model until `penstock unfreeze`; rollback still works."""
    from penstock.registry.freezing import freeze as decide

    workspace, project, name = _open(model)
    note = decide(workspace, project, name, by or getpass.getuser(), reason)
    _say(f"{model} is frozen by {note.decided_by}: {note.reason}")


def unfreeze(model: _Model, reason: _Reason, by: _By = None) -> None:
    """Let a model's promotions go on."""
    from penstock.registry.freezing import unfreeze as decide

    workspace, project, name = _open(model)
    decide(workspace, project, name, by or getpass.getuser(), reason)
    _say(f"{model} may be promoted again. Promotions that were stopped go on when their failed task is cleared.")


def allow(
    model: _Model,
    version: Annotated[int, typer.Argument(help="A version that was rolled back.", min=1)],
    reason: _Reason,
    by: _By = None,
) -> None:
    """Let a version that was rolled back be promoted again, through its gates."""
    from penstock.registry.freezing import allow as decide

    workspace, project, name = _open(model)
    note: Note = decide(workspace, project, name, version, by or getpass.getuser(), reason)
    _say(f"{model} version {note.version} may be promoted again: run model_promotion for it.")


def repair(model: _Model) -> None:
    """Finish stage changes that were killed, notice aliases moved by hand, derive the stage tags again."""
    from penstock.registry.deployments import repair as mend

    workspace, project, name = _open(model)
    found = mend(workspace, project, name)
    for what, done in (("finished", found.finished), ("noticed by hand", found.noticed), ("retagged", found.retagged)):
        if done:
            _say(f"{what}: {', '.join(map(str, done))}")
    said = "no version is" if found.production is None else f"version {found.production} is"
    _say(f"{model}: {said} in production.")


def _open(model: str) -> tuple[Workspace, str, str]:
    from penstock.workspace import Workspace

    project, _, name = model.partition(".")
    if not name:
        raise SpecError(f"which model? Write PROJECT.MODEL, with a dot, such as {project or 'a_project'}.its_model")
    workspace = Workspace.open()
    workspace.project(project).model(name)
    return workspace, project, name


def _given(reason: str) -> str:
    if not reason.strip():
        raise SpecError("why? Give --reason; it is kept in the audit")
    return reason.strip()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
