"""MLflow's client: quiet, and with an outage told from a mistake."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import ServiceError

_PATIENCE_SECONDS = 4


def quiet() -> None:
    """Keeps MLflow's progress bars and links out of the logs, unless the environment asks for them."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


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
