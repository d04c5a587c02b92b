"""What is wrong in a specification: where, and what to write instead."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from penstock.errors import SpecError

MOST_RENDERED = 20
MOST_CHARACTERS = 400
YamlPath = tuple[str | int, ...]


class Severity(StrEnum):
    """An error must be mended; a warning names what will be wrong elsewhere, or later."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Fault:
    """One fault: the file and its line (from 1), the place in the YAML (`sources.x.columns`), what and remedy."""

    file: str
    line: int
    path: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR

    def render(self, root: Path | None = None) -> str:
        """`file:line: path: message; remedy`, the file relative to `root` where it lies below."""
        file = Path(self.file)
        if root is not None and file.is_relative_to(root):
            file = file.relative_to(root)
        mark = "warning: " if self.severity is Severity.WARNING else ""
        place = f"{self.path}: " if self.path else ""
        return f"{file}:{self.line}: {mark}{place}{shorten(self.message)}; {shorten(self.remedy)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "severity": str(self.severity)}


class InvalidSpecError(SpecError):
    """A file with faults; `faults` holds them all, the text a bounded number."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(render(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,)


def render(faults: Sequence[Fault], root: Path | None = None, most: int = MOST_RENDERED) -> str:
    """A line for each of the first `most` faults, and how many more there are."""
    lines = [fault.render(root) for fault in faults[:most]]
    if len(faults) > most:
        lines.append(f"… and {len(faults) - most} more: `penstock validate` lists them all")
    return "\n".join(lines)


def errors_of(faults: Iterable[Fault]) -> list[Fault]:
    """The faults that are no mere warnings."""
    return [fault for fault in faults if fault.severity is Severity.ERROR]


def ordered(faults: Iterable[Fault]) -> list[Fault]:
    """The faults by file and line, each once."""
    return sorted(dict.fromkeys(faults), key=lambda fault: (fault.file, fault.line, fault.path, fault.message))


def path_text(path: YamlPath) -> str:
    """A place in a YAML file as text: `models.late.lookups[0].keys`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """One line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def suggestion(wrong: str, known: Iterable[str], what: str) -> str:
    """What to write instead of a name that does not exist: the closest known ones, else all of them.

    `what` names the kind of thing in the plural, such as `columns`.
    """
    names = sorted(set(known))
    closest = difflib.get_close_matches(wrong, names, n=3, cutoff=0.6)
    if closest:
        return f"write {' or '.join(closest)}"
    listed = ", ".join(names[:MOST_RENDERED]) + (", …" if len(names) > MOST_RENDERED else "")
    return f"known {what}: {listed or 'none'}"
