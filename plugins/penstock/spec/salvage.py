"""Makes what can be made of a project file that does not fit, so that the rest of it can be checked too."""

import copy
from typing import Any

from pydantic import ValidationError

from penstock.spec.faults import YamlPath
from penstock.spec.project import Project
from penstock.spec.shapes import Fit

SECTIONS = ("sources", "feature_tables", "models")


def salvage(data: Any, fitted: Fit[Project], name: str) -> tuple[Project | None, frozenset[str]]:
    """The project without its faulty parts, and the names of the tables and models that were left out.

    Unknown fields are dropped, a source, feature table or model with any other fault as a whole; a faulty
    field at the top level gets a stand-in.
    """
    if any(len(place) < 2 and (not place or place[0] in SECTIONS) for place in fitted.misfits):
        return None, frozenset()
    kept = copy.deepcopy(data)
    for place in fitted.unknown:
        _remove(kept, place)
    broken: set[str] = set()
    for place in fitted.misfits:
        in_section = place[0] in SECTIONS
        _remove(kept, place[:2] if in_section else place[:1])
        if in_section:
            broken.add(str(place[1]))
    try:
        stand_ins = {"name": name, "description": "?", "owner": "?"}
        return Project.model_validate({**stand_ins, **kept}), frozenset(broken)
    except ValidationError:
        return None, frozenset()


def _remove(data: Any, place: YamlPath) -> None:
    for part in place[:-1]:
        data = data.get(part) if isinstance(data, dict) else data[part]
        if data is None:
            return
    if isinstance(data, dict):
        data.pop(place[-1], None)
