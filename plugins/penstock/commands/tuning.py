"""`penstock tuning best`: the options that did best, to be tried elsewhere."""

import sys
from typing import Annotated

import typer


def best(
    name: Annotated[str, typer.Argument(metavar="PROJECT.MODEL", help="The model.")],
    most: Annotated[int, typer.Option("--most", min=1, help="How many options.")] = 3,
) -> None:
    """Print the best options of the newest tuning as `training.best` of project.yaml, to be reviewed and committed."""
    from penstock.errors import SpecError
    from penstock.training.best_options import best_options
    from penstock.workspace import Workspace

    project, _, model = name.partition(".")
    if not model:
        raise SpecError(f"{name!r} names no model: write PROJECT.MODEL")
    sys.stdout.write(best_options(Workspace.open(), project, model, most).to_yaml() + "\n")
