"""The order of a project's feature tables: each after the feature tables that it reads."""

from penstock.errors import SpecError
from penstock.spec.project import Project
from penstock.spec.references import parse_table_name


class CyclicInputsError(SpecError):
    """Feature tables that read each other; `cycle` lists them, the first one again at the end."""

    def __init__(self, cycle: list[str]) -> None:
        super().__init__(
            f"the feature tables read each other in a circle: {' -> '.join(cycle)}; "
            "remove one of these inputs, or move what both need to a table of its own"
        )
        self.cycle = cycle

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return type(self), (self.cycle,)


def feature_table_order(project: Project) -> list[str]:
    """The feature tables' names, inputs first, otherwise as declared. Raises CyclicInputsError."""
    own = f"{project.name}."
    inputs = {
        name: [read.removeprefix(own) for read in table.inputs if read.removeprefix(own) in project.feature_tables]
        for name, table in project.feature_tables.items()
    }
    order: dict[str, None] = {}
    for name in inputs:
        _visit(name, inputs, order, [])
    return list(order)


def used_projects(project: Project) -> list[str]:
    """The other projects whose tables a project reads: as inputs, lookups, entities or labels."""
    read = [name for table in project.feature_tables.values() for name in table.inputs]
    for model in project.models.values():
        read += [model.entity.table, model.label.table, *(lookup.table for lookup in model.lookups)]
    names = [parse_table_name(text, project.name) for text in read]
    found = {name.project for name in names if name is not None and name.root is None}
    return sorted(found - {project.name})


def find_cycles(inputs: dict[str, list[str]]) -> list[list[str]]:
    """The cycles of a graph (name -> what it reads), one for each group of names that read each other."""
    cycles: list[list[str]] = []
    done: dict[str, None] = {}
    for name in inputs:
        if name in done:
            continue
        try:
            _visit(name, inputs, done, [])
        except CyclicInputsError as error:
            cycles.append(error.cycle)
            done.update(dict.fromkeys(error.cycle))
    return cycles


def _visit(name: str, inputs: dict[str, list[str]], order: dict[str, None], above: list[str]) -> None:
    if name in order:
        return
    if name in above:
        raise CyclicInputsError([*above[above.index(name) :], name])
    for read in inputs.get(name, []):
        _visit(read, inputs, order, [*above, name])
    order[name] = None
