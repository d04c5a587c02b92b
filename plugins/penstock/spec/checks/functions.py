"""The functions that a project names: defined or imported at the top level, taking the right arguments."""

from collections.abc import Iterator

from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, YamlPath, path_text, suggestion
from penstock.spec.model import Model
from penstock.spec.python_files import Definition, PythonFileError, read_python_file

_LAND = ("after", "until")
_TRANSFORM = ("inputs",)
_TRAIN = ("training", "tuning", "parameters")
_METRIC = ("label", "prediction")
_HEURISTIC = ("features",)
_ON_DEMAND = ("inputs",)
_COMPLIANCE = ("subject",)
_METHOD = ("contest",)


def check_functions(scope: Scope) -> Iterator[Fault]:
    """The faults of every function that the project names."""
    for path, dotted_name, arguments in _named(scope):
        yield from _check(scope, path, dotted_name, arguments)


def _named(scope: Scope) -> Iterator[tuple[YamlPath, str, tuple[str, ...]]]:
    for name, source in scope.project.sources.items():
        if source.land is not None:
            yield ("sources", name, "land"), source.land, _LAND
    for name, table in scope.project.feature_tables.items():
        if table.function is not None:
            yield ("feature_tables", name, "function"), table.function, _TRANSFORM
    for path, _, model in scope.models:
        yield from _of_model(path, model)


def _of_model(path: YamlPath, model: Model) -> Iterator[tuple[YamlPath, str, tuple[str, ...]]]:
    yield (*path, "training", "function"), model.training.function, _TRAIN
    for name, feature in model.on_demand.items():
        yield (*path, "on_demand", name, "function"), feature.function, _ON_DEMAND
    for metric, dotted_name in model.training.metrics.items():
        yield (*path, "training", "metrics", metric), dotted_name, _METRIC
    for name, dotted_name in model.promotion.compliance.own.items():
        yield (*path, "promotion", "compliance", "own", name), dotted_name, _COMPLIANCE
    if model.promotion.heuristic is not None:
        yield (*path, "promotion", "heuristic"), model.promotion.heuristic, _HEURISTIC
    for index, method in enumerate(model.promotion.methods):
        if "." in method:
            yield (*path, "promotion", "methods", index), method, _METHOD


def _check(scope: Scope, path: YamlPath, dotted_name: str, arguments: tuple[str, ...]) -> Iterator[Fault]:
    module, _, name = dotted_name.rpartition(".")
    relative = module.replace(".", "/")
    signature = f"def {name}({', '.join(arguments)})"
    candidates = (scope.folder / f"{relative}.py", scope.folder / relative / "__init__.py")
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        there = [_module(item.relative_to(scope.folder).as_posix()) for item in scope.folder.rglob("*.py")]
        hint = suggestion(module, there, "modules")
        yield scope.fault(path, f"there is no file {relative}.py", f"{hint}, or create it with `{signature}`")
        return
    try:
        found = read_python_file(file)
    except PythonFileError as error:
        yield Fault(str(file), error.line, "", error.message, "correct it")
        return
    definition = found.definitions.get(name)
    if definition is not None:
        yield from _signature(str(file), path, definition, name, arguments)
    elif not found.open_ended:
        functions = [item for item, known in found.definitions.items() if known.arguments is not None]
        hint = suggestion(name, functions, "functions there")
        yield scope.fault(
            path, f"{file.relative_to(scope.folder)} has no function {name}", f"{hint}, or add `{signature}` to it"
        )


def _signature(
    file: str, path: YamlPath, definition: Definition, name: str, arguments: tuple[str, ...]
) -> Iterator[Fault]:
    if definition.is_async:
        yield Fault(file, definition.line, path_text(path), f"{name} is asynchronous", "write def, not async def")
    elif not definition.takes(len(arguments)):
        yield Fault(
            file, definition.line, path_text(path),
            f"{name} cannot be called with {len(arguments)} arguments, as it will be",
            f"write `def {name}({', '.join(arguments)})`",
        )  # fmt: skip


def _module(file: str) -> str:
    return file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
