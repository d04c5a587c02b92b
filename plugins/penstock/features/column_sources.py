"""Which columns of its inputs the columns of a feature table come from."""

from penstock.errors import PenstockError
from penstock.features.table_info import declaration
from penstock.lakehouse.addresses import Address, full_name
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.spec.sql_columns import QueryColumns, query_columns
from penstock.workspace import Workspace


def column_sources(workspace: Workspace, address: Address) -> dict[str, tuple[tuple[str, str], ...]]:
    """By column of a SQL feature table, the (`project.table`, column) pairs of its value; empty for other tables."""
    spec = declaration(workspace, address)
    if not isinstance(spec, FeatureTable):
        return {}
    found = table_columns(workspace, workspace.project(address.project), spec)
    return {
        column: tuple((full_name(item, address.project), source) for item, source in sources)
        for column, sources in (found.values if found else {}).items()
    }


def table_columns(workspace: Workspace, project: LoadedProject, spec: FeatureTable) -> QueryColumns | None:
    """The input columns behind each column of a SQL feature table; None for a function, and where it cannot be told."""
    if spec.sql is None:
        return None
    inputs = {}
    for item in spec.inputs:
        address = Address.parse(item, project.name)
        try:
            declared = declaration(workspace, address)
        except PenstockError:
            declared = None
        if declared is None:
            return None
        inputs[item] = {name: str(column.type) for name, column in declared.columns.items()}
    try:
        text = (project.folder / spec.sql).read_text(encoding="utf-8")
    except OSError:
        return None  # `penstock validate` says so
    return query_columns(text, inputs, list(spec.columns))
