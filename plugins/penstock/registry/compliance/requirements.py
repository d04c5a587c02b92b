"""What a version says that it needs to run, against what runs here."""

import importlib.metadata
import sys
from collections.abc import Iterable, Mapping, Sequence
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
_LIBRARIES = {"pytorch": "torch"}  # flavours that are not called as the package that they load
_LOADERS = frozenset({"mlflow", "skops", "cloudpickle"})  # what they import, a model's files name


@check("requirements")
def check_requirements(subject: "Subject") -> "Check":
    """The packages in the model's requirements.txt are installed here, where Penstock loads and serves it: a missing
    one fails, another version (of a package or of Python) warns. So does a package that loading and scoring it imported
    and that they do not bring (Spark ML models are not watched). Train it again here, install or declare what it needs.
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
    imported = (subject.trial.imported if subject.trial else None) or {}
    undeclared = not_brought(declared, imported, subject.files.flavor) if imported else []
    faults = [f"declared otherwise than what runs here: {some(other)}"] if other else []
    if undeclared:
        faults.append(
            f"it imports {some(undeclared)}, which its {REQUIREMENTS} does not bring: add to training.requirements"
        )
    if faults:
        return warned("; ".join(faults), **evidence, undeclared=undeclared)
    return passed(f"its {len(declared)} requirements are what runs here", **evidence)


def not_brought(declared: "Sequence[Requirement]", imported: Mapping[str, str], flavor: str) -> list[str]:
    """The distributions that a model's own loading and scoring imported, and that its requirements do not bring.

    What a library imports is its own affair: it may do without. What MLflow requires is always there, but for the
    library of the model's flavour, whose version must not be left to it.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    origins = importlib.metadata.packages_distributions()
    library = {canonicalize_name(name) for name in origins.get(_LIBRARIES.get(flavor, flavor), ())}
    brought = _closure(wanted for wanted in declared if not wanted.name.startswith("mlflow"))
    brought |= _closure([Requirement("mlflow")]) - library
    found = set()
    for package, importer in imported.items():
        by = importer.partition(".")[0]
        names = {canonicalize_name(name) for name in origins.get(package, ())}
        theirs = by in _LOADERS or by not in origins
        if theirs and "penstock" not in (package, by) and names and not names & brought:
            found.add(min(names))
    return sorted(found)


def _closure(wanted: "Iterable[Requirement]") -> set[str]:
    """The names of distributions with all that they require here, as far as they are installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting, seen = list(wanted), set[tuple[str, frozenset[str]]]()
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = [Requirement(text) for text in importlib.metadata.requires(one.name) or ()]
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [
            need for need in needs
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))
        ]  # fmt: skip
    return {name for name, _ in seen}


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
