"""Whether a model uses columns that it must not see: directly, or through features that were made from them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import PenstockError
from penstock.features.column_sources import column_sources
from penstock.features.table_info import declaration
from penstock.gates import some
from penstock.lakehouse.addresses import Address, full_name
from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.spec.project import FeatureTable, Source
from penstock.training.used_columns import used_columns
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject

_FEATURE = "feature of"
Step = tuple[str, str]  # `project.table`, column


@dataclass
class _Trail:
    """Follows columns back to their sources, each once. unreadable: why, by project whose declaration has faults."""

    workspace: Workspace
    forbidden: frozenset[Step]
    unreadable: dict[str, str]
    used: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    seen: set[Step] = field(default_factory=set)

    def follow(self, step: Step, path: tuple[Step, ...] = ()) -> None:
        """Notes every way from a column to a forbidden one."""
        way = (*path, step)
        if step in self.forbidden:
            self.used.append(_text(way))
            return
        if step in self.seen:
            return
        self.seen.add(step)
        table, column = step
        if unknown := self._unknown(table):
            self.unclear.append(f"{_text(way)}: {unknown}")
            return
        sources = _sources(self.workspace, table)
        if sources is None:
            hidden = sorted(self._behind(table, set()))
            if hidden:
                self.unclear.append(f"{_text(way)}: its transformation cannot be followed, and reads {some(hidden)}")
            return
        for source in sources.get(column, ()):
            self.follow(source, way)

    def _behind(self, table: str, seen: set[str]) -> Iterator[str]:
        """The forbidden columns of the tables that a table is made from, over all steps, and what nobody knows of."""
        for name in _inputs(self.workspace, table):
            if name in seen:
                continue
            seen.add(name)
            if unknown := self._unknown(name):
                yield f"{name} ({unknown})"
                continue
            yield from (".".join(one) for one in self.forbidden if one[0] == name)
            yield from self._behind(name, seen)

    def _unknown(self, table: str) -> str | None:
        """Why nobody knows which of a table's columns are personal; None where its declaration says it."""
        why = self.unreadable.get(Address.parse(table).project)
        return why and f"whether it is personal is not known, since the declaration cannot be read ({why})"


def _text(way: tuple[Step, ...]) -> str:
    return " <- ".join(".".join(one) for one in way)


@check("personal_data")
def check_personal_data(subject: "Subject") -> "Check":
    """No feature is, or is computed from, a column with `personal: true` or one of
    `promotion.compliance.forbidden_columns`. Columns are followed through the SQL of feature tables over all steps,
    across projects; columns that only filter, join or group do not count, nor do keys of lookups. Behind a Python
    function they cannot be told apart: that warns where its inputs hold such a column. So does a feature made from a
    table of a project whose declaration has faults. Train without the feature.
    """
    forbidden, unreadable = _declared(subject)
    if not forbidden and not unreadable:
        return passed("no column of the projects here is declared as personal, and none is forbidden")
    trail = _Trail(subject.workspace, forbidden, unreadable)
    for used in used_columns(subject.feature_spec, subject.project.name):
        if used.how == _FEATURE:
            trail.follow((used.table, used.column))
    evidence = {"forbidden": sorted(".".join(one) for one in forbidden), "paths": trail.used, "unclear": trail.unclear}
    if trail.used:
        return failed(f"uses {some(trail.used)}: train it without", **evidence)
    if trail.unclear:
        return warned(f"may use personal data: {some(trail.unclear)}", **evidence)
    return passed(f"uses none of the {len(forbidden)} forbidden columns, also not through its features", **evidence)


def _declared(subject: "Subject") -> tuple[frozenset[Step], dict[str, str]]:
    """The forbidden columns, and the projects that may declare more: by name, what is wrong with their declaration."""
    workspace, own = subject.workspace, subject.project.name
    found: set[Step] = set()
    unreadable: dict[str, str] = {}
    for text in subject.asked.forbidden_columns:
        table, _, column = text.rpartition(".")
        found.add((full_name(table, own), column))
    for name in {*workspace.project_names, own}:
        try:
            spec = workspace.project(name).spec
        except PenstockError as error:  # another team's, or its file is being edited
            unreadable[name] = str(error).splitlines()[0]
            continue
        tables: dict[str, Source | FeatureTable] = {**spec.sources, **spec.feature_tables}
        for table, declared in tables.items():
            found |= {(f"{name}.{table}", column) for column, about in declared.columns.items() if about.personal}
    return frozenset(found), unreadable


def _sources(workspace: Workspace, table: str) -> dict[str, tuple[Step, ...]] | None:
    """By column, the columns behind it; empty for a raw table, None where they cannot be told."""
    address = Address.parse(table)
    try:
        if not isinstance(declaration(workspace, address), FeatureTable):
            return {}
        return column_sources(workspace, address) or None
    except PenstockError:
        return None


def _inputs(workspace: Workspace, table: str) -> list[str]:
    address = Address.parse(table)
    try:
        declared = declaration(workspace, address)
    except PenstockError:
        return []
    return [full_name(name, address.project) for name in declared.inputs] if isinstance(declared, FeatureTable) else []
