"""Sinks that are databases: whether their address can be used here. Nothing is connected."""

from collections.abc import Iterator

from penstock.spec.checks.scope import Scope
from penstock.spec.databases import AddressError, database_url
from penstock.spec.faults import Fault


def check_sinks(scope: Scope) -> Iterator[Fault]:
    """The faults of each sink's address; one with a variable that is not set cannot be judged."""
    for path, _, model in scope.models:
        for index, sink in enumerate(model.inference.sinks):
            if sink.kind != "jdbc" or sink.url is None or "${" in sink.url:
                continue
            try:
                database_url(sink.url)
            except AddressError as error:
                yield scope.fault((*path, "inference", "sinks", index, "url"), str(error), error.remedy)
