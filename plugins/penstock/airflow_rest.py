"""A small client of Airflow's REST API: what the demo, `penstock status` and the end-to-end tests need."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from penstock.errors import ServiceError

FINISHED = frozenset({"success", "failed"})
_UNFINISHED = ["awaiting_input", "running", "scheduled", "queued", "deferred", "up_for_retry"]


@dataclass(frozen=True)
class DagRun:
    """A DAG run, as the REST API tells it."""

    dag_id: str
    run_id: str
    state: str
    start: datetime | None
    end: datetime | None
    conf: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it ended, well or not."""
        return self.state in FINISHED

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "DagRun":
        """From the API's JSON."""
        start, end = (
            datetime.fromisoformat(body[key]) if body.get(key) else None for key in ("start_date", "end_date")
        )
        return cls(body["dag_id"], body["dag_run_id"], body["state"], start, end, body.get("conf") or {})


class AirflowClient:
    """Talks to one Airflow with a user's login. The token is fetched at the first call, and again when it expired."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": username, "password": password}
        self._http = httpx.Client(base_url=self.url, timeout=30)
        self._token: str | None = None

    def __enter__(self) -> "AirflowClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @retry(
        retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_attempt(5),
        wait=wait_exponential(multiplier=0.2, max=3), reraise=True,
    )  # fmt: skip
    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request of /api/v2; the answer whatever its status. Raises httpx.TransportError when nobody answers."""
        answer = self._http.request(method, f"/api/v2{path}", headers=self._headers(), **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._token = None
            answer = self._http.request(method, f"/api/v2{path}", headers=self._headers(), **options)
        return answer

    def call(self, method: str, path: str, **options: Any) -> Any:
        """As `request`; the answer's JSON. Raises ServiceError for an error status or a silent server."""
        try:
            answer = self.request(method, path, **options)
        except httpx.TransportError as error:
            raise ServiceError(
                f"Airflow at {self.url} does not answer ({error}): is it up? (penstock status)"
            ) from error
        if answer.is_error:
            raise ServiceError(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> DagRun:
        """Starts a DAG run with parameters."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if run_id:
            body["dag_run_id"] = run_id
        return DagRun.parse(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body))

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One DAG run."""
        return DagRun.parse(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, since: datetime | None = None, dag_id: str = "~", limit: int = 100) -> list[DagRun]:
        """DAG runs, the newest first, that were due since a moment."""
        params: dict[str, Any] = {"order_by": "-run_after", "limit": limit}
        if since is not None:
            params["run_after_gte"] = since.isoformat()
        return [DagRun.parse(item) for item in self.call("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"]]

    def tasks(self, run: DagRun) -> dict[str, str]:
        """The states of a run's tasks by task id."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
        return {
            item["task_id"]: item["state"] for item in self.call("GET", path, params={"limit": 200})["task_instances"]
        }

    def open_approvals(self) -> list[dict[str, Any]]:
        """Requests that wait for a person: dag_id, run_id, task_id, subject, body, since."""
        # one that expired or was ended keeps its question without an answer: the state of its task tells
        asked = {"response_received": "false", "state": _UNFINISHED, "limit": 100}
        found = self.call("GET", "/dags/~/dagRuns/~/hitlDetails", params=asked)
        return [
            {"dag_id": item["task_instance"]["dag_id"], "run_id": item["task_instance"]["dag_run_id"],
             "task_id": item["task_instance"]["task_id"], "subject": item["subject"], "body": item.get("body"),
             "since": item.get("created_at")}
            for item in found["hitl_details"]
        ]  # fmt: skip

    def answer_approval(self, run: DagRun, task_id: str, option: str, **params_input: str) -> None:
        """Answers a request: one of its options, and what its form asks for."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self.call("PATCH", path, json={"chosen_options": [option], "params_input": params_input})

    def dag_ids(self) -> list[str]:
        """The DAGs that Airflow knows."""
        return [item["dag_id"] for item in self.call("GET", "/dags", params={"limit": 500})["dags"]]

    def xcom(self, run: DagRun, task_id: str, key: str = "return_value") -> Any:
        """What a task handed on."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": "true"})["value"]

    def _headers(self) -> dict[str, str]:
        if self._token is None:
            answer = self._http.post("/auth/token", json=self._login)
            if answer.is_error:
                raise ServiceError(
                    f"Airflow at {self.url} refused the login of {self._login['username']}: {answer.status_code}"
                )
            self._token = str(answer.json()["access_token"])
        return {"Authorization": f"Bearer {self._token}"}
