"""`penstock training-set`: training sets that were recorded, and can be built again."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from penstock.errors import SpecError


def list_(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="A project.")],
    table: Annotated[str | None, typer.Option(help="Only those of one table, <name>_training_set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that is recorded, as JSON.")] = False,
) -> None:
    """List a project's recorded training sets, oldest first."""
    from penstock.features import FeatureStore

    found = FeatureStore(project).training_sets(table)
    if as_json:
        sys.stdout.write(json.dumps([asdict(made) for made in found], indent=2) + "\n")
        return
    shown = Table(box=None, pad_edge=False)
    for heading in ("training set", "as of", "rows", "prediction times", "made from"):
        shown.add_column(heading, overflow="fold")
    for made in found:
        inputs = ", ".join(f"{name}@{version}" for name, version in made.inputs.items())
        times = f"{made.first_prediction_time} to {made.last_prediction_time}"
        shown.add_row(made.id, made.as_of, f"{made.rows:,}", times, inputs)
    output = Console(highlight=False)
    (output if output.is_terminal else Console(highlight=False, width=200)).print(shown)


def rebuild(
    training_set: Annotated[
        str, typer.Argument(metavar="PROJECT.TABLE@VERSION", help="Such as shop.churn_training_set@3.")
    ],
) -> None:
    """Build a training set again from the versions that it was made from, as the table <TABLE>_rebuilt."""
    from penstock.features import FeatureStore

    project, dot, identifier = training_set.partition(".")
    if not dot:
        raise SpecError(f"{training_set!r}: write PROJECT.TABLE@VERSION, as `penstock training-set list` shows them")
    made = FeatureStore(project).rebuild_training_set(identifier)
    sys.stdout.write(f"{made.table}@{made.version}: {made.rows:,} rows, the same as {identifier} had\n")
