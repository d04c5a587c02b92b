"""Online tables: whether every environment has the store that they name, and whether values live at all."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from penstock.spec.environment import DEFAULT_ONLINE_STORE
from penstock.spec.faults import Fault, suggestion
from penstock.spec.loading import ReadEnvironment, ReadProject


def check_online(read: ReadProject, environments: Mapping[str, ReadEnvironment]) -> Iterator[Fault]:
    """The faults of the tables' `online` settings; broken environments are passed over."""
    if read.spec is None:
        return
    for name, table in read.spec.feature_tables.items():
        online, path = table.online_settings, ("feature_tables", name, "online")
        if online is None:
            continue
        if online.ttl is not None and online.ttl <= timedelta(0):
            yield read.document.fault((*path, "ttl"), "removes every value at once", "write a duration such as 30d")
        lacking = list(_lacking(online.store, environments.values()))
        if lacking:
            known = {DEFAULT_ONLINE_STORE, *(key for found in environments.values() for key in _stores(found))}
            yield read.document.fault(
                (*path, "store"),
                f"the environment(s) {', '.join(lacking)} have no online store {online.store!r}",
                f"{suggestion(online.store, sorted(known), 'online stores')}, or declare it under online_stores there",
            )


def _lacking(store: str, environments: Iterable[ReadEnvironment]) -> Iterator[str]:
    for read in environments:
        if read.spec is not None and read.spec.online_store(store) is None:
            yield read.spec.name


def _stores(read: ReadEnvironment) -> list[str]:
    return list(read.spec.online_stores) if read.spec is not None else []
