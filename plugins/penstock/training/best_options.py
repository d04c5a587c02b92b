"""The options that did best in an earlier tuning, as an environment with `limits.search: best` wants them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.spec.project import Model
from penstock.training.errors import TrainingError
from penstock.training.metrics import is_lower_better
from penstock.training.mlflow_client import every
from penstock.training.runs import RUN_KEY, tracking
from penstock.training.trial_runs import TrialRuns
from penstock.training.trials import Trial
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class BestOptions:
    """Options of `training.search` by what they reached, the best first; of which run and how many trials."""

    run_id: str
    as_of: str
    metric: str
    trials: int
    options: list[dict[str, Any]]
    values: list[float]

    def to_yaml(self) -> str:
        """What to put under `training:` in project.yaml."""
        import yaml

        lines = [f"# the best of {self.trials} trials of run {self.run_id}, as of {self.as_of}", "best:"]
        for option, value in zip(self.options, self.values, strict=True):
            text = yaml.safe_dump(option, default_flow_style=True, width=10_000, sort_keys=False).strip()
            lines.append(f"  - {text}  # {self.metric} {value:.6g}")
        return "\n".join(lines)


def best_options(workspace: Workspace, project_name: str, model_name: str, most: int = 3) -> BestOptions:
    """The best distinct options of the newest finished tuning of a model in this environment.

    Trials with other parameters than those of today's `training.search` do not count, such as the first one, which has
    the declared parameters alone. Raises TrainingError where nothing was tuned.
    """
    spec = workspace.project(project_name).model(model_name)
    name = f"{project_name}.{model_name}"
    with tracking(workspace) as client:
        experiment = client.get_experiment_by_name(name)
        for run in _finished(client, experiment.experiment_id) if experiment is not None else []:
            trials = TrialRuns.of(client, run, spec.training.metric)
            found = _ranked(spec, trials)
            if found:
                chosen = found[:most]
                return BestOptions(
                    run.info.run_id, run.data.tags.get("penstock.as_of", ""), spec.training.metric, len(trials),
                    [option for option, _ in chosen], [value for _, value in chosen],
                )  # fmt: skip
    raise TrainingError(
        f"{name} was not tuned in {workspace.environment.name} yet: declare training.search and train it where "
        "limits.search is wide"
    )


def _finished(client: "MlflowClient", experiment_id: str) -> Iterator["Run"]:
    """Trainings, the newest first; trials have no run key."""
    finished = "attributes.status = 'FINISHED'"
    newest_first = ["attributes.start_time DESC"]
    for run in every(client.search_runs, [experiment_id], finished, order_by=newest_first):
        if RUN_KEY in run.data.tags:
            yield run


def _ranked(spec: Model, trials: list[Trial]) -> list[tuple[dict[str, Any], float]]:
    search = spec.training.search
    found: list[tuple[dict[str, Any], float]] = []
    sign = 1 if is_lower_better(spec, spec.training.metric) else -1
    measured = [(trial, trial.value) for trial in trials if trial.value is not None]
    for trial, value in sorted(measured, key=lambda pair: sign * pair[1]):
        option = {name: trial.parameters[name] for name in search if name in trial.parameters}
        if len(option) == len(search) > 0 and option not in [known for known, _ in found]:
            found.append((option, value))
    return found
