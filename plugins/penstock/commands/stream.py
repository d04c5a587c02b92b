"""`penstock stream`: the features follow the raw tables, until Ctrl-C."""

from typing import Annotated

import typer
from rich.console import Console

from penstock.spec.common import parse_duration


def stream(
    project: Annotated[str, typer.Argument(help="A project whose raw tables others fill.")],
    every: Annotated[str, typer.Option(help="The least time between two micro-batches, such as 10s or 5m.")] = "10s",
    available_now: Annotated[
        bool, typer.Option("--available-now", help="End once everything that is there has been refreshed.")
    ] = False,
) -> None:
    """Refresh a project's features for each micro-batch of changes in its raw tables, by Structured Streaming."""
    from penstock.streaming import refresh_continuously
    from penstock.workspace import Workspace

    console = Console(stderr=True, highlight=False)
    try:
        pause = parse_duration(every)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--every") from error
    try:
        done = refresh_continuously(
            Workspace.open(), project, every=pause, available_now=available_now, report=console.print
        )
    except KeyboardInterrupt:
        console.print("stopped; starting it again goes on from here")
    else:
        console.print(f"{done.batches} micro-batches")
