"""The feature store: landing, refresh, point-in-time training sets, and the client of them all."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.features.store import FeatureStore

__all__ = ["FeatureStore"]


def __getattr__(name: str) -> Any:
    """FeatureStore, imported when it is asked for: DAG files import this package at parse time."""
    if name == "FeatureStore":
        from penstock.features.store import FeatureStore

        return FeatureStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
