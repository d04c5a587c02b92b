"""How a candidate is compared: small functions by name, which answer now or after some windows.

A method takes a `Contest` (the two versions, and on demand the newest labelled rows that neither has trained on)
and answers a `Finding`, or `Pending` where it needs traffic or labels that are not there yet: then it is asked
again later, with the same contest but for `asked_at`. What it must remember in between stands in tables, never
in the process: each question may be asked by another one, and more than once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import GateError, PenstockError, SpecError
from penstock.gates import Check
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject

if TYPE_CHECKING:
    from penstock.registry.contest import Contest
    from penstock.training.differences import Difference

ALL_ROWS = "all"
"""The slice of every row."""
INFORMATIVE = "info"
"""The verdict of a figure that does not decide."""


@dataclass(frozen=True)
class Measured:
    """One metric of the candidate and of what it is held against (`reference`), on a slice: a row of the table.

    required: what the lower end of the difference's interval must exceed; None where the figure does not decide.
    why_not: why a slice was not compared.
    """

    reference: str
    difference: "Difference"
    rows: int
    unit: str
    units: int
    slice: str = ALL_ROWS
    required: float | None = None
    verdict: str = INFORMATIVE
    reason: str | None = None


@dataclass(frozen=True)
class Finding:
    """A method's answer: checks of the verdict, and the figures behind them."""

    checks: tuple[Check, ...]
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Pending:
    """No answer yet, and why. `until`: when there will be one, in the clock of as_of; None where nobody knows.

    ask_again_after: how long (on the wall clock) to wait before the next question.
    """

    reason: str
    until: datetime | None = None
    ask_again_after: timedelta = timedelta(minutes=10)

    @property
    def sentence(self) -> str:
        """The reason, and until when."""
        return f"{self.reason} (until {to_text(self.until)})" if self.until else self.reason


Method = Callable[["Contest"], Finding | Pending]


def method_of(project: LoadedProject, name: str) -> Method:
    """A method by its name, or a project's own by its dotted name. Raises SpecError for an unknown one."""
    if "." in name:
        return _own(name, load_function(project, name))
    known = built_in()
    if name not in known:
        raise SpecError(
            f"{project.folder / 'project.yaml'}: promotion.methods names {name!r}: write {', '.join(known)}, "
            "or the dotted name of a function(contest) of the project"
        )
    return known[name]


def built_in() -> dict[str, Method]:
    """Penstock's own methods by name."""
    from penstock.registry.holdout import against_heuristic, against_production

    return {"heuristic": against_heuristic, "holdout": against_production}


def _own(name: str, function: Callable[..., Any]) -> Method:
    def ask(contest: "Contest") -> Finding | Pending:
        try:
            answer = function(contest)
        except PenstockError:  # of the contest: a service that does not answer, a version that cannot score
            raise
        except Exception as error:  # the project's own code may raise anything
            raise GateError(f"promotion.methods {name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(answer, Finding | Pending):
            raise GateError(
                f"promotion.methods {name} answered {type(answer).__name__}: return a Finding or Pending "
                "of penstock.registry.methods"
            )
        return answer

    return ask
