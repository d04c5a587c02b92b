"""`penstock validate`: checks every project and environment file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock.spec.validation import Validation


def run_validation(root: Path | None = None, environment: str | None = None) -> Validation:
    """Validates all projects and environments of a root (this repository and PENSTOCK_ENV by default)."""
    from penstock.home import environment_name
    from penstock.home import root as repository_root
    from penstock.spec.validation import validate_root

    return validate_root(root or repository_root(), environment or environment_name())


def describe(validation: Validation) -> str:
    """Every fault on a line, then what was looked at and how many were found."""
    lines = [fault.render(validation.root) for fault in validation.faults]
    lines.append(
        f"{_counted(len(validation.projects), 'project')}, {_counted(len(validation.environments), 'environment')}: "
        f"{_counted(validation.errors, 'error')}, {_counted(validation.warnings, 'warning')}"
    )
    return "\n".join(lines)


def write_generated(root: Path) -> list[Path]:
    """Writes include/schema/*.schema.json, and docs/reference/ where that folder exists; returns what changed."""
    from penstock.spec.reference import reference_files
    from penstock.spec.schema import schema_files

    files = schema_files(root)
    if (root / "docs" / "reference").is_dir():
        files |= reference_files(root)
    changed = [file for file, content in files.items() if not _holds(file, content)]
    for file in changed:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files[file], encoding="utf-8")
    return changed


def validate(
    root: Annotated[
        Path | None, typer.Option(help="The folder that holds include/; this repository by default.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    write_schema: Annotated[
        bool, typer.Option("--write-schema", help="Write the JSON Schemas and reference pages, and stop.")
    ] = False,
) -> None:
    """Check every project and environment file; say file, line, what is wrong and what to write instead."""
    if write_schema:
        from penstock.home import root as repository_root

        for file in write_generated(root or repository_root()):
            sys.stdout.write(f"wrote {file}\n")
        return
    validation = run_validation(root)
    text = json.dumps(validation.to_dict(), indent=2) if as_json else describe(validation)
    sys.stdout.write(text + "\n")
    if validation.errors:
        raise typer.Exit(1)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _holds(file: Path, content: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == content
