"""What a gate answers: a verdict with its evidence, readable by a person who was not there."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_MOST_NAMED = 5


class Outcome(StrEnum):
    """Whether a check, or a gate as a whole, lets something through."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, as a sentence, and the figures behind it (JSON values)."""

    name: str
    outcome: Outcome
    detail: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A gate's answer: the worst outcome of its checks."""

    gate: str
    subject: str
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """FAIL if any check failed, else WARN if any warned, else PASS."""
        found = {check.outcome for check in self.checks}
        return next((worst for worst in (Outcome.FAIL, Outcome.WARN) if worst in found), Outcome.PASS)

    @property
    def passed(self) -> bool:
        """Whether nothing failed; warnings let through."""
        return self.outcome is not Outcome.FAIL

    @property
    def reason(self) -> str:
        """The details of what failed or warned; of everything where nothing did."""
        loud = [check for check in self.checks if check.outcome is not Outcome.PASS] or list(self.checks)
        return "; ".join(check.detail for check in loud)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: gate, subject, outcome, reason, checks."""
        return {
            "gate": self.gate, "subject": self.subject, "outcome": str(self.outcome), "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Verdict":
        """The reverse of `to_dict`."""
        checks = tuple(
            Check(item["name"], Outcome(item["outcome"]), item["detail"], item.get("evidence", {}))
            for item in value["checks"]
        )
        return cls(value["gate"], value["subject"], checks)

    def to_markdown(self) -> str:
        """A heading, a table of the checks."""
        lines = [
            f"### {self.gate}: {self.outcome} ({self.subject})",
            "",
            "| check | outcome | detail |",
            "|---|---|---|",
        ]
        lines += [f"| {c.name} | {c.outcome} | {c.detail.replace('|', '/')} |" for c in self.checks]
        return "\n".join(lines)


def some(names: list[str]) -> str:
    """The first few of a list, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
