"""The checks of a data-quality verdict: what was found, as a sentence, with bounded evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.gates import Check, Outcome
from penstock.quality.findings import Finding
from penstock.quality.rows import BadRow, describe_keys, plain
from penstock.quality.suite import ExpectationSpec, Level
from penstock.spec.project import ColumnType
from penstock.spec.suite import Severity

MOST_EXAMPLES = 5


def columns_check(wanted: Sequence[str], found: Sequence[str], table: str) -> Check:
    """Fails where declared columns are missing; further columns are let be."""
    missing = [name for name in wanted if name not in found]
    if missing:
        return Check(
            "columns", Outcome.FAIL,
            f"{table} lacks the declared column(s) {', '.join(missing)}; the batch has: {', '.join(found) or 'none'}",
            {"missing": missing, "found": list(found)},
        )  # fmt: skip
    return Check("columns", Outcome.PASS, f"all {len(wanted)} declared columns are there")


def types_check(wrong: Mapping[str, str], declared: Mapping[str, ColumnType], table: str) -> Check:
    """Fails where a column does not have its declared type."""
    if wrong:
        said = "; ".join(f"{name} is declared as {declared[name]} but holds {held}" for name, held in wrong.items())
        return Check("types", Outcome.FAIL, f"{table}: {said}", {"wrong": dict(wrong)})
    return Check("types", Outcome.PASS, "every column has its declared type")


def null_keys_check(nulls: Sequence[tuple[Any, str]], keys: Sequence[str], rows: int) -> Check:
    """Warns of rows with a null key: they are set apart."""
    if not nulls:
        return Check("keys_not_null", Outcome.PASS, f"no key ({', '.join(keys)}) is null")
    counts = {key: sum(1 for _, column in nulls if column == key) for key in keys}
    said = ", ".join(f"{key} in {count}" for key, count in counts.items() if count)
    return Check("keys_not_null", Outcome.WARN, f"keys are null: {said} of {rows} rows, set apart", {"nulls": counts})


def duplicate_keys_check(count: int, examples: Sequence[dict[str, Any]], keys: Sequence[str], table: str) -> Check:
    """Fails where keys occur more than once: which of the rows is true cannot be told."""
    if not count:
        return Check("keys_unique", Outcome.PASS, f"each key ({', '.join(keys)}) occurs once")
    named = "; ".join(describe_keys(example) for example in examples)
    more = f" and {count - len(examples)} more" if count > len(examples) else ""
    return Check(
        "keys_unique", Outcome.FAIL, f"{table}: {count} key(s) occur more than once in the batch: {named}{more}",
        {"duplicates": count, "examples": list(examples)},
    )  # fmt: skip


def bad_share_check(bad: int, rows: int, acceptable: float) -> Check:
    """Fails where a larger share of the rows is bad than the suite accepts."""
    share = bad / rows if rows else 0.0
    evidence = {"bad_rows": bad, "rows": rows, "share": share, "acceptable_bad_share": acceptable}
    detail = f"{bad} of {rows} rows are bad ({share:.1%})"
    if share > acceptable:
        return Check("bad_share", Outcome.FAIL, f"{detail}, more than the acceptable {acceptable:.1%}", evidence)
    return Check("bad_share", Outcome.PASS, f"{detail}; up to {acceptable:.1%} are acceptable", evidence)


def accepted_check(accepted: Sequence[BadRow]) -> list[Check]:
    """Says which bad rows go on because somebody accepted them; nothing where there are none."""
    if not accepted:
        return []
    examples = [row.keys for row in accepted[:MOST_EXAMPLES]]
    named = "; ".join(describe_keys(keys) for keys in examples)
    said = f"{len(accepted)} row(s) that fail were accepted as they are, and go on: {named}"
    return [Check("accepted", Outcome.PASS, said, {"accepted": len(accepted), "examples": examples})]


def finding_check(finding: Finding, bad: Sequence[BadRow], rows: int) -> Check:
    """A finding as a check; `bad` are the batch's bad rows, for examples."""
    spec = finding.expectation
    evidence: dict[str, Any] = {"kwargs": plain(spec.kwargs), "severity": str(spec.severity), "line": spec.line}
    rule = _rule(spec)
    if finding.problem is not None:
        return Check(
            spec.name, Outcome.FAIL, f"{rule} could not be evaluated: {finding.problem}",
            {**evidence, "problem": finding.problem},
        )  # fmt: skip
    if spec.level is Level.TABLE:
        observed = plain(finding.observed)
        evidence["observed"] = observed
        if finding.held:
            return Check(spec.name, Outcome.PASS, f"{rule} holds: observed {_short(observed)}", evidence)
        critical = spec.severity is Severity.CRITICAL
        done = "the table stops" if critical else "the batch goes on, since it only warns"
        said = f"{rule} does not hold: observed {_short(observed)}, {done}{_why(spec)}"
        return Check(spec.name, Outcome.FAIL if critical else Outcome.WARN, said, evidence)
    if finding.held and not finding.sets_rows_apart:
        return _held(finding, rows, rule, evidence)
    return _failed_rows(finding, bad, rows, rule, evidence)


def _held(finding: Finding, rows: int, rule: str, evidence: dict[str, Any]) -> Check:
    if not finding.unexpected:
        return Check(finding.expectation.name, Outcome.PASS, f"{rule} holds for {rows} rows", evidence)
    count = len(finding.unexpected)
    said = f"{rule} holds: it fails for {count} of {rows} rows, which is acceptable"
    return Check(finding.expectation.name, Outcome.PASS, said, {**evidence, "unexpected_count": count})


def _failed_rows(finding: Finding, bad: Sequence[BadRow], rows: int, rule: str, evidence: dict[str, Any]) -> Check:
    spec = finding.expectation
    count = len(finding.unexpected)
    examples = [
        {"keys": row.keys, "value": reason["value"]}
        for row in bad
        for reason in row.reasons
        if reason["expectation"] == spec.type and reason["kwargs"] == plain(spec.kwargs)
    ][:MOST_EXAMPLES]
    shown = "; ".join(f"{_short(item['value'])} at {describe_keys(item['keys'])}" for item in examples[:2])
    critical = spec.severity is Severity.CRITICAL and not finding.held
    done = "the table stops" if critical else "set apart"
    return Check(
        spec.name, Outcome.FAIL if critical else Outcome.WARN,
        f"{rule} fails for {count} of {rows} rows, {done}; such as {shown}{_why(spec)}",
        {**evidence, "unexpected_count": count, "examples": examples},
    )  # fmt: skip


def _rule(spec: ExpectationSpec) -> str:
    others = {
        name: value for name, value in spec.kwargs.items()
        if name not in ("column", "column_A", "column_B", "column_list", "ignore_row_if")
    }  # fmt: skip
    arguments = ", ".join(f"{name}={_short(plain(value))}" for name, value in others.items())
    return f"{spec.name} [{arguments}]" if arguments else spec.name


def _why(spec: ExpectationSpec) -> str:
    return f" ({spec.description.rstrip('.')})" if spec.description else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "…"
