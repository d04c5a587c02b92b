"""The checks as a table for people."""

from penstock.registry.compliance.gate import every_check
from penstock.registry.compliance.registered import RegisteredCheck


def checks_page() -> str:
    """Every built-in check with its severity and document, as a Markdown table."""
    lines = ["| check | severity | what it asks |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {_severity(one)} | {one.document} |" for one in every_check()]
    return "\n".join(lines) + "\n"


def _severity(one: RegisteredCheck) -> str:
    if one.fixed:
        return f"always {one.severity}"
    return f"{one.severity}" + (f" (in dev: {one.in_dev})" if one.in_dev else "")
