"""Where a verdict is kept with its version: tags, and a section at the end of its description."""

import re
from datetime import datetime

from penstock.clock import to_text
from penstock.gates import Verdict
from penstock.registry.client import RegisteredModel, cut

TAG, REASON_TAG, ORIGIN_TAG = "penstock.compliance", "penstock.compliance_reason", "penstock.origin"
_BEGIN, _END = "<!-- penstock:compliance -->", "<!-- /penstock:compliance -->"
_SECTION = re.compile(rf"\n*{re.escape(_BEGIN)}.*?({re.escape(_END)}|\Z)", re.DOTALL)
_LONGEST_DESCRIPTION = 4800
_LONGEST_SECTION = 2400


def record_verdict(
    registered: RegisteredModel, version: int, described: str, verdict: Verdict, origin: str | None, as_of: datetime
) -> None:
    """Sets the tags penstock.compliance, penstock.compliance_reason and penstock.origin, and the description."""
    tags = {TAG: "pass" if verdict.passed else "fail", REASON_TAG: verdict.reason}
    registered.tag(version, {**tags, **({ORIGIN_TAG: origin} if origin else {})})
    registered.describe(version, with_section(described, verdict, as_of))


def with_section(text: str, verdict: Verdict, as_of: datetime) -> str:
    """A description with the verdict at its end, in place of an earlier one, cut to what the registry takes."""
    body = cut(f"{verdict.to_markdown()}\n\nAs of {to_text(as_of)}.", _LONGEST_SECTION)
    section = f"{_BEGIN}\n{body}\n{_END}"
    return f"{cut(without_section(text), _LONGEST_DESCRIPTION - len(section))}\n\n{section}".lstrip()


def without_section(text: str) -> str:
    """A description as its author wrote it."""
    return _SECTION.sub("", text).strip()
