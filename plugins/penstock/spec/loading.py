"""Loads projects and environments from include/.

Whatever loads a project gets one that fits its model and whose parts refer to each other rightly; what needs
the files beside it (SQL, Python, suites) or other projects is for `penstock.spec.validation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import SpecError
from penstock.spec.documents import Document, read_document
from penstock.spec.environment import Environment
from penstock.spec.faults import (
    MOST_RENDERED,
    Fault,
    InvalidSpecError,
    Severity,
    errors_of,
    ordered,
    shorten,
    suggestion,
)
from penstock.spec.project import Model, Project
from penstock.spec.salvage import salvage
from penstock.spec.shapes import fit
from penstock.spec.variables import fill

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LoadedProject:
    """A project's declaration with the folder that it came from."""

    spec: Project
    folder: Path

    @property
    def name(self) -> str:
        """The project's name, which is its folder's."""
        return self.spec.name

    def model(self, name: str) -> Model:
        """A model by name. Raises SpecError for an unknown one."""
        if name not in self.spec.models:
            known = ", ".join(self.spec.models) or "none"
            raise SpecError(f"{self.folder / 'project.yaml'}: no model {name!r} (there are: {known})")
        return self.spec.models[name]


@dataclass(frozen=True)
class ReadFile:
    """A file as far as it could be read: its document, and the faults of its shape."""

    document: Document
    faults: list[Fault]


@dataclass(frozen=True)
class ReadProject(ReadFile):
    """A project file. `spec` is None where nothing can be made of it; `broken` names the sources, feature
    tables and models that were left out of it for their faults."""

    spec: Project | None
    broken: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.document.file.parent


@dataclass(frozen=True)
class ReadEnvironment(ReadFile):
    """An environment file; `spec` is None where it does not fit."""

    spec: Environment | None


def projects_folder(root: Path) -> Path:
    """Where the projects of a root live."""
    return root / "include" / "projects"


def environments_folder(root: Path) -> Path:
    """Where the environments of a root live."""
    return root / "include" / "environments"


def project_names(root: Path) -> list[str]:
    """The folders with a project.yaml, sorted."""
    return sorted(path.parent.name for path in projects_folder(root).glob("*/project.yaml"))


def environment_names(root: Path) -> list[str]:
    """The environments that have a file, sorted."""
    return sorted(path.stem for path in environments_folder(root).glob("*.yaml"))


def load_project(root: Path, name: str) -> LoadedProject:
    """Reads include/projects/<name>/project.yaml. Raises InvalidSpecError with every fault of the file."""
    from penstock.spec.checks import check_references

    read = read_project(projects_folder(root) / name)
    faults = [*read.faults, *check_references(read)]
    if errors_of(faults) or read.spec is None:
        raise InvalidSpecError(ordered(errors_of(faults)))
    return LoadedProject(read.spec, read.folder)


def given_project(declaration: Mapping[str, Any], folder: Path) -> LoadedProject:
    """A project that is declared in place (the content of a project.yaml), with its files below `folder`.

    Raises SpecError with every field that is wrong.
    """
    from penstock.spec.checks import check_references

    data = dict(declaration)
    document = Document(Path(str(data.get("name"))) / "project.yaml", data)  # a folder of its own, as it were
    fitted = fit(document, data, Project)
    found = ReadProject(document, list(fitted.faults), fitted.spec)
    faults = ordered(errors_of([*found.faults, *check_references(found)]))
    if faults or found.spec is None:
        lines = [f"{fault.path or 'it'}: {shorten(fault.message)}; {shorten(fault.remedy)}" for fault in faults]
        raise SpecError("the declaration given in place is wrong:\n" + "\n".join(lines[:MOST_RENDERED]))
    return LoadedProject(found.spec, folder)


def load_environment(root: Path, name: str) -> Environment:
    """Reads include/environments/<name>.yaml, with ${VAR} filled in. Raises InvalidSpecError."""
    from penstock.spec.checks import check_environment

    file = environments_folder(root) / f"{name}.yaml"
    if not file.is_file():
        hint = suggestion(name, environment_names(root), "environments")
        remedy = f"PENSTOCK_ENV selects the environment: {hint}, or create the file"
        raise InvalidSpecError([Fault(str(file), 1, "", "no such file", remedy)])
    read = read_environment(file)
    faults = [*read.faults, *check_environment(read)]
    if errors_of(faults) or read.spec is None:
        raise InvalidSpecError(ordered(errors_of(faults)))
    return read.spec


def read_project(folder: Path) -> ReadProject:
    """Reads a project's folder as far as possible; never raises for what the file holds."""
    document = read_document(folder / "project.yaml")
    if document.data is None:
        return ReadProject(document, document.faults, None)
    data, unset = fill(document)
    fitted = fit(document, data, Project)
    spec, broken = (fitted.spec, NOTHING) if fitted.spec is not None else salvage(data, fitted, folder.name)
    return ReadProject(document, [*document.faults, *unset, *fitted.faults], spec, broken)


def read_environment(file: Path, unset: Severity = Severity.ERROR) -> ReadEnvironment:
    """Reads an environment file; a variable that is not set is a fault of the given severity."""
    document = read_document(file)
    if document.data is None:
        return ReadEnvironment(document, document.faults, None)
    data, missing = fill(document, unset)
    fitted = fit(document, data, Environment)
    unknowable = {fault.path for fault in missing}  # a value with an unset variable cannot be judged
    faults = [fault for fault in fitted.faults if fault.path not in unknowable]
    return ReadEnvironment(document, [*document.faults, *missing, *faults], fitted.spec)
