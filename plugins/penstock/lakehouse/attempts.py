"""Commits that other writers may be faster than: what is read is read again, and written on what they left."""

from collections.abc import Iterator

from penstock.errors import ServiceError

_MOST = 10


def attempts(table: str) -> Iterator[None]:
    """Attempts at a commit. Raises ServiceError after ten; `table` names the place in it."""
    for _ in range(_MOST):
        yield
    raise ServiceError(f"{table}: other writers were faster {_MOST} times in a row; run this again")
