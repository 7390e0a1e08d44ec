"""Rules come to be active by people's labels and by a person, after a trial."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.books import promotion, rules
from kernel.books.contract import Opinion, Scored
from kernel.errors import RefusedError
from tests.integration.books.deciding import AT, Deciding, as_it_is, deciding


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def labelled(books: Deciding, right: int, wrong: int = 0, *, days: int = 4, vendor: str = "acme") -> None:
    ids = [
        each
        for day in range(days)
        for each in books.lines(
            *[-1000] * ((right + wrong) // days + (day < (right + wrong) % days)),
            vendor=vendor, on=date(2026, 1, 1) + timedelta(days=day),
        )
    ]  # fmt: skip
    books.said(ids[:right])
    if wrong:
        books.said(ids[right:], "6400")


def propose(books: Deciding, **given: Any) -> UUID:
    given = {"match": "exact_vendor", "pattern": "acme", "account": "6300", "by": "carl", "at": AT} | given
    return books.run(promotion.propose, **given)


def test_a_candidate_decides_nothing_until_an_approver_promotes_it(books: Deciding) -> None:
    labelled(books, 40)
    rule = propose(books)
    before = books.run(rules.load)
    assert not [each for each in before.rules if not each.is_global]
    with pytest.raises(RefusedError, match="carl is no"):
        books.run(promotion.promote, rule, by="carl", at=AT)
    books.run(promotion.promote, rule, by="ann", at=AT)
    after = books.run(rules.load)
    assert [each.account for each in after.rules if not each.is_global] == ["6300"]
    assert after.version != before.version
    with pytest.raises(RefusedError, match="is active, not candidate"):
        books.run(promotion.promote, rule, by="ann", at=AT)
    books.run(promotion.retire, rule, by="ann", at=AT)
    assert books.run(rules.load).version == before.version


@pytest.mark.parametrize(
    ("right", "wrong", "days", "flaws"),
    [
        (19, 0, 4, ["19 labelled lines", "lower bound"]),
        (35, 0, 2, ["on 2 days"]),
        (35, 0, 3, []),
        (60, 6, 4, ["lower bound", "another account has 9%"]),
        (100, 3, 4, []),
    ],
)
def test_what_labels_must_say(books: Deciding, right: int, wrong: int, days: int, flaws: list[str]) -> None:
    labelled(books, right, wrong, days=days)
    rule = propose(books)
    if not flaws:
        assert books.run(promotion.promote, rule, by="ann", at=AT).right == right
        return
    with pytest.raises(RefusedError, match="is not promoted") as refused:
        books.run(promotion.promote, rule, by="ann", at=AT)
    assert all(flaw in str(refused.value) for flaw in flaws)


def test_vendors_that_are_always_answered_alike_are_found(books: Deciding) -> None:
    labelled(books, 40)
    labelled(books, 30, 20, vendor="amazon")
    assert [(each.vendor, each.account) for each in books.run(promotion.find)] == [("acme", "6300")]
    propose(books)
    assert books.run(promotion.find) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"account": "9999"}, "account 9999"),
        ({"account": None, "category": "rent"}, "no account means rent"),
        ({"category": "rent"}, "one of the two"),
        ({"match": "regex", "pattern": "(a"}, "cannot be asked"),
        ({"conditions": {"moon": "full"}}, "condition moon"),
        ({"by": "dora"}, "does not belong"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(books: Deciding, given: dict, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        propose(books, **given)


def test_a_rule_is_there_once_until_it_is_rejected(books: Deciding) -> None:
    rule = propose(books)
    with pytest.raises(RefusedError, match="is there already"):
        propose(books, account="6400")
    books.run(promotion.reject, rule, by="ann", at=AT)
    assert propose(books, account="6400") != rule


def test_a_category_is_what_the_chart_maps_it_to(books: Deciding) -> None:
    books.pinned("update books.accounts set category = 'supplies' where code = '6300'")
    labelled(books, 40)
    rule = propose(books, account=None, category="supplies")
    books.run(promotion.promote, rule, by="ann", at=AT)
    before = books.run(rules.load)
    books.pinned("update books.accounts set category = 'other' where code = '6300'")
    books.pinned("update books.accounts set category = 'supplies' where code = '6400'")
    after = books.run(rules.load)
    assert [each.account for each in after.rules if not each.is_global] == ["6400"]
    assert after.version != before.version


def test_a_trial_tells_what_would_change_and_changes_nothing(books: Deciding) -> None:
    labelled(books, 40)
    books.certify("0.95")
    ids = books.lines(*[-1000] * 5)
    books.decide(ids, p=0.9)
    rule = propose(books)
    logged = books.pinned("select count(*) as n from books.decisions")
    told = books.run(promotion.try_out, rule, at=AT, surety=as_it_is)
    assert (told.before.passed, told.after.passed) == (0, 5)
    assert dict(told.before.reasons) == {"below_threshold": 5}
    assert set(told.affected) == set(ids)
    assert (told.support.right, told.warnings) == (40, ())
    assert books.pinned("select count(*) as n from books.decisions") == logged


def test_a_trial_warns_of_a_rule_that_takes_lines_from_many_accounts(books: Deciding) -> None:
    for number, account in enumerate(("6400", "4000", "2100", "1010")):
        ids = books.lines(*[-1000 - number] * 4)
        books.decide(ids, account, 0.4)
    told = books.run(promotion.try_out, propose(books), at=AT)
    assert [each.split(":")[0] for each in told.warnings] == ["SYSTEMATIC_RECLASSIFICATION"]


def test_a_trial_hears_what_a_language_model_said_when_lines_were_decided(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    nothing = [Scored(line, None, 0.0, (), True, "f", "m1")]
    books.decide([line], modelled=nothing, opinions={line: Opinion("llm", "6300")})
    assert books.run(promotion.try_out, propose(books), at=AT).affected == ()
