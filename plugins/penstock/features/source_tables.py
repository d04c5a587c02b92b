"""The Delta table of a source, as its declaration has it."""

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Source


def create_source_table(project: LoadedProject, source: Source, path: str) -> None:
    """Makes the table where it is missing, and adds columns that were declared since. Raises TableError for types."""
    from penstock.lakehouse.small_tables import create_if_missing

    create_if_missing(
        path, source.columns, keys=source.primary_keys, description=source.description,
        properties={"penstock.owner": source.owner or project.spec.owner, "penstock.available_at": source.available_at,
                    "penstock.writer": "deltalake"},
    )  # fmt: skip
