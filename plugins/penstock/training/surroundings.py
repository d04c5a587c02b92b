"""What a model was made with, beside its project's code: Python, the machine's kind, every installed package, and the
code and files that decide, too; kept with its run.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import penstock
from penstock.lakehouse.git import CODE, CODE_AND_DECLARATIONS, project_digest
from penstock.spec.imported import imported_code

FILE_NAME = "surroundings.json"
_FILE = "file "
_DIGEST = re.compile("[0-9a-f]{64}")
_DIGITS = 12  # of a digest: enough to tell two apart, and for people to read


@dataclass(frozen=True)
class Surroundings:
    """Of a process: python, system and machine as `platform` names them, cores, packages by version.

    code: digests of what `code_beside` names; None in records of former versions of Penstock.
    """

    python: str
    system: str
    machine: str
    cores: int
    packages: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] | None = None

    @classmethod
    def here(cls, folder: Path) -> "Surroundings":
        """Those of this process, with a project in `folder`."""
        found = {dist.name.lower().replace("_", "-"): dist.version for dist in importlib.metadata.distributions()}
        return cls(
            platform.python_version(), platform.system(), platform.machine(), os.cpu_count() or 1,
            dict(sorted(found.items())), code_beside(folder),
        )  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Surroundings":
        """The reverse of `to_dict`."""
        return cls(**values)

    @property
    def files(self) -> dict[str, str] | None:
        """Of the code, the project's `other_files`; None where they are not said."""
        return None if self.code is None else {name: said for name, said in self.code.items() if name.startswith(_FILE)}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def differences(self, other: "Surroundings") -> dict[str, tuple[str, str]]:
        """What is otherwise in `other`: by name (packages by theirs) the value here and there; `none` where missing.

        Code is compared where both say it.
        """
        mine, theirs = self._facts(), other._facts()
        if self.code is not None and other.code is not None:
            mine, theirs = mine | self.code, theirs | other.code
        names = [*mine, *(name for name in theirs if name not in mine)]
        pairs = {name: (mine.get(name, "none"), theirs.get(name, "none")) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def _facts(self) -> dict[str, str]:
        return {
            "Python": self.python, "system": self.system, "machine": self.machine, "cores": str(self.cores),
            **self.packages,
        }  # fmt: skip


def code_beside(folder: Path) -> dict[str, str]:
    """Digests of what decides beside a project's own code and declarations (`project_digest`), by its name for people:
    the project's other files, the modules outside of it that it imports (packages have their versions), Penstock.
    """
    imported = imported_code(folder).items()
    modules = {f"module {name}": what[:_DIGITS] for name, what in imported if _DIGEST.fullmatch(what)}
    return {**other_files(folder), **modules, "Penstock's code": library_digest()[:_DIGITS]}


def other_files(folder: Path) -> dict[str, str]:
    """Digests of a project's files that are neither code nor declaration, such as weights in JSON; no hidden ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        aside = any(part.startswith(".") or part == "__pycache__" for part in place.parts)
        if path.suffix not in CODE_AND_DECLARATIONS and path.is_file() and not aside:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[f"{_FILE}{place.as_posix()}"] = digest[:_DIGITS]
    return found


def library_digest() -> str:
    """A digest of Penstock's own code."""
    return project_digest(Path(penstock.__file__).parent, CODE)
