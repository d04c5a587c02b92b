"""A project's own Python functions, by dotted name from the project's folder."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.errors import SpecError
from penstock.spec.faults import suggestion
from penstock.spec.loading import LoadedProject
from penstock.spec.modules import import_project_module


def load_function(project: LoadedProject, dotted_name: str) -> Callable[..., Any]:
    """The function `module.function` of a project, as its files are now.

    Raises SpecError where the module cannot be imported or has no such function.
    """
    module_name, _, function_name = dotted_name.rpartition(".")
    try:
        module = import_project_module(project, module_name)
    except Exception as error:
        raise SpecError(
            f"{project.folder / _file(module_name)}: cannot be imported: {type(error).__name__}: {error}; "
            f"mend the file, or correct {dotted_name} in project.yaml (`penstock validate` checks both)"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = suggestion(function_name, known, "functions")
        raise SpecError(
            f"{module.__file__}: has no function {function_name}: in project.yaml, {hint}, or add the function"
        )
    return function  # type: ignore[no-any-return]


def place_of_error(project: LoadedProject, dotted_name: str, error: BaseException) -> str:
    """Where in the project a function of its own raised an error: file (from the project's folder) and line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(project.folder):
            return f"{file.relative_to(project.folder).as_posix()}:{frame.lineno}"
    return _file(dotted_name.rpartition(".")[0])


def _file(module_name: str) -> str:
    return f"{module_name.replace('.', '/')}.py"
