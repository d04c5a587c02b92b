"""The one family of exceptions of this project.

An error says what is wrong, where (file and line, table, column, key), and what to do.
"""


class PenstockError(Exception):
    """Something that a person can mend; its text says what is wrong, where, and what to do."""


class SpecError(PenstockError):
    """A project or environment file is wrong; names file and line."""


class TableError(PenstockError):
    """A table is missing, or does not have the shape that its declaration promises."""


class ClockError(PenstockError):
    """An as_of is no timestamp, or lies where it cannot be."""


class ServiceError(PenstockError):
    """Spark, MLflow, Airflow or a file system did not answer; trying again may help."""


class GateError(PenstockError):
    """A gate that must hold did not: what follows it must not run."""


class DefinitionChanged(GateError):
    """A table's definition is not the one that its rows were made by; `removed` columns are no longer declared."""

    def __init__(self, message: str, table: str, removed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.table = table
        self.removed = removed

    def __reduce__(self) -> tuple[type["DefinitionChanged"], tuple[str, str, tuple[str, ...]]]:
        return type(self), (str(self), self.table, self.removed)


class ShapeChanged(TableError):
    """A table's keys or the type of a column are declared otherwise than its rows are stored."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table

    def __reduce__(self) -> tuple[type["ShapeChanged"], tuple[str, str]]:
        return type(self), (str(self), self.table)


class NothingToDo(PenstockError):
    """There is nothing new, or nothing yet, to work on. Not a fault: operators skip on it."""


class RegistryError(PenstockError):
    """A model or a version is not in the registry, or lacks what it must carry."""
