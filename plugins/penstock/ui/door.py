"""The one door to deployment, from inside Airflow's API server: asks for the run `promote__<model>__<version>`."""

from dataclasses import dataclass
from enum import StrEnum

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from penstock.errors import ServiceError
from penstock.registry.queue import promotion_run_id

PIPELINE = "model_promotion"


class Outcome(StrEnum):
    """What came of asking."""

    STARTED = "started"
    UNDER_WAY = "under way"
    NO_SUCH_MODEL = "no such model"


@dataclass(frozen=True)
class Knock:
    """A wish to promote a version, and where it is promoted: a DAG run that exists once."""

    project: str
    model: str
    version: int
    as_of: str
    reason: str

    @property
    def dag_id(self) -> str:
        """The model's promotion DAG."""
        return f"{self.project}.{self.model}.{PIPELINE}"

    @property
    def run_id(self) -> str:
        """The run's id, the same whoever asks."""
        return promotion_run_id(self.model, self.version)


def _is_locked(error: BaseException) -> bool:
    from sqlalchemy.exc import OperationalError

    return isinstance(error, OperationalError)


@retry(
    retry=retry_if_exception(_is_locked), stop=stop_after_attempt(4), wait=wait_random_exponential(0.05, max=1),
    reraise=True,
)  # fmt: skip
def knock(wanted: Knock, asked_by: str) -> Outcome:
    """Creates the DAG run, unless it exists. A paused DAG's run waits until it is unpaused.

    Raises ServiceError where Airflow cannot run the DAG now, sqlalchemy's errors where its database does not answer.
    """
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagRunAlreadyExists
    from airflow.models import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    with create_session() as session:
        dag = session.scalar(select(DagModel).where(DagModel.dag_id == wanted.dag_id))
        if dag is None:
            return Outcome.NO_SUCH_MODEL
        if session.scalar(select(DagRun.id).where(DagRun.dag_id == wanted.dag_id, DagRun.run_id == wanted.run_id)):
            return Outcome.UNDER_WAY
        if dag.is_stale or dag.has_import_errors:
            raise ServiceError(f"Airflow cannot run {wanted.dag_id} now: its DAG file or its project is broken or gone")
    conf = {"model_version": wanted.version, "as_of": wanted.as_of, "reason": wanted.reason}
    try:
        with create_session() as session:
            trigger_dag(
                wanted.dag_id, run_id=wanted.run_id, conf=conf, triggering_user_name=asked_by,
                triggered_by=DagRunTriggeredByType.REST_API, session=session,
            )  # fmt: skip
    except (DagRunAlreadyExists, IntegrityError):  # somebody else was quicker by milliseconds
        return Outcome.UNDER_WAY
    return Outcome.STARTED
