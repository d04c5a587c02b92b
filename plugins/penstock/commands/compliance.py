"""`penstock checks` and `penstock adopt`: what a version must comply with, and who answers for one from elsewhere."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from penstock.errors import SpecError


def checks(
    model: Annotated[
        str | None, typer.Argument(metavar="[PROJECT.MODEL]", help="With the severities of this model.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the reference page.")] = False,
) -> None:
    """List the compliance checks with their severities in this environment, and what each asks."""
    from penstock.registry.compliance.gate import every_check
    from penstock.registry.compliance.reference import checks_page
    from penstock.spec.compliance import Compliance, Severity
    from penstock.workspace import Workspace

    if markdown:
        sys.stdout.write(checks_page())
        return
    workspace = Workspace.open()
    asked = Compliance()
    if model is not None:
        project, name = split_model(model)
        asked = workspace.project(project).model(name).promotion.compliance
    shown = Table("check", "severity", "by", "what it asks", box=None, pad_edge=False)
    for one in every_check():
        severity, by = one.severity_in(workspace.environment, asked)
        shown.add_row(one.name, str(severity), by, one.document)
    for name, function in asked.own.items():
        severity, by = asked.severities.get(name, Severity.BLOCK), "project.yaml"
        shown.add_row(name, str(severity), by, f"the project's own: {function}")
    output = Console(highlight=False)
    (output if output.is_terminal else Console(width=200)).print(shown)


def adopt(
    model: Annotated[str, typer.Argument(metavar="PROJECT.MODEL")],
    version: Annotated[int, typer.Argument(help="A registered version.")],
    reason: Annotated[str, typer.Option(help="Why; kept in model_origins.")],
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="You vouch for files that run code when they are loaded."),
    ] = False,
    by: Annotated[str | None, typer.Option(help="Who decides; the login's name by default.")] = None,
) -> None:
    """Take responsibility for a version that this environment's reviewed code did not train."""
    from penstock.registry.adoption import adopt_version
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    project, name = split_model(model)
    workspace.project(project).model(name)
    person = by or getpass.getuser()
    adopted = adopt_version(
        workspace, project, name, version, person, reason, workspace.moment(), trust_pickle=trust_pickle
    )
    sys.stdout.write(
        f"{model} version {version} is adopted by {person} (files {adopted.digest[:12]}). Its gates are still to pass: "
        f"penstock run model_promotion {model} --model-version {version}\n"
    )


def split_model(text: str) -> tuple[str, str]:
    """`project.model` in two. Raises SpecError for anything else."""
    project, dot, name = text.partition(".")
    if not (project and dot and name) or "." in name:
        raise SpecError(f"{text!r} is no model: write PROJECT.MODEL, such as shop.late_payment")
    return project, name
