"""Validates everything under a root's include/: all projects, all environments, all faults at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.spec.checks import check_environment, check_files, check_references
from penstock.spec.checks.online import check_online
from penstock.spec.faults import Fault, Severity, YamlPath, errors_of, ordered
from penstock.spec.graph import find_cycles, used_projects
from penstock.spec.loading import (
    ReadEnvironment,
    ReadProject,
    environments_folder,
    projects_folder,
    read_environment,
    read_project,
)
from penstock.spec.project import Project
from penstock.spec.references import parse_table_name


@dataclass(frozen=True)
class Validation:
    """What was looked at, and every fault by file and line."""

    root: Path
    projects: tuple[str, ...]
    environments: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> int:
        """How many faults must be mended."""
        return len(errors_of(self.faults))

    @property
    def warnings(self) -> int:
        """How many faults are warnings."""
        return len(self.faults) - self.errors

    def to_dict(self) -> dict[str, Any]:
        """JSON values; files relative to the root."""
        found = [fault.to_dict() for fault in self.faults]
        for fault in found:
            file = Path(fault["file"])
            fault["file"] = str(file.relative_to(self.root) if file.is_relative_to(self.root) else file)
        return {
            "root": str(self.root), "projects": list(self.projects), "environments": list(self.environments),
            "errors": self.errors, "warnings": self.warnings, "faults": found,
        }  # fmt: skip


def validate_root(root: Path, environment: str) -> Validation:
    """Validates include/ under `root`.

    `environment` is the selected one: a variable that is not set is an error in its file, and a warning in
    the others', whose secrets need not be on this machine.
    """
    root = root.resolve()
    folders = sorted(file.parent for file in projects_folder(root).glob("*/project.yaml"))
    projects = {folder.name: read_project(folder) for folder in folders}
    environments = {
        file.stem: read_environment(file, Severity.ERROR if file.stem == environment else Severity.WARNING)
        for file in sorted(environments_folder(root).glob("*.yaml"))
    }
    faults = [
        *_layout(root, environments, environment),
        *_environments(environments),
        *_projects(projects, environments),
        *_cycles_between(projects),
    ]
    return Validation(root, tuple(projects), tuple(environments), tuple(ordered(faults)))


def _environments(environments: Mapping[str, ReadEnvironment]) -> Iterator[Fault]:
    for read in environments.values():
        yield from read.faults
        yield from check_environment(read)


def _projects(projects: Mapping[str, ReadProject], environments: Mapping[str, ReadEnvironment]) -> Iterator[Fault]:
    specs = [read.spec for read in environments.values()]
    roots = None
    if all(spec is not None for spec in specs):
        roots = frozenset(root.name for spec in specs if spec is not None for root in spec.lakehouse.read_only)
    for read in projects.values():
        yield from read.faults
        yield from check_references(read, projects, roots)
        yield from check_online(read, environments)
        yield from check_files(read, projects, roots)


def _layout(root: Path, environments: Mapping[str, ReadEnvironment], environment: str) -> Iterator[Fault]:
    """What lies where nothing is looked for, or is missing."""
    for folder in (projects_folder(root), environments_folder(root)):
        if not folder.is_dir():
            yield Fault(str(folder), 1, "", "there is no such folder", "create it, or name another root by --root")
        for file in sorted(folder.rglob("*.yml")):
            yield Fault(str(file), 1, "", "is not read: its name ends in .yml", f"rename it to {file.stem}.yaml")
    if environments_folder(root).is_dir() and environment not in environments:
        file = environments_folder(root) / f"{environment}.yaml"
        known = ", ".join(environments) or "none"
        yield Fault(
            str(file), 1, "", f"the selected environment {environment!r} has no file",
            f"create it, or set PENSTOCK_ENV to one of: {known}",
        )  # fmt: skip
    folders = projects_folder(root).glob("*/") if projects_folder(root).is_dir() else ()
    for folder in sorted(folders):
        hidden = folder.name.startswith((".", "_"))
        if not hidden and not (folder / "project.yaml").exists() and not (folder / "project.yml").exists():
            remedy = "add one, or remove the folder"
            yield Fault(str(folder), 1, "", "is no project: it has no project.yaml", remedy, Severity.WARNING)


def _cycles_between(projects: Mapping[str, ReadProject]) -> Iterator[Fault]:
    """Projects that read each other: each refresh would start the other's, for ever."""
    uses = {name: used_projects(read.spec) for name, read in projects.items() if read.spec is not None}
    for cycle in find_cycles(uses):
        first, second = cycle[0], cycle[1]
        spec = projects[first].spec
        assert spec is not None
        yield projects[first].document.fault(
            _first_use(spec, second),
            f"the projects read each other in a circle: {' -> '.join(cycle)}",
            "read from one side only, or move the tables that both need to a project of their own",
        )


def _first_use(spec: Project, other: str) -> YamlPath:
    """Where a project names a table of another one first."""

    def is_other(address: str) -> bool:
        name = parse_table_name(address, spec.name)
        return name is not None and name.root is None and name.project == other

    for table, declared in spec.feature_tables.items():
        for index, address in enumerate(declared.inputs):
            if is_other(address):
                return ("feature_tables", table, "inputs", index)
    for name, model in spec.models.items():
        for index, lookup in enumerate(model.lookups):
            if is_other(lookup.table):
                return ("models", name, "lookups", index, "table")
        for part, table in (("entity", model.entity.table), ("label", model.label.table)):
            if is_other(table):
                return ("models", name, part, "table")
    return ()
