"""What the rows of `deployments` say together: stages, aliases, what a rollback goes back to."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.audit import DeploymentRow, Snapshot, State
from penstock.registry.compliance.record import with_section, without_section
from penstock.registry.history import ROLLS_BACK, production_stack
from penstock.registry.stages import Stage, derive_stage

START = datetime(2020, 1, 1, tzinfo=UTC)


def _row(number: int, version: int, stage: Stage, state: State = State.COMPLETED, **plan: object) -> DeploymentRow:
    return DeploymentRow(
        f"m/{version}/{stage}/{number}", "m", version, Stage.NONE, stage, "a test", "because", START,
        START + timedelta(seconds=number), state, evidence={"transition": plan},
    )  # fmt: skip


def _snapshot(*steps: tuple) -> Snapshot:
    return Snapshot(tuple(_row(n, *step) for n, step in enumerate(steps)))


@pytest.mark.parametrize(
    ("aliases", "staged_before", "stage"),
    [
        ({"production": 1}, False, Stage.PRODUCTION),
        ({"staging": 1, "production": 2}, True, Stage.STAGING),
        ({"production": 2, "champion": 1}, True, Stage.ARCHIVED),
        ({}, False, Stage.NONE),
    ],
)
def test_the_stage_follows_the_alias(aliases, staged_before, stage):
    assert derive_stage(1, aliases, staged_before=staged_before) is stage


def test_completed_rows_say_where_the_aliases_stand():
    found = _snapshot(
        (1, Stage.STAGING), (1, Stage.PRODUCTION), (2, Stage.STAGING), (1, Stage.ARCHIVED), (2, Stage.PRODUCTION),
        (3, Stage.STAGING), (4, Stage.PRODUCTION, State.PENDING), (5, Stage.PRODUCTION, State.REVERTED),
    )  # fmt: skip
    assert found.aliases == {"production": 2, "staging": 3}
    assert found.stage(1) is Stage.ARCHIVED
    assert found.stage(4) is Stage.NONE
    assert [row.version for row in found.pending] == [4]


def test_the_main_row_of_a_pending_transition_comes_first():
    companion = _row(0, 1, Stage.ARCHIVED, State.PENDING, group="m/2/Production/1")
    main = _row(1, 2, Stage.PRODUCTION, State.PENDING)
    assert Snapshot((companion, main)).pending == (main, companion)


def test_requests_are_ordered_even_where_clocks_are_not():
    future = DeploymentRow(
        "x", "m", 1, Stage.NONE, Stage.STAGING, "a", "b", START, datetime.now(UTC) + timedelta(hours=1)
    )
    assert Snapshot((future,)).next_moment() > future.requested_at


def test_a_row_survives_the_table():
    row = _row(1, 2, Stage.PRODUCTION, State.PENDING, before={"production": 1}, displaced=1)
    values = row.to_record()
    frame = pd.DataFrame([values])
    assert DeploymentRow.from_record(frame.to_dict("records")[0]) == row


def test_figures_that_are_no_numbers_become_null_in_the_evidence():
    row = DeploymentRow(
        "x", "m", 1, Stage.NONE, Stage.STAGING, "a", "b", START, START, evidence={"a": [float("nan"), 1.0]}
    )
    assert row.to_record()["evidence"] == '{"a": [null, 1.0]}'


def test_a_rollback_goes_back_one_by_one_and_never_to_what_was_rolled_back():
    rows = [_row(n, version, Stage.PRODUCTION) for n, version in enumerate((1, 2, 3))]
    assert production_stack(rows) == [1, 2, 3]
    rows.append(_row(3, 2, Stage.PRODUCTION, State.COMPLETED, **{ROLLS_BACK: 3}))
    assert production_stack(rows) == [1, 2]
    rows.append(_row(4, 4, Stage.PRODUCTION))
    assert production_stack(rows) == [1, 2, 4]
    rows.append(_row(5, 1, Stage.PRODUCTION))
    assert production_stack(rows) == [2, 4, 1]


def test_the_compliance_section_replaces_itself_and_never_cuts_itself_off():
    verdict = Verdict("compliance", "m", (Check("loads", Outcome.PASS, "x" * 5000),))
    own = "What it is.\n" * 500
    once = with_section(own, verdict, START)
    assert with_section(once, verdict, START) == once
    assert len(once) < 5000
    assert once.endswith("<!-- /penstock:compliance -->")
    assert without_section(with_section("Mine.", verdict, START)) == "Mine."
    assert with_section("", verdict, START).startswith("<!-- penstock:compliance -->")
