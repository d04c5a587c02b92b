"""What a page answers instead of its content: each fault has a status, and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import PenstockError, ServiceError


class PageFault(PenstockError):
    """A request that gets another page than it asked for. Text: what is wrong; `remedy`: what to do."""

    status = 500
    title = "This did not work"

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class UnknownPage(PageFault):
    """There is no such project, table, model or report."""

    status = 404
    title = "There is no such page"


class NothingYet(PageFault):
    """It is declared, but no pipeline has made it yet."""

    status = 404
    title = "Nothing here yet"


class MayNotRead(PageFault):
    """The user is logged in, but may not read the project's DAGs."""

    status = 403
    title = "You may not read this"


class BrokenProject(PageFault):
    """The project's declaration has faults."""

    status = 409
    title = "This project's declaration has faults"


class Unreadable(PageFault):
    """Storage or a service did not answer."""

    status = 503
    title = "This cannot be read now"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever storage raises into Unreadable, which names `what` was being read."""
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (OSError, ValueError, DeltaError, pa.ArrowException, ServiceError) as error:
        brief = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise Unreadable(
            f"{what} cannot be read: {brief}",
            "Is the lakehouse reachable from Airflow's API server? If the page stays like this, "
            "the table's own log on the disk or in the bucket says more.",
        ) from error
