"""What all operators share: the workspace, the clock, skipping, references as XCom, killing what is left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from penstock.clock import now, parse_as_of, read_replay_clock, to_text
from penstock.errors import NothingToDo
from penstock.home import root as repository_root
from penstock.hooks.workspace import WorkspaceHook
from penstock.operators.openlineage import OpenLineageMixin
from penstock.workspace import Lineage, SessionKey, Workspace


class PenstockOperator(OpenLineageMixin, BaseOperator):
    """Runs one function of the library as of a moment; returns its references as XCom.

    A subclass implements `run`. NothingToDo skips the task, with its reason in the log.

    :param project: a project's name, or its declaration (the content of a project.yaml) as a mapping.
    :param as_of: a timestamp (templated). Without it: the run's parameter, the greatest as_of of the
        triggering asset events, the end of a scheduled interval, the environment's replay clock, now.
    :param root: the folder that holds include/ (the repository's by default).
    """

    template_fields: Sequence[str] = ("as_of",)

    def __init__(
        self,
        *,
        project: str | Mapping[str, Any],
        as_of: str | None = None,
        root: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project if isinstance(project, str) else str(project.get("name", ""))
        self.declaration = None if isinstance(project, str) else dict(project)
        self.as_of = as_of
        self.root = str(root or repository_root())

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """What the operator does; answers a frozen dataclass or JSON values."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Opens the workspace, resolves as_of, runs."""
        workspace = self.workspace(context)
        as_of = parse_as_of(self.as_of) if self.as_of else resolve_as_of(workspace, context)
        self.log.info("%s as of %s in %s", self.project, to_text(as_of), workspace.environment.name)
        try:
            result = self.run(workspace, as_of, context)
        except NothingToDo as reason:
            self.log.info("nothing to do: %s", reason)
            raise AirflowSkipException(str(reason)) from reason
        result = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
        self.remember_lineage(workspace, result)
        return result

    def workspace(self, context: Context) -> Workspace:
        """This environment's workspace, with the session of this try."""
        ti = context["ti"]
        task = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"
        self._session_key = SessionKey(task, ti.try_number)
        hook = WorkspaceHook(root=self.root, declaration=self.declaration)
        return hook.workspace(Lineage(run=f"{ti.dag_id}/{ti.run_id}"), self._session_key)

    def on_kill(self) -> None:
        """Stops what this try's session still runs on the Spark server."""
        from penstock.lakehouse.session import interrupt

        key = getattr(self, "_session_key", None)
        if key is not None:
            hook = WorkspaceHook(root=self.root, declaration=self.declaration)
            found = hook.workspace(Lineage(), key).resolved
            interrupt(found.spark_url, found.spark_token, key.task, key.try_number)


def resolve_as_of(workspace: Workspace, context: Context) -> datetime:
    """The run's as_of, in the order that PenstockOperator describes.

    Raises ClockError for a text that is no timestamp and for the future.
    """
    given = (context.get("params") or {}).get("as_of")
    if given:
        return parse_as_of(str(given))
    events = context.get("triggering_asset_events") or {}
    sent = [
        str(event.extra["as_of"]) for found in events.values() for event in found if (event.extra or {}).get("as_of")
    ]
    if sent:
        return max(parse_as_of(text) for text in sent)
    run = context["dag_run"]
    if str(getattr(run.run_type, "value", run.run_type)) in ("scheduled", "backfill") and run.data_interval_end:
        return parse_as_of(run.data_interval_end)
    replay = read_replay_clock(workspace.environment.replay_clock)
    return replay or parse_as_of(min(run.run_after or now(), now()))


def emit(context: Context, asset: Any, **extra: Any) -> None:
    """Sets what the event of an outlet asset says; rows never travel here, only references."""
    context["outlet_events"][asset].extra = extra
