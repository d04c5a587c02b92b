"""What the pages ask Airflow itself, in whose API server they run: last runs, and questions that wait for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends


@dataclass(frozen=True)
class RunFact:
    """The newest run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    end: datetime | None


@dataclass(frozen=True)
class Question:
    """An approval that waits for somebody."""

    dag_id: str
    run_id: str
    task_id: str
    subject: str
    since: datetime


class AirflowFacts:
    """Reads Airflow's database."""

    def last_runs(self, dag_ids: Sequence[str]) -> dict[str, RunFact]:
        """The newest run of each DAG that has one."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        found = {}
        with create_session() as session:
            for dag_id in dag_ids:
                wanted = (
                    select(DagRun.run_id, DagRun.state, DagRun.end_date)
                    .where(DagRun.dag_id == dag_id).order_by(DagRun.run_after.desc()).limit(1)
                )  # fmt: skip
                row = session.execute(wanted).first()
                if row is not None:
                    found[dag_id] = RunFact(
                        dag_id, row.run_id, str(getattr(row.state, "value", row.state)), row.end_date
                    )
        return found

    def questions(self, dag_ids: Sequence[str]) -> list[Question]:
        """The approvals of these DAGs that nobody has answered yet, oldest first."""
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from airflow.utils.state import TaskInstanceState
        from sqlalchemy import select

        wanted = (
            select(
                TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, HITLDetail.subject,
                HITLDetail.created_at,
            )
            .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
            .where(
                TaskInstance.dag_id.in_(list(dag_ids)), HITLDetail.responded_at.is_(None),
                TaskInstance.state == TaskInstanceState.AWAITING_INPUT,  # not of runs that were ended meanwhile
            )
            .order_by(HITLDetail.created_at)
        )  # fmt: skip
        with create_session() as session:
            return [
                Question(row.dag_id, row.run_id, row.task_id, row.subject, row.created_at.astimezone(UTC))
                for row in session.execute(wanted)
            ]


def airflow_facts() -> AirflowFacts:
    """Airflow as the pages see it."""
    return AirflowFacts()


CurrentAirflow = Annotated[AirflowFacts, Depends(airflow_facts)]
