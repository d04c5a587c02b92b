"""Waits for new versions of a Delta table, whoever writes them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent


class TableVersionTrigger(BaseEventTrigger):
    """Fires when a Delta table has a version greater than `since`; a table that does not exist yet has none.

    In an asset's watcher it goes on for ever, and Airflow keeps the version that it saw last, across restarts too;
    an event says that there is news, not how many commits. In a task it fires once.

    :param path: the table's folder or URL.
    :param address: `project.table`, for people.
    :param since: the version that is known already.
    :param every: seconds between two looks at the table's log.
    """

    def __init__(self, *, path: str, address: str, since: int = -1, every: float = 30.0) -> None:
        super().__init__()
        self.path, self.address, self.since, self.every = path, address, since, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its parameters, for the triggerer."""
        parameters = {"path": self.path, "address": self.address, "since": self.since, "every": self.every}
        return f"{type(self).__module__}.{type(self).__qualname__}", parameters

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields {"table": address, "version": number} for each news."""
        from penstock.lakehouse.small_tables import newest_version

        store, key = self.asset_state_store, f"version/{self.address}"
        seen = max(self.since, int(await store.aget(key, -1))) if store is not None else self.since
        while True:
            version = await asyncio.to_thread(newest_version, self.path)
            made_again = store is not None and version is not None and version < seen
            if version is not None and (version > seen or made_again):
                yield TriggerEvent({"table": self.address, "version": version})
                seen = version
                if store is not None:
                    await store.aset(key, version)
            await asyncio.sleep(self.every)
