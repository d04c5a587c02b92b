"""What a model was made with: Python, the machine's kind, and every installed package, kept with its run."""

import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

FILE_NAME = "surroundings.json"


@dataclass(frozen=True)
class Surroundings:
    """Of a process: python, system and machine as `platform` names them, cores, packages by version."""

    python: str
    system: str
    machine: str
    cores: int
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> "Surroundings":
        """Those of this process."""
        found = {dist.name.lower().replace("_", "-"): dist.version for dist in importlib.metadata.distributions()}
        return cls(
            platform.python_version(), platform.system(), platform.machine(), os.cpu_count() or 1,
            dict(sorted(found.items())),
        )  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Surroundings":
        """The reverse of `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def differences(self, other: "Surroundings") -> dict[str, tuple[str, str]]:
        """What is otherwise in `other`: by name (packages by theirs) the value here and there; `none` where missing."""
        mine, theirs = self._facts(), other._facts()
        names = [*mine, *(name for name in theirs if name not in mine)]
        pairs = {name: (mine.get(name, "none"), theirs.get(name, "none")) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def _facts(self) -> dict[str, str]:
        return {
            "Python": self.python, "system": self.system, "machine": self.machine, "cores": str(self.cores),
            **self.packages,
        }  # fmt: skip
