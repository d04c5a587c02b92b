"""Ends approvals that nobody needs to answer any more, from inside Airflow's API server."""

import logging

from penstock.ui.door import PIPELINE

log = logging.getLogger(__name__)


def end_older_requests(project: str, model: str, version: int) -> list[str]:
    """Skips the tasks that ask about versions older than one that took their place; answers their runs' ids.

    Airflow shows the task as skipped, with a note, and what follows it is skipped as well: the run ends.
    """
    from airflow.models import TaskInstance
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    dag_id = f"{project}.{model}.{PIPELINE}"
    waiting = select(TaskInstance).where(
        TaskInstance.dag_id == dag_id, TaskInstance.state == TaskInstanceState.AWAITING_INPUT
    )
    ended = []
    with create_session() as session:
        for task in session.scalars(waiting).all():
            run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == task.run_id))
            asked = int((run.conf or {}).get("model_version") or 0) if run is not None else 0
            if run is None or not 0 < asked < version:
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
