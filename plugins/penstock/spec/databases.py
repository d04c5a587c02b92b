"""The address of a database, as a sink declares it: `jdbc:` before an address of SQLAlchemy's."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

EXAMPLE = "jdbc:postgresql+psycopg2://user@host/db, with the login in a ${VAR}"
_FURTHER_DRIVERS = {"postgresql": "postgresql+psycopg2"}
"""By an address that names no driver, the one to take where SQLAlchemy's own choice is not installed."""


class AddressError(ValueError):
    """No database can be reached by an address. Neither text repeats it: it may hold a login."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def database_url(address: str) -> "URL":
    """The address as SQLAlchemy takes it, with a driver that is installed here. Nothing is connected.

    Raises AddressError for a text that is no address, an unknown kind of database, and a driver that is not installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        given = make_url(address.removeprefix("jdbc:"))
    except (ArgumentError, ValueError):
        raise AddressError("is no address of a database", f"write {EXAMPLE}") from None
    problem = _problem(given)
    if problem is None:
        return given
    further = _FURTHER_DRIVERS.get(given.drivername)
    if further is not None and _problem(other := given.set(drivername=further)) is None:
        return other
    raise problem


def _problem(url: "URL") -> AddressError | None:
    """Why nothing can be written by an address; None where something can."""
    from sqlalchemy.exc import NoSuchModuleError

    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError:
        return AddressError(
            f"SQLAlchemy, which writes here, knows no database {url.drivername!r}",
            f"install the package that brings it, or write another, such as {EXAMPLE}",
        )
    except ImportError as error:
        return AddressError(
            f"{url.drivername} needs the driver {error.name}, which is not installed",
            f"install it wherever tasks run, or name another driver, such as {EXAMPLE}",
        )
    if dialect.is_async:
        return AddressError(f"{url.drivername} is an asynchronous driver", f"name one that is not, such as {EXAMPLE}")
    return None
