"""What a version says that it needs to run, against what runs here."""

import importlib.metadata
import sys
from typing import TYPE_CHECKING

import yaml

from penstock.gates import some
from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.training.model_folder import ModelFiles

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject

REQUIREMENTS = "requirements.txt"
_PYTHON = "python_env.yaml"


@check("requirements")
def check_requirements(subject: "Subject") -> "Check":
    """The packages in the model's requirements.txt are installed here, where Penstock loads and serves it: a missing
    one fails, another version (of a package or of Python) warns. Train it again here, or install what it names.
    """
    declared, odd = declared_requirements(subject.files)
    if not declared:
        return failed(f"it has no {REQUIREMENTS} that names a package: log it with its requirements", odd=odd)
    missing, other = [], [*odd]
    for wanted in declared:
        try:
            installed = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(str(wanted))
            continue
        if wanted.specifier and not wanted.specifier.contains(installed, prereleases=True):
            other.append(f"{wanted} (here: {installed})")
    python, here = python_version(subject.files), f"{sys.version_info.major}.{sys.version_info.minor}"
    if python and ".".join(python.split(".")[:2]) != here:
        other.append(f"Python {python} (here: {here})")
    evidence = {"declared": [str(item) for item in declared], "missing": missing, "other": other}
    if missing:
        return failed(f"not installed here: {some(missing)}: install them, or train it with what is here", **evidence)
    if other:
        return warned(f"declared otherwise than what runs here: {some(other)}", **evidence)
    return passed(f"its {len(declared)} requirements are what runs here", **evidence)


def declared_requirements(files: ModelFiles) -> "tuple[list[Requirement], list[str]]":
    """The requirements that can be read, and the lines that cannot."""
    from packaging.requirements import InvalidRequirement, Requirement

    path = files.names.get(REQUIREMENTS)
    found, odd = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path else ():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            odd.append(text)
            continue
        if wanted.marker is None or wanted.marker.evaluate():
            found.append(wanted)
    return found, odd


def python_version(files: ModelFiles) -> str | None:
    """The Python that the model was logged with."""
    path = files.names.get(_PYTHON)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    return str(values["python"]) if isinstance(values, dict) and "python" in values else None
