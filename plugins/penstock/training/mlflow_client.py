"""MLflow's client, with an outage told from a mistake."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.errors import ServiceError

_PATIENCE_SECONDS = 4
PAGE = 1000
"""How many things MLflow is asked for at once: what a server hands out at most of some of them."""
BY_NUMBER = ["name ASC", "version_number ASC"]
"""An order of versions in which new ones come last, so that no page misses one (the default is by the last change)."""


@contextmanager
def outages(uri: str) -> Iterator[None]:
    """What fails within because the server at `uri` does not answer becomes a ServiceError."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except requests.RequestException as error:
        raise _service_error(uri, error) from error
    except MlflowException as error:
        if "API request to" not in str(error):
            raise
        raise _service_error(uri, error) from error


def every(search: Callable[..., Any], *asked: Any, **named: Any) -> Iterator[Any]:
    """All that a search of MLflow's client finds, page after page: one call answers with no more than a page."""
    token = None
    while True:
        page = search(*asked, **named, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def answers(uri: str) -> bool:
    """Whether a tracking server is there: MLflow's own client would ask again for minutes."""
    import httpx

    if not uri.startswith("http"):
        return True
    try:
        return httpx.get(f"{uri}/health", timeout=_PATIENCE_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _service_error(uri: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"MLflow at {uri} did not answer: {str(error)[:300]}. Is it running? (penstock status) "
        "Run this step again: what is finished stays, what is half done starts anew"
    )
