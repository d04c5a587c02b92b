"""The reference page of the commands, made by Typer from what `--help` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

_MADE = "<!-- Made from the commands' own help by `penstock validate --write-schema`. -->"
_INTRODUCTION = """In a checkout the command is `.venv/bin/penstock` (`source .venv/bin/activate` makes it `penstock`),
in a container of the image it is `penstock`. `PENSTOCK_ENV` chooses the environment ([all variables](variables.md)).

| exit code | means |
|---|---|
| 0 | done; or there was nothing to do, which is said |
| 1 | an error, with what to do; or the answer is bad: faults (`validate`), differences (`reproduce`, \
`online compare`), a version that waits for approval (`run`), a delivery that did not arrive (`webhook test`), nothing \
to roll back (`rollback`) |
| 2 | the command is not written as below |
"""


def commands_page(app: typer.Typer) -> str:
    """Every command with its arguments and options, in Markdown."""
    root = get_command(app)
    for command in _all(root):
        command.short_help = (command.help or "").partition("\n")[0]  # else it is cut in lists
    context = typer.Context(root, info_name="penstock")
    title, _, rest = get_docs_for_click(obj=root, ctx=context, name="penstock").partition("\n\n")
    return f"{_MADE}\n{title}\n\n{_INTRODUCTION}\n{rest.rstrip()}\n"


def write_commands_page(app: typer.Typer, root: Path) -> Path | None:
    """Writes docs/reference/commands.md where that folder exists; answers it if it changed."""
    file, content = root / "docs" / "reference" / "commands.md", commands_page(app)
    if not file.parent.is_dir() or (file.is_file() and file.read_text(encoding="utf-8") == content):
        return None
    file.write_text(content, encoding="utf-8")
    return file


def _all(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _all(inner)
