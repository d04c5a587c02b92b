"""Ends approvals that nobody needs to answer any more, from inside Airflow's API server."""

import logging

from penstock.registry.audit import AuditLog, Snapshot, State
from penstock.registry.stages import Stage
from penstock.ui.door import PIPELINE
from penstock.workspace import Workspace

log = logging.getLogger(__name__)


def end_older_requests(project: str, model: str, version: int) -> list[str]:
    """Skips the tasks that ask about versions older than one that took their place; answers their runs' ids.

    Only those that the audit shows archived, or about to be: an alias that a hand moved decides nothing, and whoever
    repairs the stages adopts or reverts it. Raises PenstockError where the audit cannot be read.
    Airflow shows the task as skipped, with a note, and what follows it is skipped as well: the run ends.
    """
    from airflow.models import TaskInstance
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    snapshot = AuditLog(Workspace.open(), project, model).read()
    dag_id = f"{project}.{model}.{PIPELINE}"
    waiting = select(TaskInstance).where(
        TaskInstance.dag_id == dag_id, TaskInstance.state == TaskInstanceState.AWAITING_INPUT
    )
    ended = []
    with create_session() as session:
        for task in session.scalars(waiting).all():
            run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == task.run_id))
            asked = int((run.conf or {}).get("model_version") or 0) if run is not None else 0
            if run is None or not 0 < asked < version or not is_archived(snapshot, asked):
                continue
            dag = DBDagBag().get_dag_for_run(run, session)
            if dag is None:
                continue
            dag.set_task_instance_state(
                task_id=task.task_id, run_id=task.run_id, state=TaskInstanceState.SKIPPED, session=session
            )
            task.note = (f"Superseded: version {version} is newer, and took the place of version {asked}.", None)
            ended.append(task.run_id)
    for run_id in ended:
        log.info("webhook: %s of %s no longer waits: version %s superseded it", run_id, dag_id, version)
    return ended


def is_archived(snapshot: Snapshot, version: int) -> bool:
    """Whether the newest transition of a version archives it. A pending one counts: it moves aliases before it ends."""
    moves = [row for row in snapshot.rows if row.version == version and row.state in (State.PENDING, State.COMPLETED)]
    return bool(moves) and moves[-1].to_stage is Stage.ARCHIVED
