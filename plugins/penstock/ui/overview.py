"""Everything at a glance: each project's tables, models and questions."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.ui.airflow_facts import AirflowFacts, Question, RunFact
from penstock.ui.catalogue import KnownTable, TableKind, known_tables
from penstock.ui.decisions import Decision, Window, last_window, retraining_decisions
from penstock.ui.faults import PageFault
from penstock.ui.mlflow_rest import RegistryView, registry_view
from penstock.ui.reports import Shelf
from penstock.ui.tables import TableSummary, summarize
from penstock.workspace import Workspace

PROJECT_PIPELINE = "feature_refresh"
MODEL_PIPELINES = ("training", "model_promotion", "batch_inference", "monitoring", "retraining")


@dataclass(frozen=True)
class TableLine:
    """A table on the overview; `verdict` is pass, warn or fail, or empty where it was never validated."""

    known: KnownTable
    summary: TableSummary | None
    verdict: str
    verdict_reason: str
    problem: str


@dataclass(frozen=True)
class Pipeline:
    """A DAG of the project, and its newest run."""

    name: str
    dag_id: str
    run: RunFact | None


@dataclass(frozen=True)
class ModelCard:
    """A model on the overview."""

    name: str
    spec: Model
    registry: RegistryView
    window: Window | None
    decision: Decision | None
    questions: tuple[Question, ...]
    pipelines: tuple[Pipeline, ...]
    problem: str


@dataclass(frozen=True)
class ProjectCard:
    """A project on the overview; one whose declaration has faults has only `problem`."""

    name: str
    project: LoadedProject | None = None
    problem: str = ""
    as_of: str = ""
    tables: tuple[TableLine, ...] = ()
    models: tuple[ModelCard, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()


def project_card(workspace: Workspace, airflow: AirflowFacts, name: str) -> ProjectCard:
    """A project at a glance. What cannot be read is said on its line; the others stay."""
    try:
        project = workspace.project(name)
    except PenstockError as error:
        return ProjectCard(name, problem=str(error))
    lines = [_line(workspace, known) for known in known_tables(workspace, project).values()]
    shown = tuple(line for line in lines if line.known.declared or line.summary or line.problem)
    models = [(model, tuple(f"{name}.{model}.{part}" for part in MODEL_PIPELINES)) for model in project.spec.models]
    dag_ids = [f"{name}.{PROJECT_PIPELINE}", *(dag_id for _, ids in models for dag_id in ids)]
    runs, questions = airflow.last_runs(dag_ids), airflow.questions(dag_ids)
    return ProjectCard(
        name=name,
        project=project,
        as_of=max((line.summary.as_of or "" for line in lines if line.summary), default=""),
        tables=shown,
        models=tuple(_model(workspace, project, model, ids, runs, questions) for model, ids in models),
        pipelines=_pipelines(dag_ids[:1], runs),
    )


def _line(workspace: Workspace, known: KnownTable) -> TableLine:
    try:
        summary, problem = summarize(workspace, known), ""
    except PageFault as fault:
        summary, problem = None, fault.problem
    verdict, reason = "", ""
    if known.kind in (TableKind.SOURCE, TableKind.FEATURES):
        verdict, reason = _verdict(workspace, known)
    return TableLine(known, summary, verdict, reason, problem)


def _verdict(workspace: Workspace, known: KnownTable) -> tuple[str, str]:
    shelf = Shelf.of_table(workspace, known.project, known.name)
    try:
        names = shelf.names()
        found = shelf.verdict(names[0]) if names else None
        return (found["verdict"]["outcome"], found["verdict"]["reason"]) if found else ("", "")
    except (PageFault, KeyError, TypeError):
        return "unreadable", "the newest report cannot be read"


def _model(
    workspace: Workspace, project: LoadedProject, name: str, dag_ids: tuple[str, ...],
    runs: dict[str, RunFact], questions: Sequence[Question],
) -> ModelCard:  # fmt: skip
    window, decision, problem = None, None, ""
    try:
        window = last_window(workspace, project.name, name)
        decision = next(iter(retraining_decisions(workspace, project.name, name)), None)
    except PageFault as fault:
        problem = fault.problem
    return ModelCard(
        name=name, spec=project.spec.models[name], registry=registry_view(workspace, project, name),
        window=window, decision=decision,
        questions=tuple(question for question in questions if question.dag_id in dag_ids),
        pipelines=_pipelines(dag_ids, runs), problem=problem,
    )  # fmt: skip


def _pipelines(dag_ids: Sequence[str], runs: dict[str, RunFact]) -> tuple[Pipeline, ...]:
    return tuple(Pipeline(dag_id.rpartition(".")[2], dag_id, runs.get(dag_id)) for dag_id in dag_ids)
