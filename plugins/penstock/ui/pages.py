"""The routes. Each is read-only, runs in a thread, and checks names and rights before it reads anything."""

from fastapi import APIRouter, Request, Response

from penstock.ui.access import CurrentReader
from penstock.ui.airflow_facts import CurrentAirflow
from penstock.ui.cards import find_card, read_card
from penstock.ui.catalogue import CurrentWorkspace, TableKind, check_model, find_project, find_table, known_tables
from penstock.ui.compliance_report import compliance_report, reported_versions
from penstock.ui.decisions import comparisons, last_window, model_holds, notes, retraining_decisions, transitions
from penstock.ui.faults import MayNotRead, NothingYet, UnknownPage, reading
from penstock.ui.lineage_picture import draw_lineage
from penstock.ui.mlflow_rest import registry_view, undeclared_here
from penstock.ui.overview import project_card
from penstock.ui.rendering import FOLDER, render
from penstock.ui.reports import Shelf, moment
from penstock.ui.tables import describe

router = APIRouter()

# A report is a file from the lakehouse: its own styles count, nothing else of it does.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
_CARD_POLICY = _REPORT_POLICY.replace("style-src", "img-src data:; style-src")  # its pictures are within it
_STATIC = {"penstock.css": "text/css", "penstock.js": "text/javascript"}


@router.get("/")
def overview(request: Request, reader: CurrentReader, workspace: CurrentWorkspace, airflow: CurrentAirflow) -> Response:
    """Every project that the user may read."""
    readable = [name for name in workspace.project_names if reader.may_read(name)]
    if workspace.project_names and not readable:
        raise MayNotRead(
            f"{reader.name} may not read the DAGs of any project here",
            "Ask an administrator of this Airflow for the right to read them.",
        )
    cards = [project_card(workspace, airflow, name) for name in readable]
    return render(
        request, "overview.html", cards=cards, kinds=list(TableKind), about=workspace.environment,
        undeclared=undeclared_here(workspace, reader.may_read),
    )  # fmt: skip


@router.get("/tables/{project}/{table}")
def table_page(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, table: str
) -> Response:
    """A table: what it means, where it came from, its versions, some rows."""
    loaded = find_project(workspace, reader, project)
    known = find_table(workspace, loaded, table)
    details = describe(workspace, known)
    inputs = [(*_split(address, project), version) for address, version in details.inputs.items()]
    tables, models = known_tables(workspace, loaded), loaded.spec.models
    return render(
        request, "table.html", known=known, details=details, inputs=inputs, tables=tables, models=models,
        validated=known.declared and bool(Shelf.of_table(workspace, project, table).names()),
    )  # fmt: skip


@router.get("/lineage/{project}/{table}")
def lineage_page(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, table: str
) -> Response:
    """A table's lineage as a picture, as far as the user may read the projects in it."""
    known = find_table(workspace, find_project(workspace, reader, project), table)
    with reading(f"the lineage of {project}.{known.name}"):
        picture = draw_lineage(workspace, f"{project}.{known.name}", reader.may_read)
    if picture is None:
        raise NothingYet(f"Nothing is known of the lineage of {project}.{known.name}.", "It is no table of data.")
    return render(request, "lineage.html", project=project, name=known.name, picture=picture)


@router.get("/reports/{project}/{table}")
def quality_report(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, table: str, at: str = ""
) -> Response:
    """The newest validation of a table (or the one `at` a moment), and a list of the others."""
    known = find_table(workspace, find_project(workspace, reader, project), table)
    shelf = Shelf.of_table(workspace, project, known.name)
    name, names = _choose(shelf, at, f"{project}.{table} was never validated.", f"{project}.feature_refresh")
    return render(
        request, "report.html", project=project, subject=known.name, kind="Quality report", name=name,
        reports=[(one, moment(one)) for one in names], when=moment(name), verdict=shelf.verdict(name),
        address=f"reports/{project}/{known.name}", about=f"tables/{project}/{known.name}",
    )  # fmt: skip


@router.get("/monitoring/{project}/{model}")
def monitoring_report(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, model: str, at: str = ""
) -> Response:
    """The newest monitoring report of a model (or the one of the window that ends `at` a moment), and the others."""
    known = check_model(find_project(workspace, reader, project), model)
    shelf = Shelf.of_model(workspace, project, known)
    never = f"{project}.{model} was not monitored yet."
    name, names = _choose(shelf, at, never, f"{project}.{model}.monitoring")
    return render(
        request, "report.html", project=project, subject=known, kind="Monitoring report", name=name,
        reports=[(one, moment(one)) for one in names], when=moment(name), verdict=None,
        address=f"monitoring/{project}/{known}", about=f"models/{project}/{known}",
    )  # fmt: skip


@router.get("/compliance/{project}/{model}/{version}")
def compliance_page(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, model: str, version: int
) -> Response:  # fmt: skip
    """What the compliance check found of a version."""
    known = check_model(find_project(workspace, reader, project), model)
    report = compliance_report(workspace, project, known, version)
    if report is None:
        raise NothingYet(
            f"Version {version} of {project}.{known} was not checked yet.",
            f"The DAG {project}.{known}.model_promotion leaves a report of each version that it takes up.",
        )
    return render(
        request, "compliance.html", project=project, model=known, report=report,
        versions=reported_versions(workspace, project, known),
    )  # fmt: skip


@router.get("/reports/{project}/{table}/{name}")
def quality_file(
    reader: CurrentReader, workspace: CurrentWorkspace, project: str, table: str, name: str
) -> Response:  # fmt: skip
    """A validation's page as it was written, for the frame that shows it."""
    known = find_table(workspace, find_project(workspace, reader, project), table)
    return _file(Shelf.of_table(workspace, project, known.name), name)


@router.get("/monitoring/{project}/{model}/{name}")
def monitoring_file(
    reader: CurrentReader, workspace: CurrentWorkspace, project: str, model: str, name: str
) -> Response:  # fmt: skip
    """A monitoring report as it was written, for the frame that shows it."""
    known = check_model(find_project(workspace, reader, project), model)
    return _file(Shelf.of_model(workspace, project, known), name)


@router.get("/models/{project}/{model}")
def model_page(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, airflow: CurrentAirflow, project: str,
    model: str,
) -> Response:  # fmt: skip
    """A model: versions, the audit of stages, comparisons, retraining decisions."""
    loaded = find_project(workspace, reader, project)
    name = check_model(loaded, model)
    return render(
        request, "model.html", project=project, model=name, spec=loaded.spec.models[name],
        owner=loaded.spec.models[name].owner or loaded.spec.owner,
        registry=registry_view(workspace, loaded, name), transitions=transitions(workspace, project, name),
        comparisons=comparisons(workspace, project, name), decisions=retraining_decisions(workspace, project, name),
        window=last_window(workspace, project, name), holds=model_holds(workspace, project, name),
        notes=notes(workspace, project, name),
        questions=airflow.questions([f"{project}.{name}.model_promotion"]),
    )  # fmt: skip


@router.get("/cards/{project}/{model}")
def card_page(
    request: Request, reader: CurrentReader, workspace: CurrentWorkspace, project: str, model: str,
    run: str = "", version: str = "",
) -> Response:  # fmt: skip
    """The model card of a version, or of a training run."""
    loaded = find_project(workspace, reader, project)
    name = check_model(loaded, model)
    place = find_card(workspace, loaded, name, run, version)
    read_card(workspace, loaded, name, place.run_id)  # where there is none, this page says so
    return render(request, "card.html", project=project, model=name, place=place)


@router.get("/cards/{project}/{model}/{run}")
def card_file(reader: CurrentReader, workspace: CurrentWorkspace, project: str, model: str, run: str) -> Response:
    """A card as it was written, for the frame that shows it."""
    loaded = find_project(workspace, reader, project)
    content = read_card(workspace, loaded, check_model(loaded, model), run)
    return Response(content, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _CARD_POLICY})


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """The pages' own stylesheet and script."""
    if name not in _STATIC:
        raise UnknownPage(f"There is no file {name!r}.")
    return Response((FOLDER / "static" / name).read_bytes(), media_type=_STATIC[name])


@router.get("/{rest:path}")
def unknown(rest: str) -> Response:
    """Everything else."""
    raise UnknownPage(f"There is no page {rest!r}.", "Start at the overview.")


def _choose(shelf: Shelf, at: str, never: str, dag_id: str) -> tuple[str, list[str]]:
    """The report that was asked for, by its name, else the newest; and all names."""
    names = shelf.names()
    if not names:
        raise NothingYet(never, f"The DAG {dag_id} leaves a report each time that it has something to look at.")
    if at and at not in names:
        raise UnknownPage(f"There is no report {at!r} on {shelf.project}.{shelf.folder}.", "Choose one from the list.")
    return at or names[0], names


def _file(shelf: Shelf, name: str) -> Response:
    return Response(
        shelf.page(name), media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _REPORT_POLICY}
    )


def _split(address: str, project: str) -> tuple[str, str]:
    """An input's project and name; Penstock's records name inputs of the same project without it."""
    owner, dot, name = address.rpartition(".")
    return (owner, name) if dot else (project, name)
