"""`${VAR}` and `${VAR:-default}` in the values of a YAML file; a default may hold further variables.

As in a shell, the default also stands for a variable that is set but empty.
"""

import os
from collections.abc import Callable
from typing import Any

from penstock.home import home
from penstock.spec.documents import Document
from penstock.spec.faults import Fault, Severity, YamlPath

HOME = "PENSTOCK_HOME"


def fill(document: Document, severity: Severity = Severity.ERROR) -> tuple[Any, list[Fault]]:
    """The document's data with variables filled in, and a fault for each one that is not set.

    A value with an unset variable stays as it is written.
    """
    faults: list[Fault] = []

    def visit(value: Any, path: YamlPath) -> Any:
        if isinstance(value, dict):
            return {key: visit(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [visit(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            return substitute(value)
        except UnsetVariable as unset:
            faults.append(
                document.fault(
                    path,
                    f"the environment variable {unset.name} is not set",
                    f"set {unset.name}, or give a default: ${{{unset.name}:-…}}",
                    severity,
                )
            )
        except ValueError as error:
            faults.append(document.fault(path, str(error), "write ${VAR} or ${VAR:-default}"))
        return value

    return visit(document.data, ()), faults


class UnsetVariable(Exception):
    """A variable without value and default; `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def lookup(name: str) -> str | None:
    """The value of a variable; PENSTOCK_HOME always has one."""
    return str(home()) if name == HOME else os.environ.get(name)


def substitute(text: str, value_of: Callable[[str], str | None] = lookup) -> str:
    """The text with its variables filled in. Raises UnsetVariable, and ValueError for what is no variable."""
    result = ""
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = _closing(text, start)
        name, separator, default = text[start + 2 : end].partition(":-")
        if not name.isidentifier():
            raise ValueError(f"{text[start : end + 1]!r} names no environment variable")
        value = value_of(name)
        if not value and separator:
            value = substitute(default, value_of)
        if value is None:
            raise UnsetVariable(name)
        result += text[position:start] + value
        position = end + 1
    return result + text[position:]


def _closing(text: str, start: int) -> int:
    depth, position = 1, start + 2
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ValueError(f"{text[start:]!r} has no closing brace")
