"""What can go wrong with the local stack."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import PenstockError


class StackError(PenstockError):
    """The local stack cannot do what was asked."""


class JavaNotFoundError(StackError):
    """No Java that Spark works with was found."""


class JarsError(StackError):
    """Spark's jars are missing and could not be fetched."""


class MachineError(StackError):
    """The machine is not fit to start the stack; holds every problem found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("cannot start the stack:\n" + "\n".join(f"  - {p}" for p in problems))


class ServiceFailedError(StackError):
    """A service did not come up; the message holds the end of its log."""
