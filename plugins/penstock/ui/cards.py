"""Model cards as the pages show them: a file of a training run, asked of MLflow by its REST API."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from penstock.registry.client import registered_name
from penstock.spec.loading import LoadedProject
from penstock.ui.faults import NothingYet, UnknownPage, Unreadable
from penstock.ui.mlflow_rest import asking, get_json
from penstock.workspace import Workspace

_CARD_PAGE = "model_card.html"  # penstock.training.card writes it; that module needs more than the API server has
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MOST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class CardPlace:
    """A run of a model; version: what was registered of it, empty where nothing was or it is not asked for."""

    run_id: str
    version: str = ""


def find_card(workspace: Workspace, project: LoadedProject, model: str, run: str, version: str) -> CardPlace:
    """The run that is asked for: by its id, or by the number of its version. Raises UnknownPage, Unreadable."""
    if bool(run) == bool(version):
        raise UnknownPage("Which card?", "Give ?version=3, or ?run= with the id of an MLflow run.")
    if version:
        with asking(workspace, registry=True) as client:
            return CardPlace(_run_of(client, registered_name(project.name, model), version), version)
    with asking(workspace) as client:
        _check_run(client, project.name, model, run)
        return CardPlace(run)


def read_card(workspace: Workspace, project: LoadedProject, model: str, run: str) -> bytes:
    """The page of a run's card. Raises NothingYet, UnknownPage, Unreadable."""
    with asking(workspace) as client:
        _check_run(client, project.name, model, run)
        with client.stream("GET", "/get-artifact", params={"run_id": run, "path": _CARD_PAGE}) as answer:
            if answer.status_code >= 400:
                raise NothingYet(
                    f"The run {run} has no {_CARD_PAGE} (MLflow answered {answer.status_code}).",
                    "Registering a model writes its card. `penstock.training.card.card_model` writes it again.",
                )
            content = b""
            for part in answer.iter_bytes():
                content += part
                if len(content) > _MOST_BYTES:
                    raise Unreadable(f"The card of run {run} has more than {_MOST_BYTES:,} bytes.", "See MLflow.")
            return content


def _run_of(client: Any, name: str, version: str) -> str:
    found = get_json(client, "model-versions/get", name=name, version=version) if version.isdecimal() else None
    if found is None:
        raise UnknownPage(f"{name} has no version {version!r}.", "The page of the model lists those that there are.")
    item = found["model_version"]
    if item.get("run_id"):
        return str(item["run_id"])
    logged = get_json(client, f"logged-models/{quote(item['model_id'])}") if item.get("model_id") else None
    run = (logged or {}).get("model", {}).get("info", {}).get("source_run_id", "")
    if not run:
        raise NothingYet(
            f"Version {version} of {name} does not come from a training run, so it has no card.",
            "A version that another tool registered is described in MLflow.",
        )
    return str(run)


def _check_run(client: Any, project: str, model: str, run: str) -> None:
    """A run of another model is unknown here: who may read this project need not be allowed to read that one."""
    found = get_json(client, "runs/get", run_id=run) if _RUN_ID.fullmatch(run) else None
    tags = {tag["key"]: tag["value"] for tag in found["run"]["data"].get("tags", [])} if found else {}
    if (tags.get("penstock.project"), tags.get("penstock.model")) != (project, model):
        raise UnknownPage(
            f"{project}.{model} has no training run {run!r}.", "The page of the model lists its versions."
        )
