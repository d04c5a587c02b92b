"""The `@pipeline` decorator: turns a function in dags/ into one DAG for every project or model.

It finds the projects in include/ beside the DAG file's own folder, so several teams' bundles can live in one
Airflow. When a task runs, only the DAG that it belongs to is built. What one project breaks leaves the
others alone; dags/broken_projects.py shows its message as an import error.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    get_parsing_context,
)

from penstock.errors import PenstockError, SpecError
from penstock.home import environment_name
from penstock.scope import Scope
from penstock.spec.loading import load_environment, load_project, project_names

Per = Literal["project", "model"]

# What trying again cannot mend fails at once; everything else (a service that does not answer) is tried again.
_RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=f"penstock.errors.{name}", action=RetryAction.FAIL, reason="a person must mend this")
        for name in ("SpecError", "TableError", "ClockError", "GateError")
    ]
)
TIMESTAMP = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
AS_OF = Param(
    None, type=["null", "string"], title="as of", pattern=TIMESTAMP,
    description="Only what was known at this moment is read: ISO 8601, UTC unless it says otherwise, such as "
    "2013-05-01T00:00:00Z. Empty: the triggering event's, the interval's end, the replay clock, or now.",
)  # fmt: skip
REASON = Param(
    None, type=["null", "string"], title="reason", description="Why this run was started; kept with what it decides."
)
MODEL_VERSION = Param(
    None, type=["null", "integer"], minimum=1, title="model version", description="The registered version to promote."
)


def pipeline(
    *,
    per: Per,
    triggered_by: Callable[[Scope], Sequence[Asset]] | None = None,
    params: dict[str, Param] | None = None,
    schedule: str | None = None,
    applies: Callable[[Scope], bool] = lambda _: True,
    every: Callable[[Scope], timedelta | None] = lambda _: None,
    max_active_runs: Callable[[Scope], int] = lambda _: 1,
) -> Callable[[Callable[[Scope], None]], Callable[[Scope], None]]:
    """Makes a DAG of the function's steps for every project or model of the DAG file's bundle.

    :param per: one DAG a project, or one a model.
    :param triggered_by: assets whose events start a run.
    :param params: parameters beside as_of and reason.
    :param applies: whether a project or model gets this DAG; each does by default.
    :param schedule: name of the project's cron schedule (`schedules` in project.yaml) that applies; it is
        on where the environment says so. The function's name by default.
    :param every: how often it runs, whatever the project's schedules and the environment's switch of them say.
    :param max_active_runs: more than one run at once only where the functions themselves keep order.
    """

    def decorate(steps: Callable[[Scope], None]) -> Callable[[Scope], None]:
        module = sys.modules[steps.__module__]
        root = Path(str(module.__file__)).resolve().parent.parent
        for scope in filter(applies, _scopes(root, per, steps.__name__)):
            spec = scope.project_spec.spec
            assets = list(triggered_by(scope)) if triggered_by else []
            cron = getattr(spec.schedules, schedule or steps.__name__, None) if scope.environment.schedules else None
            dag = _build(steps, scope, every(scope) or _schedule(assets, cron), params or {}, max_active_runs(scope))
            setattr(module, "dag_" + dag.dag_id.replace(".", "_"), dag)
        return steps

    return decorate


def _scopes(root: Path, per: Per, name: str) -> list[Scope]:
    wanted = get_parsing_context().dag_id
    environment = load_environment(root, environment_name())
    found = []
    for project_name in project_names(root):
        if wanted is not None and not (wanted.startswith(f"{project_name}.") and wanted.endswith(f".{name}")):
            continue
        try:
            project = load_project(root, project_name)
            project_scope = Scope(root, environment, project)
            _ = project_scope.feature_tables
        except PenstockError:
            continue  # dags/broken_projects.py shows it; the other projects keep their DAGs
        models = [""] if per == "project" else list(project.spec.models)
        scopes = [Scope(root, environment, project, model) for model in models]
        found += [scope for scope in scopes if wanted in (None, scope.dag_id(name))]
    return found


def _build(
    steps: Callable[[Scope], None], scope: Scope, schedule: Any, params: dict[str, Param], max_active_runs: int
) -> DAG:
    name = steps.__name__
    owner = (scope.model_spec.owner if scope.model else None) or scope.project_spec.spec.owner
    dag = DAG(
        dag_id=scope.dag_id(name),
        description=(steps.__doc__ or "").strip().splitlines()[0],
        doc_md=_documentation(steps, scope),
        schedule=schedule,
        catchup=False,
        max_active_runs=max_active_runs,
        tags={tag for tag in (scope.project, scope.model, name, scope.environment.name) if tag},
        params={"as_of": AS_OF, "reason": REASON, **params},
        default_args={
            "owner": owner, "retries": 2, "retry_delay": timedelta(seconds=10), "retry_policy": _RETRY_POLICY,
        },
        render_template_as_native_obj=True,
    )  # fmt: skip
    with dag:
        steps(scope)
    return dag


def _schedule(assets: list[Asset], cron: str | None) -> Any:
    if cron and assets:
        return AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=AssetAny(*assets))
    return cron or (AssetAny(*assets) if assets else None)


def _documentation(steps: Callable[[Scope], None], scope: Scope) -> str:
    import inspect

    about = scope.model_spec.description if scope.model else scope.project_spec.spec.description
    return f"{inspect.getdoc(steps)}\n\n**{scope.model or scope.project}**: {about}"


def raise_for_broken_projects(dag_file: str) -> None:
    """Raises SpecError with the faults of every project and environment of the DAG file's bundle, if any."""
    from penstock.spec.validation import validate_root

    root = Path(dag_file).resolve().parent.parent
    found = validate_root(root, environment_name())
    if found.errors:
        raise SpecError("\n".join(fault.render(found.root) for fault in found.faults))
