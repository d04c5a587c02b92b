"""`penstock reproduce`: builds a registered version again, and says whether it is the same."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from penstock.errors import SpecError


def reproduce(
    model: Annotated[str, typer.Argument(metavar="PROJECT.MODEL", help="A project's model.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", help="A registered version.", min=1)],
    as_json: Annotated[bool, typer.Option("--json", help="The verdict with its evidence as JSON.")] = False,
) -> None:
    """Build a registered version again from its record, and compare the two; exit code 1 if they differ."""
    from penstock.registry.reproduction import reproduce as build_again
    from penstock.workspace import Workspace

    project, dot, name = model.partition(".")
    if not dot:
        raise SpecError(f"{model!r}: write PROJECT.MODEL")
    verdict = build_again(Workspace.open(), project, name, version)
    text = json.dumps(verdict.to_dict(), indent=2) if as_json else verdict.to_markdown()
    sys.stdout.write(text + "\n")
    if not verdict.passed:
        raise typer.Exit(1)
