"""The list of checks: each is a function with a name, a severity and a document (its docstring)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.gates import Check, Outcome
from penstock.spec.compliance import Compliance, Severity
from penstock.spec.environment import Environment

CheckFunction = Callable[[Any], Check]

DEV = "dev"


@dataclass(frozen=True)
class RegisteredCheck:
    """A check. in_dev: its severity in an environment named dev; fixed: no severity of a file counts.

    environments: outside of dev a project's severity does not count, only the environment's. on_loaded: made once the
    model was loaded in a process of its own.
    """

    name: str
    function: CheckFunction
    severity: Severity = Severity.BLOCK
    in_dev: Severity | None = None
    fixed: bool = False
    on_loaded: bool = False
    environments: bool = False

    @property
    def document(self) -> str:
        """What it asks for, and what to do where that does not hold."""
        return " ".join((self.function.__doc__ or "").split())

    def severity_in(self, environment: Environment, asked: Compliance) -> tuple[Severity, str]:
        """The severity, and who says so: the environment's file, the project's, or the check itself."""
        if self.fixed:
            return self.severity, "always"
        if self.name in environment.compliance.severities:
            return environment.compliance.severities[self.name], f"environment {environment.name}"
        if self.name in asked.severities and (environment.name == DEV or not self.environments):
            return asked.severities[self.name], "project.yaml"
        if environment.name == DEV and self.in_dev is not None:
            return self.in_dev, "default in dev"
        return self.severity, "default"


CHECKS: dict[str, RegisteredCheck] = {}


def check(
    name: str, severity: Severity = Severity.BLOCK, *, in_dev: Severity | None = None, fixed: bool = False,
    on_loaded: bool = False, environments: bool = False,
) -> Callable[[CheckFunction], CheckFunction]:  # fmt: skip
    """Registers a function(subject) -> Check; those of on_loaded come after the others."""

    def register(function: CheckFunction) -> CheckFunction:
        CHECKS[name] = RegisteredCheck(name, function, severity, in_dev, fixed, on_loaded, environments)
        return function

    return register


def passed(detail: str, **evidence: Any) -> Check:
    """A check that found all well."""
    return Check("", Outcome.PASS, detail, evidence)


def warned(detail: str, **evidence: Any) -> Check:
    """A check that found something to look at."""
    return Check("", Outcome.WARN, detail, evidence)


def failed(detail: str, **evidence: Any) -> Check:
    """A check that found a fault; its severity decides what that does."""
    return Check("", Outcome.FAIL, detail, evidence)
