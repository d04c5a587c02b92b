"""The table versions that registered models need: their training sets, and what those were made from."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.errors import ServiceError, TableError
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import CommitRecord
from penstock.lakehouse.system_tables import SystemTable
from penstock.registry.client import registry_client
from penstock.training.mlflow_client import BY_NUMBER, every
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Pins = dict[str, dict[int, str]]
_TAG = "penstock.training_set"


def pinned_versions(workspace: Workspace) -> Pins:
    """By table address, the versions that a registered version of any model needs, each with that model's name.

    A version counts until it is deleted from the registry, whatever its stage: an archived one may come back.
    Raises ServiceError where the registry does not answer: without it nobody knows what is needed.
    """
    pins: Pins = {}
    for version in _registered(workspace):
        address, _, number = version.tags.get(_TAG, "").rpartition("@")
        if not (address and number.isdigit()):
            continue
        needs = {address: int(number), **_inputs(workspace, address, int(number))}
        for table, needed in needs.items():
            parsed = Address.parse(table)
            if parsed.root is None:
                pins.setdefault(str(parsed), {}).setdefault(needed, f"{version.name} version {version.version}")
    return pins


def _registered(workspace: Workspace) -> "Iterator[ModelVersion]":
    from mlflow.exceptions import MlflowException

    client = registry_client(workspace)
    try:
        yield from every(client.search_model_versions, order_by=BY_NUMBER)
    except MlflowException as error:
        raise ServiceError(
            f"the registry at {workspace.resolved.mlflow_uri} does not say which table versions its models need: "
            f"{error}. Nothing is removed without that; run this again once it answers"
        ) from error


def _inputs(workspace: Workspace, address: str, number: int) -> dict[str, int]:
    """What a training set was made from: by its record in `training_sets`, else by its own commit."""
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import read

    try:
        path = workspace.addresses.find(address)
        records = workspace.addresses.find(f"{Address.parse(address).project}.{SystemTable.TRAINING_SETS}")
    except TableError:
        return {}
    if records is not None:
        same = [("table", "=", address), ("version", "=", number)]
        for text in read(records, columns=["inputs"], filters=same)["inputs"]:
            return {table: int(version) for table, version in json.loads(text).items()}
    for commit in DeltaTable(path).history() if path is not None else []:
        if commit.get("version") == number:
            found = CommitRecord.from_json(commit.get("userMetadata"))
            return found.inputs if found else {}
    return {}
