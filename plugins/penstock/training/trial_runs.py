"""Trials as nested MLflow runs: one child run each, from which an interrupted study is put together again."""

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from penstock.training.mlflow_client import every
from penstock.training.trials import Trial, TrialState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

STUDY = "penstock.study"  # the run key of the training that a trial belongs to
TRIAL = "penstock.trial"
_PARENT = "mlflow.parentRunId"
_REPORTED = "reported_"
_MOST_AT_ONCE = 1000  # metrics that MLflow takes in one request
_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.UNDEFINED: "FAILED"}


@dataclass(frozen=True)
class TrialRuns:
    """The trials of one study, below one run."""

    client: "MlflowClient"
    experiment_id: str
    parent_run_id: str
    study: str
    metric: str

    @classmethod
    def of(cls, client: "MlflowClient", run: "Run", metric: str) -> list[Trial]:
        """The trials below a finished run, in order."""
        found = cls(client, run.info.experiment_id, run.info.run_id, "", metric)
        below = f"tags.`{_PARENT}` = '{run.info.run_id}'"
        children = every(client.search_runs, [run.info.experiment_id], below)
        trials = [found._trial(child) for child in children if TRIAL in child.data.tags]
        return sorted(trials, key=lambda trial: trial.number)

    def earlier(self) -> list[Trial]:
        """The first trials of this study that interrupted runs left, in order; they move below this run."""
        found: dict[int, tuple[Trial, Run]] = {}
        complete: dict[str, bool] = {}
        of_study = f"tags.`{STUDY}` = '{self.study}'"
        for run in every(self.client.search_runs, [self.experiment_id], of_study):
            if run.info.status in _STATUS.values() and TRIAL in run.data.tags and not self._is_kept(run, complete):
                trial = self._trial(run)
                found.setdefault(trial.number, (trial, run))
        trials: list[Trial] = []
        while len(trials) in found:
            trial, run = found[len(trials)]
            self.client.set_tag(run.info.run_id, _PARENT, self.parent_run_id)
            trials.append(trial)
        if trials:
            logger.info("an interrupted study goes on: %d of its trials are there", len(trials))
        return trials

    def keep(self, trial: Trial) -> None:
        """Adds a trial that has just ended as a child run, complete once it is no longer running."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        facts = {name: value for name, value in asdict(trial).items() if name != "steps"}
        tags = {
            _PARENT: self.parent_run_id, STUDY: self.study, TRIAL: json.dumps(facts),
            "mlflow.runName": f"trial {trial.number + 1}",
        }  # fmt: skip
        run = self.client.create_run(self.experiment_id, start_time=now - int(trial.seconds * 1000), tags=tags)
        metrics = [Metric(f"{_REPORTED}{self.metric}", value, now, step) for step, value in trial.steps.items()]
        metrics += [Metric(f"fold_{self.metric}", value, now, number) for number, value in enumerate(trial.folds)]
        if trial.value is not None:
            metrics.append(Metric(self.metric, trial.value, now, 0))
        params = [Param(name, str(value)) for name, value in trial.parameters.items()]
        self.client.log_batch(run.info.run_id, params=params)
        for start in range(0, len(metrics), _MOST_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=metrics[start : start + _MOST_AT_ONCE])
        self.client.set_terminated(run.info.run_id, _STATUS[trial.state], now)

    def _is_kept(self, trial: "Run", known: dict[str, bool]) -> bool:
        """Whether a trial belongs to a run that is complete, whose record it stays part of."""
        from mlflow.exceptions import MlflowException

        parent = trial.data.tags[_PARENT]
        if parent not in known:
            try:
                known[parent] = self.client.get_run(parent).info.status == "FINISHED"
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                known[parent] = False
        return known[parent]

    def _trial(self, run: "Run") -> Trial:
        facts = json.loads(run.data.tags[TRIAL])
        name = f"{_REPORTED}{self.metric}"
        history = self.client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
        steps = {metric.step: metric.value for metric in sorted(history, key=lambda metric: metric.step)}
        return Trial(**{**facts, "state": TrialState(facts["state"]), "steps": steps})
