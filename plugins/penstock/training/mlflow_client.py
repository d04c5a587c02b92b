"""MLflow's client, with an outage told from a mistake."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.errors import ServiceError

_PATIENCE_SECONDS = 4
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
_EACH_FAILED_FILE = "##### File "  # MLflow's heading, under which it says what an artifact store answered
_NO_SUCH_FILE = ("404 Client Error", "(404)", "NoSuchKey", "No such file")
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


def download(model_uri: str, folder: Path, server: str) -> Path:
    """The files of a model of the MLflow at `server`, in `folder`; none where the place that it names is empty.

    Raises FileNotFoundError where the answer is that they are not there, and ServiceError for whatever else keeps them
    away (a stream that breaks off, an artifact store that is busy, a full disk): that says nothing about the model.
    """
    from mlflow.artifacts import download_artifacts

    try:
        with outages(server):
            return Path(download_artifacts(artifact_uri=model_uri, dst_path=str(folder)))
    except ServiceError:
        raise
    except Exception as error:  # each artifact store has a client with exceptions of its own
        said = f"{type(error).__name__}: {str(error)[:500]}"
        if _is_missing(error):
            raise FileNotFoundError(said) from error
        raise ServiceError(
            f"{model_uri} could not be fetched from MLflow at {server} ({said}). Does its artifact store answer, and "
            "is there room on this machine's disk? Run this again: nothing was decided"
        ) from error


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


def refusal(error: Exception) -> str:
    """Whom MLflow refused, and what to do; empty where it refused nobody."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code not in _REFUSED:
        return ""
    who = os.environ.get("MLFLOW_TRACKING_USERNAME") or "a client without a login"
    return (
        f"MLflow refuses {who}. Give a login that may do this (MLFLOW_TRACKING_USERNAME and …_PASSWORD, or the Airflow "
        "connection penstock_mlflow), or let an administrator of MLflow give it the permission"
    )


def _service_error(uri: str, error: Exception) -> ServiceError:
    if remedy := refusal(error):
        return ServiceError(f"{uri}: {remedy} ({str(error)[:300]})")
    return ServiceError(
        f"MLflow at {uri} did not answer: {str(error)[:300]}. Is it running? (penstock status) "
        "Run this step again: what is finished stays, what is half done starts anew"
    )


def _is_missing(error: Exception) -> bool:
    """Whether MLflow, or for each file that it could not fetch the artifact store, answered that there is none."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    _, *failed = str(error).split(_EACH_FAILED_FILE)
    if failed:
        return all(any(words in one for words in _NO_SUCH_FILE) for one in failed)
    return error.error_code in _NOT_THERE
