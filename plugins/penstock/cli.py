"""The `penstock` command."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from penstock.commands import compliance, online, releases
from penstock.commands import quarantine as quarantine_commands
from penstock.commands import suite as suite_commands
from penstock.commands import tables as table_commands
from penstock.commands import training_sets as training_set_commands
from penstock.commands import tuning as tuning_commands
from penstock.commands import webhook as webhook_commands
from penstock.commands.lineage import lineage as lineage_command
from penstock.commands.maintain import maintain
from penstock.commands.projects import print_projects, print_services, print_undeclared
from penstock.commands.reproduce import reproduce
from penstock.commands.stream import stream
from penstock.commands.validate import validate as validate_command
from penstock.errors import NothingToDo, PenstockError
from penstock.runner import PIPELINES

if TYPE_CHECKING:
    from penstock.stack.settings import StackSettings

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="penstock",
    help="Production MLOps as Airflow DAGs that wrap MLflow and Delta Lake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold secrets
)
console = Console(stderr=True, highlight=False)


def explains_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Print what a user can act on without a traceback, and exit with 1; with 0 where there was nothing to do."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except NothingToDo as reason:
            console.print(f"nothing to do: {reason}", markup=False, soft_wrap=True)
            raise typer.Exit from reason
        except PenstockError as error:
            console.print("[bold red]error:[/] ", end="")
            console.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(1) from error

    return wrapped


@app.command()
@explains_errors
def up(
    services: Annotated[
        list[str] | None, typer.Argument(help="Only these: spark, mlflow, airflow.", show_default=False)
    ] = None,
) -> None:
    """Start the local stack, or what of it does not run; return once it answers."""
    from penstock.stack import stack

    settings = _settings()
    chosen = _services(services or [])
    began = time.monotonic()
    with console.status("Looking around") as spinner:

        def say(message: str) -> None:
            spinner.update(message)
            if not console.is_terminal:
                console.print(f"{message} …", markup=False)

        started = stack.start(settings, chosen, say)
    if started:
        console.print(f"Up after {time.monotonic() - began:.0f} s.")
    else:
        console.print("Already up; nothing to do.")
    _print_services(settings)
    console.print(f"Logins: {settings.state / 'credentials.json'}", soft_wrap=True)


@app.command()
@explains_errors
def down() -> None:
    """Stop the local stack; its state stays."""
    from penstock.stack import stack

    settings = _settings()
    with console.status("Stopping"):
        stopped = stack.stop(settings)
    console.print("Down." if stopped else "Already down; nothing to do.")


@app.command()
@explains_errors
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the services, and each project's tables, models and runs.

    Where there is no local stack, as in a container, Spark and MLflow are those that the environment's file names.
    """
    from penstock.project_status import projects, services, undeclared

    settings = _settings()
    if as_json:
        report = {
            "environment": settings.environment,
            "services": services(settings),
            "projects": projects(settings),
            "undeclared": undeclared(settings.environment),
        }
        sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")
        return
    _print_services(settings)
    output = Console(highlight=False)
    output = output if output.is_terminal else Console(width=160)
    print_projects(projects(settings), output)
    print_undeclared(undeclared(settings.environment), output)


@app.command()
@explains_errors
def logs(
    name: Annotated[
        str | None, typer.Argument(help="A service or program, such as spark or airflow-scheduler.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines of each.")] = 30,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the end of the programs' logs."""
    from penstock.stack.log_files import find_logs, follow_logs, read_logs

    found = find_logs(_settings(), name)
    for line in read_logs(found, lines):
        sys.stdout.write(line + "\n")
    if follow:
        for line in follow_logs(found):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


@app.command(name="validate")
@explains_errors
@functools.wraps(validate_command)
def validate(*args: Any, **kwargs: Any) -> None:
    """Check every project and environment file."""
    validate_command(*args, **kwargs)
    if kwargs["write_schema"]:
        from penstock.commands.reference import write_commands_page
        from penstock.home import root

        if changed := write_commands_page(app, kwargs["root"] or root()):
            sys.stdout.write(f"wrote {changed}\n")


@app.command(name="lineage")
@explains_errors
@functools.wraps(lineage_command)
def lineage(*args: Any, **kwargs: Any) -> None:
    """Show what a table, column or model version was made from, and what uses it."""
    lineage_command(*args, **kwargs)


online_app = typer.Typer(help="Publish, compare and read the online store.", no_args_is_help=True)
app.add_typer(online_app, name="online")
for _command in (online.publish, online.compare, online.get):
    online_app.command()(explains_errors(_command))
app.command()(explains_errors(maintain))
app.command()(explains_errors(stream))
app.command()(explains_errors(reproduce))
for _release in (releases.rollback, releases.freeze, releases.unfreeze, releases.allow, releases.repair):
    app.command()(explains_errors(_release))
app.command()(explains_errors(compliance.checks))
app.command()(explains_errors(compliance.adopt))


@app.command()
@explains_errors
def run(
    pipeline: Annotated[str, typer.Argument(help=f"One of {', '.join(PIPELINES)}.")],
    target: Annotated[str, typer.Argument(metavar="PROJECT[.MODEL]", help="A project, or a project's model.")],
    as_of: Annotated[
        str | None, typer.Option(help="Only what was known then is read; the replay clock, or now.")
    ] = None,
    model_version: Annotated[int | None, typer.Option(help="The version to promote.", min=1)] = None,
    approved_by: Annotated[str | None, typer.Option(help="Who approves, where a human must.")] = None,
    reason: Annotated[str, typer.Option(help="Kept with what is decided.")] = "penstock run",
    backfill: Annotated[
        str | None, typer.Option(help="feature_refresh: tables to compute again, with commas between them.")
    ] = None,
    backfill_from: Annotated[str | None, typer.Option(help="Only event times after this moment.")] = None,
    backfill_until: Annotated[str | None, typer.Option(help="Only event times up to this moment.")] = None,
    backfill_piece: Annotated[
        str | None, typer.Option(help="How much time a piece covers at most, such as 7d; bounded by rows by default.")
    ] = None,
) -> None:
    """Run one pipeline's steps in this process, without Airflow."""
    from penstock.features.backfill import parse_request
    from penstock.runner import Request, run_pipeline
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    moment = workspace.moment(as_of or None)
    project, _, model = target.partition(".")
    again = parse_request(backfill, backfill_from, backfill_until, backfill_piece)
    request = Request(project, model, moment, model_version, approved_by, reason, again)

    def report(name: str, said: str, seconds: float) -> None:
        console.print(f"{seconds:6.1f} s  {name:28} {said}", markup=False, soft_wrap=True)

    run_pipeline(workspace, pipeline, request, report)


_quarantine = typer.Typer(help="Rows that failed a gate, and their way back.", no_args_is_help=True)
_quarantine.command(name="list")(explains_errors(quarantine_commands.list_rows))
_quarantine.command()(explains_errors(quarantine_commands.accept))
_quarantine.command()(explains_errors(quarantine_commands.correct))
app.add_typer(_quarantine, name="quarantine")
_table = typer.Typer(help="Tables that are no longer wanted.", no_args_is_help=True, callback=lambda: None)
_table.command()(explains_errors(table_commands.drop))
app.add_typer(_table, name="table")
_training_set = typer.Typer(help="Training sets, and how to build one again.", no_args_is_help=True)
_training_set.command(name="list")(explains_errors(training_set_commands.list_))
_training_set.command()(explains_errors(training_set_commands.rebuild))
app.add_typer(_training_set, name="training-set")
_suite = typer.Typer(help="Suites of expectations.", no_args_is_help=True, callback=lambda: None)
_suite.command()(explains_errors(suite_commands.propose))
app.add_typer(_suite, name="suite")
_webhook = typer.Typer(help="MLflow's webhook, which starts promotions in Airflow.", no_args_is_help=True)
_webhook.command(name="set")(explains_errors(webhook_commands.set_))
_webhook.command()(explains_errors(webhook_commands.rotate))
_webhook.command()(explains_errors(webhook_commands.test))
app.add_typer(_webhook, name="webhook")
_tuning = typer.Typer(help="Parameters of models.", no_args_is_help=True, callback=lambda: None)
_tuning.command()(explains_errors(tuning_commands.best))
app.add_typer(_tuning, name="tuning")


@app.command()
@explains_errors
def demo(
    steps: Annotated[
        int, typer.Option(envvar="STEPS", min=1, help="Moments after the first, of those in include/demo.yaml.")
    ] = 3,
) -> None:
    """Start the stack and replay the reference project through Airflow; leave the stack up."""
    from penstock.airflow_rest import AirflowClient
    from penstock.demo import Demo, read_replay
    from penstock.home import read_credentials
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    up(services=None)
    login = read_credentials().airflow
    with AirflowClient(login.url, login.username, login.password) as client:
        Demo(workspace, client, Console(highlight=False), read_replay(workspace.root)).run(steps)
    status(as_json=False)


def _settings() -> StackSettings:
    from penstock.stack.settings import read_settings

    return read_settings()


def _services(names: list[str]) -> list[Any]:
    from penstock.stack.errors import StackError
    from penstock.stack.programs import Service

    try:
        return [Service(name) for name in dict.fromkeys(names)] or list(Service)
    except ValueError as error:
        raise StackError(f"{error}: choose from {', '.join(Service)}") from error


def _print_services(settings: StackSettings) -> None:
    from penstock.project_status import services

    output = Console(highlight=False)
    print_services(services(settings), output, None if output.is_terminal else 160)


if __name__ == "__main__":
    app()
