"""Templates: Jinja2 with autoescape on, and the few filters that they use."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from penstock.clock import to_text
from penstock.home import environment_name

FOLDER = Path(__file__).parent
MOUNT = "/penstock"


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. `here` is where the pages are mounted, `airflow` where Airflow's own are."""
    here = str(request.scope.get("root_path", ""))
    places = {"here": here, "airflow": here.removesuffix(MOUNT), "environment": environment_name()}
    return HTMLResponse(_templates().get_template(template).render(**places, **values), status_code=status)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "moment": moment,
        "newest": newest,
        "count": count,
        "figure": figure,
        "path": path,
        "words": words,
    }
    environment.globals["run_path"] = run_path
    return environment


def moment(value: str | datetime | None) -> Markup:
    """A UTC moment for people, in a <time>: `2013-05-01`, or `2013-05-01 06:30` (UTC) if it is not midnight."""
    if not value:
        return Markup("–")
    text = to_text(value.astimezone(UTC)) if isinstance(value, datetime) else value
    day, _, clock = text.removesuffix("Z").partition("T")
    shown = day if clock in ("", "00:00:00") else f"{day} {clock[:5]}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(text, shown)


def newest(value: str | None) -> Markup:
    """The newest time of a table; the epoch stands for values that may be used at any time."""
    if value and value.startswith("1970-01-01T00:00:00"):
        return Markup('<span class="quiet" title="{}">any time</span>').format(value)
    return moment(value)


def count(value: int | None) -> str:
    """A whole number: `115,565`."""
    return "–" if value is None else f"{value:,}"


def figure(value: float | None) -> str:
    """A figure with four digits: `0.6566`."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def path(value: str) -> str:
    """A part of an address."""
    return quote(value, safe="")


def words(value: str) -> str:
    """A name as words: feature_refresh → feature refresh."""
    return value.replace("_", " ")


def run_path(run: str) -> str | None:
    """Airflow's page of a recorded run (`dag_id/run_id`), below Airflow's own address; None for other runs."""
    dag_id, slash, run_id = run.partition("/")
    return f"/dags/{path(dag_id)}/runs/{path(run_id)}" if slash and dag_id and run_id else None
