"""An environment: its name, addresses and roots. Reads only its file."""

import re
from collections.abc import Iterator

from penstock.spec.checks.compliance import severity_faults
from penstock.spec.environment import LOCAL, ApprovalMode, Environment, NotificationEvent
from penstock.spec.faults import Fault, Severity
from penstock.spec.loading import ReadEnvironment

_SPARK = re.compile(r"sc://[^/\s]+(/.*)?")
_HTTP = re.compile(r"https?://[^/\s]+.*")


def check_environment(read: ReadEnvironment) -> Iterator[Fault]:
    """The faults of an environment beyond its shape."""
    if read.spec is None:
        return
    document, spec = read.document, read.spec
    if spec.name != document.file.stem:
        yield document.fault(
            ("name",),
            f"the environment is named {spec.name!r}, but its file {document.file.name!r}",
            f"write `name: {document.file.stem}`, or rename the file",
        )
    yield from _addresses(read, spec)
    yield from _roots(read, spec)
    for place, message, remedy in severity_faults(spec.compliance.severities):
        yield document.fault(("compliance", *place), message, remedy)
    yield from _approval(read, spec)


def _approval(read: ReadEnvironment, spec: Environment) -> Iterator[Fault]:
    document, place, wanted = read.document, ("approval", "approvers"), NotificationEvent.APPROVAL_WANTED
    if spec.approval.mode is ApprovalMode.AUTOMATIC:
        if spec.approval.approvers:
            yield document.fault(
                place, "nobody is asked where the mode is automatic",
                "remove approvers, or write `mode: human`", Severity.WARNING,
            )  # fmt: skip
        return
    if not spec.approval.approvers:
        yield document.fault(
            place, "anyone with the right to answer may let a version in, and anyone may adopt, unfreeze and allow",
            "name the Airflow users who may, such as approvers: [ada]", Severity.WARNING,
        )  # fmt: skip
    if not any(not one.events or wanted in one.events for one in spec.notifications):
        yield document.fault(
            ("notifications",), "nobody is told that a version waits for approval",
            "name a notifier: docs/how-to/promote-and-roll-back.md, Tell people", Severity.WARNING,
        )  # fmt: skip


def _addresses(read: ReadEnvironment, spec: Environment) -> Iterator[Fault]:
    unset = {fault.path for fault in read.faults}
    given = {
        ("spark", "address"): (spec.spark.address, _SPARK, "sc://host:port"),
        ("mlflow", "tracking_uri"): (spec.mlflow.tracking_uri, _HTTP, "http(s)://host:port"),
        ("mlflow", "registry_uri"): (spec.mlflow.registry_uri or LOCAL, _HTTP, "http(s)://host:port"),
    }
    for path, (value, pattern, form) in given.items():
        if value != LOCAL and not pattern.fullmatch(value) and ".".join(path) not in unset:
            # the value is not repeated: it may come from a variable and hold a secret
            yield read.document.fault(path, f"is neither {LOCAL!r} nor {form}", f"write {LOCAL} or {form}")


def _roots(read: ReadEnvironment, spec: Environment) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, root in enumerate(spec.lakehouse.read_only):
        path = ("lakehouse", "read_only", index)
        if root.name in seen:
            yield read.document.fault((*path, "name"), f"the root {root.name!r} stands twice", "rename one")
        seen.add(root.name)
        if root.root.rstrip("/") == spec.lakehouse.root.rstrip("/"):
            yield read.document.fault(
                (*path, "root"), "is this environment's own root, which it writes", "name another root, or remove it"
            )
