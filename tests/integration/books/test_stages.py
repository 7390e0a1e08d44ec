"""Stages: earned one by one on stored figures, approved by a person until a day, and taken back by the first bad sign."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import canary, evidence, labels, review, settings, stages, watch
from kernel.books.evidence import Criterion, Evidence, Outside
from kernel.books.labels import Label
from kernel.books.watch import Signals
from kernel.errors import RefusedError
from models.books import books_audit
from tests.integration.books.deciding import AT, Deciding, deciding

GOOD = Outside(
    ece=lambda p, right: float(abs(p.mean() - right.mean())), noise_floor=lambda p: 0.06, broken_invariants=(),
    reconciled={"2026-01": (96, 100), "2026-02": (95, 100)},
)  # fmt: skip
MONTH = timedelta(days=30)


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def earned(books: Deciding, stage: Any, at: Any = AT, *, is_met: bool = True) -> Evidence:
    return Evidence.of(books.tenant_id, stage, at, (Criterion("bars", "1", "1", is_met),), {})


def to(books: Deciding, stage: Any, by: str = "bob", at: Any = AT, **given: Any) -> stages.Current:
    return books.run(stages.advance, earned(books, stage, at), by=by, at=at, reason="earned", **given)


def in_p2(books: Deciding) -> None:
    for stage in ("P1", "P2"):
        to(books, stage, at=AT - MONTH)
    books.run(settings.change, {"autopost_requested": True}, author="bob", reason="we want it", at=AT - MONTH)


def test_a_new_tenant_is_in_p0_and_asks_for_nothing(books: Deciding) -> None:
    assert books.run(stages.current, at=AT).stage == "P0"
    assert books.run(settings.current).settings.autopost_requested is False


def test_stages_are_left_for_the_next_one(books: Deciding) -> None:
    with pytest.raises(RefusedError, match="is in P0"):
        to(books, "P2")
    to(books, "P1")
    with pytest.raises(RefusedError, match="is in P1"):
        to(books, "P3", expires_at=AT + MONTH)


def test_a_stage_that_is_not_earned_is_refused_with_what_is_lacking(books: Deciding) -> None:
    with pytest.raises(RefusedError, match="P1 is not earned yet: bars: 1, needs 1"):
        books.run(stages.advance, earned(books, "P1", is_met=False), by="bob", at=AT, reason="hopefully")
    assert books.pinned("select from books.books_stages") == []


def test_evidence_of_another_day_or_tenant_is_none(books: Deciding, books_engine: sa.Engine) -> None:
    for told in (earned(books, "P1", AT - timedelta(days=2)), earned(deciding(books_engine), "P1")):
        with pytest.raises(RefusedError, match="not of this tenant and day"):
            books.run(stages.advance, told, by="bob", at=AT, reason="old")


@pytest.mark.parametrize(
    ("by", "expires_at", "why"),
    [("carl", AT + MONTH, "carl is no"), ("operator", AT + MONTH, "does not belong"), ("pipeline", AT + MONTH, "does not belong"),
     ("bob", None, "ends within"), ("bob", AT, "ends within"), ("bob", AT + timedelta(days=93), "ends within")],
)  # fmt: skip
def test_p3_is_approved_by_a_person_who_may_and_until_a_day(
    books: Deciding, by: str, expires_at: Any, why: str
) -> None:
    in_p2(books)
    with pytest.raises(RefusedError, match=why):
        to(books, "P3", by=by, expires_at=expires_at)


def test_p3_is_refused_to_a_tenant_that_did_not_ask_for_it(books: Deciding) -> None:
    for stage in ("P1", "P2"):
        to(books, stage)
    with pytest.raises(RefusedError, match="has not asked"):
        to(books, "P3", expires_at=AT + MONTH)


def test_an_approval_begins_with_a_small_part_and_ends_by_itself(books: Deciding) -> None:
    in_p2(books)
    made = to(books, "P3", expires_at=AT + MONTH)
    assert (made.stage, made.approved_by) == ("P3", str(books.people["bob"]))
    assert books.run(canary.autopost_percent, since=made.since) == 5
    assert books.run(stages.current, at=AT + MONTH).stage == "P2"
    again = to(books, "P3", at=AT + MONTH, expires_at=AT + 2 * MONTH)
    assert again.number == made.number + 1
    assert [row.status for row in books.pinned("select status from books.canaries order by started_at")] == ["reverted", "running"]  # fmt: skip
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert chain.broken(connection, books_audit, books.tenant_id) is None


def test_anybody_of_the_tenant_takes_p3_back_and_nothing_else(books: Deciding) -> None:
    with pytest.raises(RefusedError, match="only P3"):
        books.run(stages.demote, by="carl", at=AT, reason="odd")
    books.enable()
    made = books.run(stages.demote, by="carl", at=AT, reason="odd")
    assert made.stage == books.run(stages.current, at=AT).stage == "P2"
    assert books.run(canary.running, "autopost") is None


# Evidence.


def test_setting_up_asks_for_a_chart_people_settings_and_lines(books: Deciding) -> None:
    found = books.run(evidence.gather, "P1", at=AT)
    assert [each.name for each in found.criteria if not each.is_met] == [
        "version of the settings",
        "bank lines",
    ]
    books.run(settings.change, {}, author="operator", reason="begun", at=AT)
    books.lines(-1)
    assert books.run(evidence.gather, "P1", at=AT).is_complete


def history(books: Deciding, count: int = 520, wrong: int = 10, days: int = 120) -> None:
    """Decisions with labels that came after them, spread over days."""
    ids = []
    for part in range(4):
        on = date(2026, 2, 1) - timedelta(days=part * days // 3)
        ids += books.lines(*[-1000 - each for each in range(count // 4)], on=on)
    books.decide(ids, at=AT - MONTH)
    say = [Label(each, "6400" if place < wrong else "6300") for place, each in enumerate(ids)]
    books.run(labels.write, say, source="approve", by="ann", at=AT - timedelta(days=1))
    books.pinned(
        "insert into books.calibrators (tenant_id, version, fitted_at, window_from, window_to, method, label_count)"
        " values (:tenant_id, 'c1', :at, :before, :at, 'platt', 1)",
        at=AT - MONTH,
        before=AT - 2 * MONTH,
    )


def lacking(books: Deciding, stage: Any, outside: Outside | None = GOOD) -> list[str]:
    found = books.run(evidence.gather, stage, at=AT, outside=outside)
    return [each.name for each in found.criteria if not each.is_met]


def test_p2_is_earned_by_labelled_decisions_that_held(books: Deciding) -> None:
    assert len(lacking(books, "P2")) >= 3
    history(books)
    assert lacking(books, "P2") == []
    told = books.run(evidence.gather, "P2", at=AT, outside=GOOD)
    assert told.told["figures"]["labelled"] == 520
    assert told.told["figures"]["brier"] == pytest.approx(np.mean([0.97**2] * 10 + [0.03**2] * 510))
    text = json.dumps(told.told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert told.hash == hashlib.sha256(f"{text}\n".encode()).hexdigest()


def test_what_was_not_looked_at_is_no_evidence(books: Deciding) -> None:
    history(books)
    assert lacking(books, "P2", None) == ["invariants of the metrics", "calibration error (ECE)"]
    broken = Outside(GOOD.ece, GOOD.noise_floor, ("I2",), GOOD.reconciled)
    assert lacking(books, "P2", broken) == ["invariants of the metrics"]


def test_p2_asks_for_enough_of_enough_days(books: Deciding) -> None:
    history(books, count=480, days=60)
    assert lacking(books, "P2") == [
        "labelled decisions with a calibrated probability", "days that they are of",
    ]  # fmt: skip


def test_p3_is_earned_by_precision_at_the_threshold_and_reconciled_months(books: Deciding) -> None:
    history(books)
    assert lacking(books, "P3") == [
        "certificate of the gate", "labelled decisions at the threshold", "lower 95 % bound of their precision",
        "setting autopost_requested",
    ]  # fmt: skip
    books.certify()
    assert lacking(books, "P3") == ["setting autopost_requested"]
    books.run(settings.change, {"autopost_requested": True}, author="bob", reason="we want it", at=AT - MONTH)
    assert lacking(books, "P3") == []
    months = Outside(GOOD.ece, None, (), {"2026-01": (96, 100), "2026-02": (94, 100)})
    assert lacking(books, "P3", months) == ["reconciled in 2026-02"]
    books.run(
        labels.write,
        [Label(each, "6400") for each in [row.txn_id for row in books.pinned("select txn_id from books.decisions limit 40")]],
        source="correct", by="ann", at=AT - timedelta(hours=1),
    )  # fmt: skip
    assert "lower 95 % bound of their precision" in lacking(books, "P3")


# Watching over P3.


def audited(books: Deciding, right: int, wrong: int) -> None:
    """P3 with so many audited lines."""
    books.known()
    books.certify()
    books.run(settings.change, {"audit_percent": "100"}, author="bob", reason="all of them", at=AT - MONTH)
    books.enable(days=60)
    ids = books.lines(*[-1000] * (right + wrong))
    books.decide(ids)
    books.book()
    if right:
        books.run(review.approve, ids[:right], by="ann", at=AT + timedelta(hours=1))
    if wrong:
        accounts = dict.fromkeys(ids[right:], "6400")
        books.run(review.correct, accounts, by="ann", at=AT + timedelta(hours=1))


def looked(books: Deciding, at: Any = AT + timedelta(hours=2), **signals: Any) -> watch.Watched:
    return books.run(watch.watch, at=at, signals=Signals(**signals))


@pytest.mark.parametrize(
    ("right", "wrong", "stays"),
    [(5, 0, True), (20, 1, True), (10, 8, False), (118, 2, True), (112, 8, False)],
)
def test_audited_lines_keep_a_tenant_in_p3_or_take_it_back(
    books: Deciding, right: int, wrong: int, stays: bool
) -> None:
    audited(books, right, wrong)
    found = looked(books)
    assert (found.audited, found.right) == (right + wrong, right)
    assert (books.run(stages.current, at=AT + timedelta(hours=2)).stage == "P3") is stays
    assert stays or found.demoted_for.startswith(f"of {right + wrong} audited lines")


@pytest.mark.parametrize(
    ("signals", "why"),
    [({"psi": 0.3, "accuracy_drop": 1.0}, "lines changed"), ({"fallback_since": AT - timedelta(hours=23)}, "used up")],
)  # fmt: skip
def test_a_bad_sign_takes_it_back(books: Deciding, signals: dict, why: str) -> None:
    books.enable()
    assert why in looked(books, **signals).demoted_for
    assert looked(books).stage.stage == "P2"


@pytest.mark.parametrize("signals", [{"psi": 0.3}, {"accuracy_drop": 5.0}, {"psi": 0.2, "accuracy_drop": 5.0}, {"fallback_since": AT}])  # fmt: skip
def test_half_of_a_bad_sign_does_not(books: Deciding, signals: dict) -> None:
    books.enable()
    assert looked(books, **signals).demoted_for is None


def test_an_approval_that_ended_is_written_down(books: Deciding) -> None:
    books.enable(days=1)
    assert looked(books, AT + timedelta(days=2)).demoted_for == "the approval ended"
    assert books.run(stages.newest).stage == "P2"


@pytest.mark.parametrize(
    ("changes", "by", "why"),
    [
        ({"threshold": "0.99"}, "bob", "threshold takes 0.80 to 0.98 or none, not 0"),
        ({"threshold": "0.79"}, "bob", "threshold takes 0.80 to 0.98 or none, not 0"),
        ({"autopost_enabled": True}, "bob", "'autopost_enabled' is no setting"),
        ({"large_amount": "NaN"}, "bob", "large_amount takes 0 to"),
        ({"threshold": "0.95"}, "carl", "carl is no"),
    ],
)
def test_settings_that_cannot_be_are_refused(books: Deciding, changes: dict, by: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        books.run(settings.change, changes, author=by, reason="try", at=AT)
    assert books.run(settings.current).version == "v0"


def test_settings_are_versions_and_the_newest_holds(books: Deciding) -> None:
    books.run(settings.change, {"threshold": "0.95"}, author="bob", reason="careful", at=AT)
    held = books.run(settings.change, {"audit_percent": "5"}, author="operator", reason="more", at=AT)
    assert (held.version, str(held.settings.threshold), str(held.settings.audit_percent)) == (
        "v2",
        "0.95",
        "5",
    )
    assert books.run(settings.current) == held
